#include "experiments/run.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "autograd/base/cpu.h"
#include "autograd/base/file.h"
#include "autograd/base/mem.h"
#include "autograd/kernels/gemm.h"
#include "datasets/corpus_build.h"
#include "experiments/cmd.h"
#include "experiments/interrupt.h"
#include "experiments/metrics.h"
#include "experiments/model_tokenizer.h"
#include "experiments/preflight.h"
#include "experiments/progress.h"
#include "experiments/run_change.h"

/* ---- folders ---- */

void run_stage_path(const struct run *r, int stage, const char *file, char path[RUN_PATH])
{
    snprintf(path, RUN_PATH, "%.3500s/%02d-%.64s%s%.400s", r->folder, stage + 1,
             r->config->stages[stage].name, *file ? "/" : "", file);
}

void run_stage_model(const struct run *r, int stage, char path[RUN_PATH])
{
    run_stage_path(r, stage, "checkpoint.h5", path);
}

static int make_folders(const char *path)
{
    char part[RUN_PATH];
    snprintf(part, sizeof part, "%s", path);
    for (char *c = part + 1;; c++) {
        if (*c && *c != '/')
            continue;
        const char kept = *c;
        *c = 0;
        if (mkdir(part, 0777) && errno != EEXIST)
            return err("%s: %s", part, strerror(errno));
        if (!(*c = kept))
            return 0;
    }
}

/* 1: there is no folder. */
static int take_lock(struct run *r)
{
    char path[RUN_PATH];
    snprintf(path, sizeof path, "%.4000s/lock", r->folder);
    r->lock = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0666);
    if (r->lock < 0)
        return errno == ENOENT ? 1 : err("%s: %s", path, strerror(errno));
    if (!flock(r->lock, LOCK_EX | LOCK_NB))
        return 0;
    return errno == EWOULDBLOCK ? err("%s: another process is running it", r->folder)
                                : err("%s: %s", path, strerror(errno));
}

/* A run that is there gets the first free name NAME.1, NAME.2, ...: nothing is lost. */
static int move_aside(struct run *r)
{
    char to[RUN_PATH + 16];
    const int lock = take_lock(r);
    if (lock)
        return lock < 0 ? -1 : 0;
    for (int i = 1; i < 10000; i++) {
        snprintf(to, sizeof to, "%s.%d", r->folder, i);
        const int taken = file_exists(to);
        if (taken < 0)
            return -1;
        if (taken)
            continue;
        if (rename(r->folder, to))
            return err("%s: cannot be renamed to %s: %s", r->folder, to, strerror(errno));
        fprintf(stderr, "the earlier run is now %s\n", to);
        close(r->lock);
        r->lock = -1;
        return 0;
    }
    return err("%s: there are too many earlier runs beside it; remove some", r->folder);
}

/* The lock of the folder that has the name now, not of one that has just moved aside. */
static int make_and_lock(struct run *r)
{
    for (int tries = 0; tries < 100; tries++) {
        struct stat mine, named;
        char path[RUN_PATH];
        if (make_folders(r->folder))
            return -1;
        const int rc = take_lock(r);
        if (rc < 0)
            return -1;
        snprintf(path, sizeof path, "%.4000s/lock", r->folder);
        if (!rc && !fstat(r->lock, &mine) && !stat(path, &named) && mine.st_ino == named.st_ino)
            return 0;
        if (!rc)
            close(r->lock);
    }
    return err("%s: another process keeps moving it aside", r->folder);
}

/* ---- the corpus ---- */

void run_corpus_spec(const struct config *c, struct corpus_spec *spec)
{
    static const enum corpus_tokenizer kinds[] = {[TOKENIZER_BYTE] = CORPUS_BYTE,
                                                  [TOKENIZER_BPE] = CORPUS_BPE,
                                                  [TOKENIZER_FILE] = CORPUS_FILE};
    static const enum corpus_special special[] = {[PAIRS_FALSE] = CORPUS_SPECIAL_NONE,
                                                  [PAIRS_TRUE] = CORPUS_SPECIAL_ALL,
                                                  [PAIRS_ALONE] = CORPUS_SPECIAL_PAIRS};
    const struct config_data *d = &c->data;
    *spec = (struct corpus_spec){
        .source = d->corpus.value,
        .n_sources = (size_t)d->corpus.n,
        .sha256 = d->sha256,
        .split_on = d->split_on,
        .text_key = d->text_key,
        .parse_special = special[d->parse_special],
        .valid = d->valid == VALID_TAIL ? SPLIT_TAIL : SPLIT_HASH,
        .valid_fraction = d->valid_fraction,
        .seed = (uint64_t)c->seed,
        .tokenizer = kinds[d->tokenizer.type],
        .vocab_size = (int)d->tokenizer.vocab_size,
        .pre = d->tokenizer.type == TOKENIZER_BPE ? config_pre_names[d->tokenizer.pre] : NULL,
        .tokenizer_path = d->tokenizer.path,
        .context = c->model.context,
        .base_dir = c->folder,
        .cache_dir = "data",
    };
}

void run_stage_spec(const struct config *c, int stage, struct corpus_spec *spec)
{
    const struct config_finetune *f = &c->stages[stage].finetune;
    run_corpus_spec(c, spec);
    if (c->stages[stage].kind != STAGE_FINETUNE)
        return;
    spec->source = &f->data;
    spec->n_sources = 1;
    spec->sha256 = NULL;
    spec->prompt_key = f->prompt_key;
    spec->completion_key = f->completion_key;
}

enum loader_documents run_documents(const struct config *c, bool has_pairs)
{
    const int mask = c->data.mask_documents;
    return mask == PAIRS_TRUE                 ? LOADER_MASKED
           : mask == PAIRS_ALONE && has_pairs ? LOADER_WHOLE
                                              : LOADER_JOINED;
}

static int building(void *arg, const char *what, int64_t done, int64_t total)
{
    struct progress *p = arg;
    (void)what;
    progress_update(p, (double)done, (double)total, "B");
    return interrupt_flag;
}

static void say_files(void *arg, const char *text)
{
    progress_clear(arg);
    fprintf(stderr, "corpus: %s\n", text);
}

/* A tokenizer's file may be one that only this folder reads: it goes on as its text. */
static int read_tokenizer(struct corpus_spec *spec, struct buf *json)
{
    struct buf path = {0};
    if (*spec->tokenizer_path != '/' && strcmp(spec->base_dir, "."))
        buf_printf(&path, "%s/", spec->base_dir);
    buf_text(&path, spec->tokenizer_path);
    struct tokenizer *t = path.failed ? NULL : model_tokenizer(path.p);
    const int rc = t ? tokenizer_write(t, json) : err_in("tokenizer");
    tokenizer_free(t);
    buf_free(&path);
    spec->tokenizer = CORPUS_JSON;
    spec->tokenizer_json = json->p;
    spec->n_tokenizer_json = json->n;
    return rc;
}

int run_open_corpus(const struct corpus_spec *wanted, struct corpus *c)
{
    struct buf path = {0}, json = {0};
    struct corpus_spec own = *wanted;
    const struct corpus_spec *spec = &own;
    struct progress progress;
    if (own.tokenizer == CORPUS_FILE && read_tokenizer(&own, &json)) {
        buf_free(&json);
        return -1;
    }
    progress_open(&progress, 2, "corpus");
    int rc = corpus_build(spec, &(struct corpus_progress){building, &progress, say_files}, &path);
    progress_close(&progress);
    rc = rc || corpus_open(c, path.p) ? -1 : 0;
    buf_free(&path);
    buf_free(&json);
    return rc;
}

static int open_corpus(struct run *r)
{
    struct corpus_spec spec;
    run_corpus_spec(r->config, &spec);
    if (run_open_corpus(&spec, &r->corpus))
        return -1;
    r->tok = corpus_tokenizer(&r->corpus);
    if (!r->tok || tokenizer_write(r->tok, &r->tokenizer_json))
        return -1;
    const struct corpus_part *t = &r->corpus.part[CORPUS_TRAIN], *v = &r->corpus.part[CORPUS_VALID];
    fprintf(
        stderr,
        "corpus: %lld + %lld tokens (training + validation) in %lld + %lld documents, %.3f bytes "
        "a token\n",
        (long long)t->tokens, (long long)v->tokens, (long long)t->documents,
        (long long)v->documents, (double)(t->bytes + v->bytes) / (double)(t->tokens + v->tokens));
    return 0;
}

/* ---- all stages ---- */

int run_summary(const struct run *r, int stage, struct summary *s)
{
    char path[RUN_PATH], finished[32];
    metrics_now(finished);
    s->stage = r->config->stages[stage].name;
    s->kind = config_kinds[r->config->stages[stage].kind].name;
    s->version = CMD_VERSION;
    s->seed = r->config->seed;
    s->finished = finished;
    summary_machine(s);
    run_stage_path(r, stage, "summary.json", path);
    return summary_write(s, path);
}

static int (*const stage_runs[])(struct run *r, int stage) = {
    [STAGE_PRETRAIN] = stage_train,    [STAGE_FINETUNE] = stage_train, [STAGE_QAT] = stage_train,
    [STAGE_EVALUATE] = stage_evaluate, [STAGE_EXPORT] = stage_export,
};

/* 1: the stage has its summary; 0: it has none; -1: it cannot be read. */
static int is_done(const struct run *r, int stage)
{
    char path[RUN_PATH];
    struct summary s;
    run_stage_path(r, stage, "summary.json", path);
    const int there = file_exists(path);
    if (there <= 0)
        return there;
    if (summary_read(&s, path))
        return err_is_damage()
                   ? err_in("a damaged summary (remove it, and the same command writes it again)")
                   : -1;
    summary_free(&s);
    return 1;
}

static int run_stages(struct run *r)
{
    int done = 0;
    for (int i = 0; i < r->config->n_stages; i++) {
        char path[RUN_PATH];
        const int is = is_done(r, i);
        if (is < 0)
            return -1;
        if (is) {
            done++;
            continue;
        }
        if (!r->tok && open_corpus(r))
            return interrupt_flag ? RUN_STOPPED : -1;
        run_stage_path(r, i, "", path);
        if (make_folders(path))
            return -1;
        const int rc = stage_runs[r->config->stages[i].kind](r, i);
        if (rc)
            return rc < 0 ? err_in("stage %s", r->config->stages[i].name) : rc;
    }
    if (done == r->config->n_stages)
        printf("%s is finished; --fresh starts over\n", r->folder);
    return RUN_DONE;
}

int run_all(const struct config *config, bool fresh)
{
    struct run r = {.config = config, .lock = -1};
    if (snprintf(r.folder, sizeof r.folder, "%s/%s", config->out, config->name) > 3000)
        return err("out: the path is too long");
    config_write(config, &r.yaml);
    static struct preflight found; // large
    int rc = r.yaml.failed || preflight(config, fresh, &found) ? -1 : 0;
    if (!rc && fresh)
        rc = move_aside(&r);
    if (!rc)
        rc = make_and_lock(&r) || run_change(&r) ? -1 : 0;
    if (!rc) {
        fprintf(stderr, "%s: %s, %s\n", r.folder, cpu_name(), gemm_describe());
        rc = run_stages(&r);
    }
    if (r.lock >= 0)
        close(r.lock);
    corpus_close(&r.corpus);
    tokenizer_free(r.tok);
    buf_free(&r.tokenizer_json);
    buf_free(&r.yaml);
    return rc;
}
