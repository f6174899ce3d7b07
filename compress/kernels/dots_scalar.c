#include <math.h>
#include <string.h>

#include "autograd/base/half.h"
#include "compress/codecs/grid.h"
#include "compress/kernels/dots.h"

static const struct grid *const grids[] = {
#define CODEC(stem, name, id, block, bytes) [DOTS_##stem] = &stem##_grid,
#include "compress/codecs/codecs.def"
#undef CODEC
};

static const int block_bytes[] = {
#define CODEC(stem, name, id, block, bytes) [DOTS_##stem] = bytes,
#include "compress/codecs/codecs.def"
#undef CODEC
};

/* ---- activations ---- */

/* n of `size` elements that share a scale, which is returned; behind them q of 0. */
static float encode_part(int64_t n, int size, const float *x, int8_t *q)
{
    uint32_t top = 0; // the largest magnitude's bits: they are in order, what is not finite above
    for (int64_t i = 0; i < n; i++) {
        const uint32_t bits = half_bits(x[i]) & 0x7fffffff;
        top = bits > top ? bits : top;
    }
    const float most = half_from(top);
    const bool finite = top < 0x7f800000, some = finite && most >= 0x1p-100f;
    const float inverse = some ? 127 / most : 0;
    for (int i = 0; i < size; i++)
        q[i] = some && i < n ? (int8_t)nearbyintf(x[i] * inverse) : 0;
    return !finite ? NAN : some ? most / 127 : 0;
}

static int16_t sum_of(int n, const int8_t *q)
{
    int sum = 0;
    for (int i = 0; i < n; i++)
        sum += q[i];
    return (int16_t)sum;
}

/* What all encodings have beside q. */
static void complete(struct act8 *a)
{
    for (int i = 0; i < ACT8; i++)
        a->u[i] = (uint8_t)(a->q[i] + 128);
    for (int k = 0; k < ACT8_RUNS; k++)
        a->sum32[k] = sum_of(ACT8_RUN, a->q + k * ACT8_RUN);
}

static void encode(int64_t cols, const float *x, struct act8 *a)
{
    for (int64_t i = 0; i < cols; i += ACT8, a++) {
        a->d = encode_part(cols - i < ACT8 ? cols - i : ACT8, ACT8, x + i, a->q);
        for (int j = 0; j < 16; j++)
            a->sum[j] = sum_of(16, a->q + 16 * j);
        complete(a);
    }
}

static void encode_32(int64_t cols, const float *x, struct act8 *a)
{
    for (int64_t i = 0; i < cols; i += ACT8, a++) {
        for (int k = 0; k < ACT8_RUNS; k++) {
            const int64_t at = i + k * ACT8_RUN, left = cols - at;
            const int64_t n = left < 0 ? 0 : left < ACT8_RUN ? left : ACT8_RUN;
            a->d32[k] = encode_part(n, ACT8_RUN, n ? x + at : x, a->q + k * ACT8_RUN);
        }
        a->d = 0;
        complete(a);
    }
}

/* ---- formats of 256 ---- */

struct opened {
    int8_t v[GRID_BLOCK];
    struct grid_scales s;
};

static void open(const struct grid *g, const void *block, struct opened *o)
{
    g->get(block, &o->s);
    g->unpack(block, o->v);
    for (int i = 0; i < g->subs * g->size && g->level; i++)
        o->v[i] = g->level[o->v[i]];
}

static float dot_256(const struct dots_job *j, const char *row, const struct act8 *a)
{
    const struct grid *g = grids[j->format];
    float y = 0;
    for (int64_t b = 0; b < j->cols / GRID_BLOCK; b++, a++) {
        struct opened o;
        open(g, row + b * block_bytes[j->format], &o);
        int32_t sum = 0, min = 0;
        for (int s = 0; s < g->subs; s++) {
            int32_t part = 0, plain = 0;
            for (int i = s * g->size; i < (s + 1) * g->size; i++) {
                part += o.v[i] * a->q[i];
                plain += a->q[i];
            }
            sum += o.s.scale[s] * part;
            min += g->min_hi ? o.s.min[s] * plain : 0;
        }
        y = fmaf(o.s.d * a->d, (float)sum, y);
        if (g->min_hi)
            y = fmaf(-(o.s.dmin * a->d), (float)min, y);
    }
    return y;
}

/* ---- formats of 32 ---- */

/* p, plus a block times run k of a group. Two have a min: q4_1 and q5_1, whose grids give it as
   dmin, to be subtracted. */
static float add_32(const struct grid *g, const void *block, const struct act8 *a, int k, float p)
{
    struct opened o;
    open(g, block, &o);
    int32_t sum = 0;
    for (int i = 0; i < 32; i++)
        sum += o.v[i] * a->q[32 * k + i];
    const float e = a->d32[k];
    p = fmaf(o.s.d * e, (float)sum, p);
    return g->min_hi ? fmaf(-(o.s.dmin * (float)o.s.min[0]), e * (float)a->sum32[k], p) : p;
}

static float dot_32(const struct dots_job *j, const char *row, const struct act8 *a)
{
    const struct grid *g = grids[j->format];
    float p[DOTS_PARTS] = {0};
    for (int64_t b = 0; b < j->cols / 32; b++) {
        const int k = (int)(b % ACT8_RUNS);
        p[k / 2] = add_32(g, row + b * block_bytes[j->format], a + b / ACT8_RUNS, k, p[k / 2]);
    }
    return (p[0] + p[1]) + (p[2] + p[3]);
}

/* ---- */

static void product_256(const struct dots_job *j)
{
    const struct act8 *a = j->a;
    for (int64_t i = 0; i < j->n; i++, a += act8_groups(j->cols))
        for (int64_t r = 0; r < j->rows; r++)
            j->y[i * j->ldy + r] = dot_256(j, j->w + (size_t)r * j->stride, a);
}

static void product_32(const struct dots_job *j)
{
    const struct act8 *a = j->a;
    for (int64_t i = 0; i < j->n; i++, a += act8_groups(j->cols))
        for (int64_t r = 0; r < j->rows; r++)
            j->y[i * j->ldy + r] = dot_32(j, j->w + (size_t)r * j->stride, a);
}

const struct dots dots_scalar = {
    "scalar",
    NULL,
    encode,
    encode_32,
    {
#define CODEC(stem, name, id, block, bytes) [DOTS_##stem] = product_##block,
#include "compress/codecs/codecs.def"
#undef CODEC
    },
};
