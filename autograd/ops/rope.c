#include "autograd/ops/rope.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/mem.h"

double rope_frequency(const struct rope_args *a, int i)
{
    const double pi = 3.14159265358979323846;
    const double f = pow(a->base, -2.0 * i / a->head_dim);
    if (a->scaling == ROPE_SCALING_LINEAR)
        return f / a->factor;
    if (a->scaling == ROPE_SCALING_TABLE)
        return f / (double)a->divisor[i];
    if (a->scaling != ROPE_SCALING_LLAMA3)
        return f;
    // Llama 3.1: by the wavelength in units of the original context
    const double turns = a->original_context * f / (2 * pi);
    if (turns < a->low_freq)
        return f / a->factor;
    if (turns > a->high_freq)
        return f;
    const double smooth = (turns - a->low_freq) / (a->high_freq - a->low_freq);
    return (1 - smooth) * f / a->factor + smooth * f;
}

/* Positions [from, to) of the table. */
static void fill(struct rope *r, int64_t from, int64_t to)
{
    const int half = r->head_dim / 2;
#pragma omp parallel for schedule(static)
    for (int i = 0; i < half; i++) {
        const double f = rope_frequency(&r->args, i);
        for (int64_t p = from; p < to; p++) {
            r->cos[p * half + i] = (float)cos((double)p * f);
            r->sin[p * half + i] = (float)sin((double)p * f);
        }
    }
}

/* n rows, of which the first are r's; r keeps its own where that fails. */
static int grow(struct rope *r, int64_t n)
{
    const size_t half = (size_t)r->head_dim / 2, have = (size_t)r->covered * half;
    float *c = mem_slab((size_t)n * half, sizeof *c), *s = mem_slab((size_t)n * half, sizeof *s);
    if (!c || !s) {
        free(c);
        free(s);
        return err_in("rotary table");
    }
    if (have) {
        memcpy(c, r->cos, have * sizeof *c);
        memcpy(s, r->sin, have * sizeof *s);
    }
    rope_free(r);
    r->cos = c;
    r->sin = s;
    return 0;
}

int64_t rope_rows(const struct rope *r, int64_t n)
{
    const int64_t rows = 2 * r->covered > n ? 2 * r->covered : n;
    return n <= r->covered ? r->covered : rows < r->n_pos ? rows : r->n_pos;
}

int rope_cover(struct rope *r, int64_t n)
{
    const int64_t rows = rope_rows(r, n);
    if (n <= r->covered)
        return 0;
    if (grow(r, rows))
        return -1;
    fill(r, r->covered, rows);
    r->covered = rows;
    return 0;
}

int rope_init(struct rope *r, const struct rope_args *a)
{
    enum { FIRST = 1 << 16 }; // elements
    const int64_t fit = FIRST / (a->head_dim / 2) > 0 ? FIRST / (a->head_dim / 2) : 1;
    *r = (struct rope){.style = a->style, .head_dim = a->head_dim, .n_pos = a->n_pos, .args = *a};
    return rope_cover(r, fit < a->n_pos ? fit : a->n_pos);
}

void rope_free(struct rope *r)
{
    free(r->cos);
    free(r->sin);
    r->cos = r->sin = NULL;
}
