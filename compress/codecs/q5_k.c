#include "autograd/base/half.h"
#include "compress/codecs/bits.h"
#include "compress/codecs/blocks.h"
#include "compress/codecs/grid.h"

static void get(const void *block, struct grid_scales *s)
{
    const struct q5_k *b = block;
    s->d = half_float(b->d);
    s->dmin = half_float(b->dmin);
    bits_scales6(b->scales, s->scale, s->min);
}

static void set(void *block, const struct grid_scales *s)
{
    struct q5_k *b = block;
    b->d = half_of(s->d);
    b->dmin = half_of(s->dmin);
    bits_pack_scales6(s->scale, s->min, b->scales);
}

static void unpack(const void *block, int8_t *q)
{
    const struct q5_k *b = block;
    for (int k = 0; k < 4; k++)
        bits_planes(b->qs + 32 * k, 32, 4, 0, q + 64 * k);
    bits_add(b->qh, 32, 1, 4, q);
}

static void pack(void *block, const int8_t *q)
{
    struct q5_k *b = block;
    for (int k = 0; k < 4; k++)
        bits_pack(q + 64 * k, 32, 4, 0, 0, b->qs + 32 * k);
    bits_pack(q, 32, 1, 0, 4, b->qh);
}

const struct grid q5_k_grid = {
    .subs = 8,
    .size = 32,
    .scale_lo = 0,
    .scale_hi = 63,
    .min_hi = 63,
    .lo = 0,
    .hi = 31,
    .search = {.kind = GRID_SUPER,
               .start = -1.1f,
               .start_step = 0.25f,
               .starts = 8,
               .turns = 1,
               .around = 1,
               .mins = 2,
               .passes = 1},
    .get = get,
    .set = set,
    .unpack = unpack,
    .pack = pack,
};
