#include "tests/experiments/synthetic_run.h"

#include <ftw.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "autograd/base/file.h"
#include "experiments/metrics.h"
#include "experiments/summary.h"

const char synthetic_hostile[] =
    "</pre></div></script><script>alert(1)</script><img src=x onerror=alert(1)> \" ' & ]]> --> "
    "&lt;b&gt; \x01\x7f\xff\xfe \xe2\x80\xae txet desrever \xe2\x80\xac \xef\xbf\xbf "
    "\xd7\xa9\xd7\x9c\xd7\x95\xd7\x9d \xf0\x9f\x8c\xb9 "
    "averyverylongwordwithoutanyspacethatgoesonandonandonandonandonandonandonandonandonandonandon";

static const char config[] =
    "name: quickstart\nseed: 1\ndata:  {corpus: bible-kjv, tokenizer: {type: bpe, vocab_size: "
    "2048}}\n"
    "model: {arch: llama, n_layers: 4, d_model: 256, n_heads: 4, n_kv_heads: 2, d_ff: 768}\n"
    "stages:\n  - pretrain: {tokens: 5M, batch_tokens: 8Ki, lr: 3e-3} # <b>&\n";

/* A number in [-1, 1) that looks random. */
static double noise(uint64_t i)
{
    i = (i + 1) * 0x9e3779b97f4a7c15u;
    i = (i ^ i >> 30) * 0xbf58476d1ce4e5b9u;
    i = (i ^ i >> 27) * 0x94d049bb133111ebu;
    return (double)(int32_t)(i >> 32) / 0x1p31;
}

static double loss_at(double t, double from)
{
    return 2.4 + (from - 2.4) * (0.6 * exp(-40 * t) + 0.4 * exp(-3 * t));
}

static int write_step(struct metrics *m, int step, int steps, double from, bool terms)
{
    const double t = (double)step / steps, warm = fmin(1, t / 0.05);
    const double ce = loss_at(t, from) + 0.12 * noise((uint64_t)step) + (step == steps / 3 ? 2 : 0);
    const double kl = 0.5 * exp(-2 * t) + 0.03 * noise((uint64_t)step + 7);
    const struct metrics_term term[] = {{"cross_entropy", ce}, {"kl", kl}};
    const struct metrics_step s = {
        .step = step,
        .loss = terms ? (double)(float)(0.5 * (ce + kl)) : (double)(float)ce,
        .lr = 3e-3 * warm * (0.55 + 0.45 * cos(3.14159265 * t)),
        .grad_norm = exp(0.8 * exp(-10 * t) + 0.3 * noise((uint64_t)step + 99)) *
                     (step == steps / 3 ? 40 : 1),
        .tokens = (int64_t)step * 8192,
        .tokens_per_s = 11200 * (1 + 0.04 * noise((uint64_t)step + 5)) * (step % 97 ? 1 : 0.6),
        .time = step * 0.73,
        .term = term,
        .n_terms = terms ? 2 : 0,
    };
    return metrics_step(m, &s);
}

static int write_log(struct metrics *m, int steps, int until, double from, bool terms)
{
    static const char *const tale[] = {
        "ofnd th the aitn eha,", " the of the and of the LORD,",
        " God said unto the children of Israel, and",
        " God created the heaven and the earth.\nAnd the earth was void"};
    const int every = steps / 6 > 0 ? steps / 6 : 1;
    for (int step = 1; step <= until; step++) {
        if (write_step(m, step, steps, from, terms))
            return -1;
        if (step % every)
            continue;
        const double v = loss_at((double)step / steps, from) + 0.08;
        const struct metrics_valid valid = {step, v, 40000, 108000, step * 0.73, NULL};
        const char *text = tale[step / every < 3 ? step / every : 3];
        if (metrics_valid(m, &valid) ||
            metrics_sample(m, step, "In the beginning", text, strlen(text)) ||
            metrics_event(m, step, "save", "checkpoint.h5"))
            return -1;
    }
    return 0;
}

static int put(const char *folder, const char *name, const char *text)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return file_replace(path, text, strlen(text));
}

static int write_pretrain(const char *folder, int steps)
{
    struct metrics m;
    struct summary s;
    char path[600];
    snprintf(path, sizeof path, "%s/metrics.jsonl", folder);
    if (metrics_open(&m, path, -1) || write_log(&m, steps, steps, 7.6, false) ||
        metrics_event(&m, steps / 2, "resume", "from checkpoint.h5 of step %d", steps / 2) ||
        metrics_event(&m, steps, "warning", "%s", synthetic_hostile) ||
        metrics_sample(&m, steps, "<b>In the</b>", synthetic_hostile, strlen(synthetic_hostile)) ||
        metrics_close(&m))
        return -1;
    const struct summary_fact fact[] = {{"Documents", "1,189"},
                                        {"Bytes per token", "2.71"},
                                        {"arena bytes", "80194624"},
                                        {"scales bytes", "0"},
                                        {"FLOPs a step", "4831838208"},
                                        {"seconds to the first step", "0.813"}};
    summary_init(&s);
    s.stage = s.kind = "pretrain";
    s.steps = steps;
    s.tokens = (int64_t)steps * 8192;
    s.seconds = steps * 0.73;
    s.parameters = 3146240;
    s.model = "llama: 6 layers, 192 wide";
    s.corpus = "<essays>: 1,091,301 tokens to train on";
    s.trained = "all 3,146,240 parameters";
    s.train_loss = 2.47;
    s.version = "0.1.0";
    s.seed = 1;
    s.started = "2026-11-22T15:00:00Z";
    s.finished = "2026-11-22T15:07:18Z";
    s.fact = fact;
    s.n_facts = sizeof fact / sizeof *fact;
    summary_machine(&s);
    snprintf(path, sizeof path, "%s/summary.json", folder);
    return summary_write(&s, path) || put(folder, "config.yaml", config) ? -1 : 0;
}

/* It died while it wrote a line. */
static int write_qat(const char *folder, int steps)
{
    struct metrics m;
    struct buf log = {0};
    char path[600];
    snprintf(path, sizeof path, "%s/metrics.jsonl", folder);
    if (metrics_open(&m, path, -1) || write_log(&m, steps, steps / 3 + 20, 3, true) ||
        metrics_step(&m, &(struct metrics_step){.step = steps / 3 + 21, .loss = NAN}) ||
        metrics_close(&m) || file_read(path, 1 << 24, &log))
        return -1;
    buf_text(&log, "{\"step\":99999,\"lo");
    const int rc = log.failed ? -1 : file_replace(path, log.p, log.n);
    buf_free(&log);
    return rc;
}

static int write_evaluate(const char *folder)
{
    struct summary s;
    char path[600];
    const struct summary_row row[] = {
        {"pretrain", 2.51, exp(2.51), 1.3412, NAN, NAN, 40000, 12584960, NAN},
        {"pretrain@q3_k_m", 2.74, exp(2.74), 1.4641, 0.21, 0.004, 40000, 1698000, NAN},
        {"qat <script>", 2.55, exp(2.55), 1.3626, 0.044, 0.001, 40000, 1698000, 2.5487},
    };
    summary_init(&s);
    s.stage = "scores";
    s.kind = "evaluate";
    s.seconds = 8.4;
    s.row = row;
    s.n_rows = 3;
    snprintf(path, sizeof path, "%s/summary.json", folder);
    return summary_write(&s, path);
}

int synthetic_run_write(const char *folder, int steps)
{
    static const char *const stage[] = {"01-pretrain", "02-qat", "10-scores"};
    char path[3][256];
    for (int i = 0; i < 3; i++) {
        snprintf(path[i], sizeof path[i], "%s/%s", folder, stage[i]);
        if (mkdir(path[i], 0777))
            return err("%s: cannot be made", path[i]);
    }
    return write_pretrain(path[0], steps) || write_qat(path[1], steps) || write_evaluate(path[2]) ||
                   put(folder, "config.yaml", config)
               ? -1
               : 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

void synthetic_run_remove(const char *folder)
{
    nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

char synthetic_folder[64], synthetic_run[128];

int synthetic_run_setup(void **state)
{
    (void)state;
    strcpy(synthetic_folder, "/tmp/attar-report-XXXXXX");
    if (!mkdtemp(synthetic_folder))
        return -1;
    snprintf(synthetic_run, sizeof synthetic_run, "%s/quick & <dirty>", synthetic_folder);
    return mkdir(synthetic_run, 0777);
}

int synthetic_run_teardown(void **state)
{
    (void)state;
    synthetic_run_remove(synthetic_folder);
    return 0;
}

void synthetic_run_put(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", synthetic_run, name);
    assert_int_equal(file_replace(path, text, strlen(text)), 0);
}

void synthetic_run_make(const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", synthetic_run, name);
    assert_int_equal(mkdir(path, 0777), 0);
}
