#include "autograd/base/half.h"
#include "compress/codecs/bits.h"
#include "compress/codecs/blocks.h"
#include "compress/codecs/grid.h"

static void get(const void *block, struct grid_scales *s)
{
    const struct q4_1 *b = block;
    // m is added: min is -m
    *s = (struct grid_scales){half_float(b->d), -half_float(b->m), {1}, {1}};
}

static void set(void *block, const struct grid_scales *s)
{
    struct q4_1 *b = block;
    b->d = half_of(s->d);
    b->m = half_of(0 - s->dmin);
}

static void unpack(const void *block, int8_t *q)
{
    const struct q4_1 *b = block;
    bits_planes(b->qs, 16, 4, 0, q);
}

static void pack(void *block, const int8_t *q)
{
    struct q4_1 *b = block;
    bits_pack(q, 16, 4, 0, 0, b->qs);
}

const struct grid q4_1_grid = {
    .subs = 1,
    .size = 32,
    .scale_lo = 1,
    .scale_hi = 1,
    .min_hi = 1,
    .lo = 0,
    .hi = 15,
    .search = {.kind = GRID_BLOCKS,
               .start = -1.25f,
               .start_step = 0.2f,
               .starts = 12,
               .turns = 1,
               .beyond = 4},
    .get = get,
    .set = set,
    .unpack = unpack,
    .pack = pack,
};
