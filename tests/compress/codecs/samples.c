#include "tests/compress/codecs/samples.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/rng.h"
#include "compress/codecs/codecs.h"
#include "compress/gguf.h"

static void gaussian(float *x)
{
    for (int j = 0; j < SAMPLES_COLS; j++)
        x[j] *= 0.02f;
}

static void constant(float *x)
{
    for (int j = 1; j < SAMPLES_COLS; j++)
        x[j] = x[j / 256 * 256];
}

static void zero(float *x)
{
    memset(x, 0, SAMPLES_COLS * sizeof *x);
}

static void outlier(float *x)
{
    for (int j = 0; j < SAMPLES_COLS; j += 97)
        x[j] *= 300;
}

static void shifted(float *x) // far from 0, on either side, as a min cannot be
{
    for (int j = 0; j < SAMPLES_COLS; j++)
        x[j] = x[j] * 0.01f + (j / 256 % 2 ? 3.0f : -3.0f);
}

static void heavy(float *x) // of tails
{
    for (int j = 0; j < SAMPLES_COLS; j++)
        x[j] = x[j] * x[j] * x[j] * 0.01f;
}

static void sparse(float *x)
{
    for (int j = 0; j < SAMPLES_COLS; j++)
        x[j] = x[j] > 1.5f ? x[j] : j % 5 ? 0 : -0.0f;
}

static void ternary(float *x)
{
    for (int j = 0; j < SAMPLES_COLS; j++)
        x[j] = x[j] > 0.5f ? 0.0371f : x[j] < -0.5f ? -0.0371f : 0;
}

static void tiny(float *x) // about the smallest scales of f16, and down to subnormals of f32
{
    for (int j = 0; j < SAMPLES_COLS; j++)
        x[j] *= ldexpf(1, -16 - 30 * (j / 256));
}

static void huge(float *x)
{
    for (int j = 0; j < SAMPLES_COLS; j++)
        x[j] *= ldexpf(1, 10 + 28 * (j / 256));
}

static void mixed(float *x) // sub-blocks of very different sizes
{
    for (int j = 0; j < SAMPLES_COLS; j++)
        x[j] *= ldexpf(1, -(j / 16 * 7 % 23));
}

static void odd(float *x) // not numbers
{
    for (int j = 0; j < SAMPLES_COLS; j += 61)
        x[j] = j % 3 ? NAN : j % 2 ? INFINITY : -INFINITY;
}

static void constants(float *x) // of either sign, by sub-block
{
    for (int j = 0; j < SAMPLES_COLS; j++)
        x[j] = 0.03f * x[j / 16 * 16];
}

static void positive(float *x) // constants of one sign, which change by block
{
    for (int j = 0; j < SAMPLES_COLS; j++)
        x[j] = copysignf(x[j / 16 * 16], j / 256 % 2 ? -1 : 1);
}

static void nearly(float *x) // constant, spread by 1e-4, 1e-3, 5e-3, 2e-2, 5e-2 by block
{
    static const float spread[] = {1e-4f, 1e-3f, 5e-3f, 2e-2f, 5e-2f};
    const float sign = x[0] < 0 ? -0.01f : 0.01f;
    for (int j = 0; j < SAMPLES_COLS; j++)
        x[j] = sign * (1 + spread[j / 256 % 5] * fmaxf(-1, fminf(x[j], 1)));
}

static void lonely(float *x) // one weight of a block, the others 0
{
    for (int j = 0; j < SAMPLES_COLS; j++)
        x[j] = j % 256 == j / 256 * 37 ? x[j] : 0;
}

static void one_sided(float *x)
{
    for (int j = 0; j < SAMPLES_COLS; j++)
        x[j] = copysignf(x[j], j / 256 % 2 ? -1 : 1);
}

static void some_constant(float *x) // sub-blocks of 32 among draws
{
    for (int j = 0; j < SAMPLES_COLS; j++)
        x[j] = j / 32 % 3 ? x[j] : fabsf(x[j / 32 * 32]) + 1e-4f * x[j];
}

static const struct {
    const char *name;
    void (*make)(float *x); // from normal draws
} kinds[] = {
    {"gaussian", gaussian},   {"constant", constant},   {"zero", zero},
    {"outlier", outlier},     {"shifted", shifted},     {"heavy", heavy},
    {"sparse", sparse},       {"ternary", ternary},     {"tiny", tiny},
    {"huge", huge},           {"mixed", mixed},         {"odd", odd},
    {"constants", constants}, {"positive", positive},   {"nearly constant", nearly},
    {"lonely", lonely},       {"one-sided", one_sided}, {"some constant", some_constant},
};

bool samples_row(int kind, int i, const char **name, float *x)
{
    if (kind >= (int)(sizeof kinds / sizeof *kinds))
        return false;
    rng_normal((uint64_t)(kind * 1000 + i), 1, x, SAMPLES_COLS);
    kinds[kind].make(x);
    *name = kinds[kind].name;
    return true;
}

void samples_importance(int i, float *w)
{
    rng_normal((uint64_t)i + 1000000, 1, w, SAMPLES_COLS);
    for (int j = 0; j < SAMPLES_COLS; j++)
        w[j] = j % 41 == 5 ? 0 : expf(w[j]);
}

float *samples_trained(const char *tensor, int64_t *rows, int64_t *cols)
{
    char path[1024];
    const char *folder = getenv("ATTAR_DATA");
    struct gguf g;
    snprintf(path, sizeof path, "%s/kjv-5m-f16.gguf",
             folder && *folder ? folder : "../shared/data");
    FILE *there = fopen(path, "rb");
    if (!there) {
        print_message("%s is absent: skipped\n", path);
        return NULL;
    }
    fclose(there);
    assert_int_equal(gguf_open(&g, path), 0);
    const struct gguf_tensor *from = gguf_tensor(&g, tensor);
    assert_non_null(from);
    *rows = (int64_t)from->dim[1];
    *cols = (int64_t)from->dim[0];
    struct tensor t = {.dt = codecs_by_id(from->type_id), .nd = 2, .dim = {*rows, *cols}};
    t.data = malloc((size_t)from->bytes);
    memcpy(t.data, from->data, (size_t)from->bytes);
    float *x = malloc((size_t)(*rows * *cols) * sizeof *x);
    for (int64_t r = 0; r < *rows; r++)
        t.dt->decode(&t, r, x + r * *cols);
    free(t.data);
    gguf_close(&g);
    return x;
}

struct tensor samples_tensor(const struct dtype *dt, int64_t rows, int64_t cols)
{
    struct tensor t = {.dt = dt, .nd = 2, .dim = {rows, cols}};
    t.data = calloc(1, tensor_bytes(&t));
    return t;
}

void samples_free(struct tensor *t)
{
    free(t->data);
    t->data = NULL;
}
