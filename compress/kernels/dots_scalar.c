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

static void encode_group(int64_t n, const float *x, struct act8 *a)
{
    uint32_t top = 0; // the largest magnitude's bits: they are in order, what is not finite above
    for (int64_t i = 0; i < n; i++) {
        const uint32_t bits = half_bits(x[i]) & 0x7fffffff;
        top = bits > top ? bits : top;
    }
    const float most = half_from(top);
    const bool finite = top < 0x7f800000, some = finite && most >= 0x1p-100f;
    a->d = !finite ? NAN : some ? most / 127 : 0;
    const float inverse = some ? 127 / most : 0;
    memset(a->sum32, 0, sizeof a->sum32);
    for (int j = 0; j < 16; j++) {
        int sum = 0;
        for (int i = 16 * j; i < 16 * j + 16; i++) {
            a->q[i] = some && i < n ? (int8_t)nearbyintf(x[i] * inverse) : 0;
            a->u[i] = (uint8_t)(a->q[i] + 128);
            sum += a->q[i];
        }
        a->sum[j] = (int16_t)sum;
        a->sum32[j / 2] = (int16_t)(a->sum32[j / 2] + sum);
    }
}

static void encode(int64_t cols, const float *x, struct act8 *a)
{
    for (int64_t i = 0; i < cols; i += ACT8, a++)
        encode_group(cols - i < ACT8 ? cols - i : ACT8, x + i, a);
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

/* Of those, which have a min: q4_1 and q5_1, whose grids give it as dmin, to be subtracted. */
static float part_32(const struct grid *g, const void *block, const struct act8 *a, int k)
{
    struct opened o;
    open(g, block, &o);
    int32_t sum = 0;
    for (int i = 0; i < 32; i++)
        sum += o.v[i] * a->q[32 * k + i];
    const float p = o.s.d * (float)sum;
    return g->min_hi ? fmaf(-(o.s.dmin * (float)o.s.min[0]), (float)a->sum32[k], p) : p;
}

static float dot_32(const struct dots_job *j, const char *row, const struct act8 *a)
{
    const struct grid *g = grids[j->format];
    float y = 0;
    for (int64_t b = 0, n = j->cols / 32; b < n; b += 8, a++) {
        float p[8] = {0};
        for (int k = 0; k < 8 && b + k < n; k++)
            p[k] = part_32(g, row + (b + k) * block_bytes[j->format], a, k);
        const float t = ((p[0] + p[1]) + (p[2] + p[3])) + ((p[4] + p[5]) + (p[6] + p[7]));
        y = fmaf(t, a->d, y);
    }
    return y;
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
    {
        [DOTS_q4_0] = product_32,
        [DOTS_q4_1] = product_32,
        [DOTS_q5_0] = product_32,
        [DOTS_q5_1] = product_32,
        [DOTS_q8_0] = product_32,
        [DOTS_iq4_nl] = product_32,
        [DOTS_q2_k] = product_256,
        [DOTS_q3_k] = product_256,
        [DOTS_q4_k] = product_256,
        [DOTS_q5_k] = product_256,
        [DOTS_q6_k] = product_256,
        [DOTS_q8_k] = product_256,
        [DOTS_iq4_xs] = product_256,
        [DOTS_tq1_0] = product_256,
        [DOTS_tq2_0] = product_256,
    },
};
