#include "autograd/base/half.h"
#include "compress/codecs/bits.h"
#include "compress/codecs/blocks.h"
#include "compress/codecs/grid.h"

static void get(const void *block, struct grid_scales *s)
{
    const struct q4_k *b = block;
    s->d = half_float(b->d);
    s->dmin = half_float(b->dmin);
    bits_scales6(b->scales, s->scale, s->min);
}

static void set(void *block, const struct grid_scales *s)
{
    struct q4_k *b = block;
    b->d = half_of(s->d);
    b->dmin = half_of(s->dmin);
    bits_pack_scales6(s->scale, s->min, b->scales);
}

static void unpack(const void *block, int8_t *q)
{
    const struct q4_k *b = block;
    for (int k = 0; k < 4; k++)
        bits_planes(b->qs + 32 * k, 32, 4, 0, q + 64 * k);
}

static void pack(void *block, const int8_t *q)
{
    struct q4_k *b = block;
    for (int k = 0; k < 4; k++)
        bits_pack(q + 64 * k, 32, 4, 0, 0, b->qs + 32 * k);
}

const struct grid q4_k_grid = {
    .subs = 8,
    .size = 32,
    .scale_lo = 0,
    .scale_hi = 63,
    .min_hi = 63,
    .lo = 0,
    .hi = 15,
    .search = {.kind = GRID_SUPER,
               .start = -1.25f,
               .start_step = 0.2f,
               .starts = 12,
               .turns = 1,
               .around = 1,
               .mins = 2,
               .passes = 1,
               .beyond = 4,
               .unbiased = 0.75f},
    .get = get,
    .set = set,
    .unpack = unpack,
    .pack = pack,
};
