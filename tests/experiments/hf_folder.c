/* Models that transformers saved (tests/golden/import), in folders of a test's own. */
#include "tests/experiments/hf_folder.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "datasets/tokenizer.h"
#include "tests/datasets/scratch.h"

enum { N = 24, ROWS = 3, PATH = 512 };

const char *hf_golden(const char *folder, const char *file)
{
    static char path[PATH];
    snprintf(path, sizeof path, "tests/golden/import/%s/%s", folder, file);
    return path;
}

double hf_distance(struct transformer *m, const char *folder)
{
    static const int row[ROWS] = {5, 14, 23};
    int32_t tok[N], pos[N];
    size_t bytes;
    const float *want = (void *)scratch_read(hf_golden(folder, "logits.f32"), &bytes);
    for (int i = 0; i < N; i++) {
        tok[i] = (37 * i + 11) % 250;
        pos[i] = i;
    }
    const struct sequence seq = {.len = N};
    const struct batch b = {.n = N, .tok = tok, .pos = pos, .seqs = &seq, .n_seqs = 1};
    struct ctx ctx;
    assert_int_equal(ctx_init(&ctx, 32 << 20), 0);
    const struct tensor *t = transformer_logits(&ctx, m, transformer_forward(&ctx, m, &b), 0, N);
    if (!t)
        fail_msg("%s", ctx.text);
    const int64_t V = m->dims.vocab;
    assert_int_equal(bytes, ROWS * (size_t)V * sizeof *want);
    double diff = 0, sum = 0;
    for (int r = 0; r < ROWS; r++)
        for (int64_t v = 0; v < V; v++) {
            const double x = (double)want[r * V + v];
            diff += pow(x - (double)((const float *)t->data)[row[r] * V + v], 2);
            sum += x * x;
        }
    ctx_free(&ctx);
    free((void *)want);
    return sqrt(diff / sum);
}

void hf_copy(const char *from, const char *to)
{
    size_t n;
    char *bytes = scratch_read(from, &n);
    scratch_write(to, bytes, n);
    free(bytes);
}

const char *hf_copied(void *state, const char *name)
{
    static const char *const files[] = {"config.json",
                                        "model.safetensors",
                                        "model.safetensors.index.json",
                                        "model-00001-of-00003.safetensors",
                                        "model-00002-of-00003.safetensors",
                                        "model-00003-of-00003.safetensors"};
    const char *folder = scratch_path(state, name);
    char path[PATH];
    assert_int_equal(mkdir(folder, 0777), 0);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct stat st;
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        if (!stat(hf_golden(name, files[i]), &st))
            hf_copy(hf_golden(name, files[i]), path);
    }
    struct tokenizer *t = tokenizer_new_byte();
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    assert_int_equal(tokenizer_save(t, path), 0);
    tokenizer_free(t);
    return folder;
}

const char *hf_in(const char *folder, const char *file)
{
    static char path[PATH];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    return path;
}

void hf_replace(const char *path, const char *what, const char *by)
{
    size_t n;
    char *bytes = scratch_read(path, &n), *at = memmem(bytes, n, what, strlen(what));
    if (!at)
        fail_msg("%s: no %s", path, what);
    struct buf b = {0};
    buf_add(&b, bytes, (size_t)(at - bytes));
    buf_text(&b, by);
    buf_add(&b, at + strlen(what), n - (size_t)(at - bytes) - strlen(what));
    scratch_write(path, b.p, b.n);
    buf_free(&b);
    free(bytes);
}
