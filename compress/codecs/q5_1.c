#include "autograd/base/half.h"
#include "compress/codecs/bits.h"
#include "compress/codecs/blocks.h"
#include "compress/codecs/grid.h"

static void get(const void *block, struct grid_scales *s)
{
    const struct q5_1 *b = block;
    // m is added: min is -m
    *s = (struct grid_scales){half_float(b->d), -half_float(b->m), {1}, {1}};
}

static void set(void *block, const struct grid_scales *s)
{
    struct q5_1 *b = block;
    b->d = half_of(s->d);
    b->m = half_of(0 - s->dmin);
}

static void unpack(const void *block, int8_t *q)
{
    const struct q5_1 *b = block;
    bits_planes(b->qs, 16, 4, 0, q);
    for (int i = 0; i < 32; i++)
        q[i] = (int8_t)(q[i] + ((b->qh[i / 8] >> i % 8 & 1) << 4));
}

static void pack(void *block, const int8_t *q)
{
    struct q5_1 *b = block;
    bits_pack(q, 16, 4, 0, 0, b->qs);
    for (int k = 0; k < 4; k++)
        b->qh[k] = 0;
    for (int i = 0; i < 32; i++)
        b->qh[i / 8] |= (uint8_t)((q[i] >> 4) << i % 8);
}

const struct grid q5_1_grid = {
    .subs = 1,
    .size = 32,
    .scale_lo = 1,
    .scale_hi = 1,
    .min_hi = 1,
    .lo = 0,
    .hi = 31,
    .search = {.kind = GRID_BLOCKS, .start = -1.25f, .start_step = 0.25f, .starts = 9, .turns = 1},
    .get = get,
    .set = set,
    .unpack = unpack,
    .pack = pack,
};
