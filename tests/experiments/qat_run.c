#include "tests/experiments/qat_run.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "datasets/h5file.h"
#include "experiments/checkpoint.h"
#include "experiments/metrics.h"
#include "tests/datasets/scratch.h"
#include "tests/experiments/same_run.h"
#include "tests/experiments/spawn.h"

static const char config[] = "name: t\n"
                             "data:\n"
                             "  corpus: text.txt\n"
                             "  tokenizer: {type: byte}\n"
                             "  valid_fraction: 20%\n"
                             "model:\n"
                             "  n_layers: 1\n"
                             "  d_model: 256\n"
                             "  n_heads: 2\n"
                             "  d_ff: 256\n"
                             "  context: 32\n"
                             "stages:\n";

static const char *folder;
static void *pretrained; // scratch of the run whose first stage is that of all others

static int begin(void **state, const char *stages)
{
    if (scratch_setup(state))
        return -1;
    folder = scratch_folder(*state);
    same_run_text(scratch_path(*state, "text.txt"), 40, 3);
    qat_run_stages(*state, "t.yaml", stages);
    return 0;
}

int qat_run_pretrain(void **state)
{
    (void)state;
    return begin(&pretrained, QAT_RUN_PRETRAIN) || spawn_run(folder, "run t.yaml") ? -1 : 0;
}

int qat_run_clean(void **state)
{
    (void)state;
    return scratch_teardown(&pretrained);
}

int qat_run_setup(void **state, const char **path)
{
    if (begin(state, QAT_RUN_STAGES))
        return -1;
    *path = folder;
    return 0;
}

void qat_run(const char *name, const char *options)
{
    char args[400], stage[600], own[100];
    mkdir(qat_run_at("runs"), 0777);
    snprintf(own, sizeof own, "runs/%s", name);
    mkdir(qat_run_at(own), 0777);
    snprintf(own, sizeof own, "runs/%s/01-pretrain", name);
    snprintf(stage, sizeof stage, "%s/runs/t/01-pretrain", scratch_folder(pretrained));
    assert_true(!symlink(stage, qat_run_at(own)) || errno == EEXIST);
    snprintf(args, sizeof args, "run t.yaml name=%s%s%s", name, *options ? " " : "", options);
    spawn_expect(folder, 0, args);
}

const char *qat_run_at(const char *name)
{
    static char paths[4][600];
    static int i;
    char *path = paths[i = (i + 1) % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

void qat_run_stages(void *scratch, const char *name, const char *stages)
{
    char text[1500];
    snprintf(text, sizeof text, "%s%s", config, stages);
    scratch_text(scratch_path(scratch, name), text);
}

void qat_run_next(void *scratch, const char *name, const char *tokenizer, const char *stages)
{
    char text[1500], file[64];
    snprintf(text, sizeof text,
             "name: %s\n"
             "data:\n"
             "  corpus: text.txt\n"
             "  tokenizer: {type: file, path: %s}\n"
             "  valid_fraction: 20%%\n"
             "stages:\n%s",
             name, tokenizer, stages);
    snprintf(file, sizeof file, "%s.yaml", name);
    scratch_text(scratch_path(scratch, file), text);
}

void qat_run_turn_back(const char *stage, int step)
{
    static const char *const kept[] = {"checkpoint.h5", "metrics.jsonl"};
    char path[4096];
    mkdir(qat_run_at(QAT_RUN_UNBROKEN), 0777);
    for (int i = 0; i < 2; i++) {
        size_t n;
        snprintf(path, sizeof path, "%s/%s", qat_run_at(stage), kept[i]);
        char *bytes = scratch_read(path, &n);
        snprintf(path, sizeof path, "%s/%s", qat_run_at(QAT_RUN_UNBROKEN), kept[i]);
        scratch_write(path, bytes, n);
        free(bytes);
    }
    for (int s = step + 1; s <= 20; s++) {
        checkpoint_name(path, qat_run_at(stage), s);
        remove(path);
    }
    snprintf(path, sizeof path, "%s/summary.json", qat_run_at(stage));
    assert_int_equal(remove(path), 0);
}

void *qat_run_dataset(const char *stage, const char *name, size_t *bytes)
{
    struct h5file *f;
    struct h5shape s;
    char path[4096];
    void *x = NULL;
    checkpoint_name(path, qat_run_at(stage), -1);
    if (h5file_open(&f, path))
        fail_msg("%s", err_text());
    if (h5file_has(f, name)) {
        if (h5file_shape(f, name, &s))
            fail_msg("%s", err_text());
        *bytes = (size_t)s.n * (s.type == H5_U8 ? 1 : sizeof(float));
        x = malloc(*bytes);
        assert_int_equal(h5file_read(f, name, s.type, s.ndim, s.dim, x), 0);
    }
    h5file_close(f);
    return x;
}

uint8_t *qat_run_blocks(const char *stage, size_t *bytes)
{
    uint8_t *x = qat_run_dataset(stage, "blocks/blk.0.ffn_up.weight", bytes);
    assert_non_null(x);
    return x;
}

void qat_run_refused(const char *args, const char *says)
{
    char command[300];
    snprintf(command, sizeof command, "check t.yaml %s", args);
    spawn_expect(folder, 1, command);
    spawn_says(folder, says);
}

static int divergence(void *arg, int64_t step, const json_t *line)
{
    struct qat_course *c = arg;
    const double kl = metrics_number(line, "kl");
    if (!isnan(kl) && step == 1)
        c->first = kl;
    if (!isnan(kl) && step >= c->from)
        c->last = kl + (isnan(c->last) ? 0 : c->last);
    return 0;
}

struct qat_course qat_run_course(const char *stage, int64_t from)
{
    struct qat_course c = {from, NAN, NAN};
    char path[300];
    snprintf(path, sizeof path, "runs/%s/metrics.jsonl", stage);
    assert_int_equal(metrics_read(qat_run_at(path), divergence, &c), 0);
    return c;
}
