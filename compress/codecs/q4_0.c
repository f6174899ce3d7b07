#include "autograd/base/half.h"
#include "compress/codecs/bits.h"
#include "compress/codecs/blocks.h"
#include "compress/codecs/grid.h"

static void get(const void *block, struct grid_scales *s)
{
    const struct q4_0 *b = block;
    *s = (struct grid_scales){.d = half_float(b->d), .scale = {1}};
}

static void set(void *block, const struct grid_scales *s)
{
    struct q4_0 *b = block;
    b->d = half_of(s->d);
}

static void unpack(const void *block, int8_t *q)
{
    const struct q4_0 *b = block;
    bits_planes(b->qs, 16, 4, -8, q);
}

static void pack(void *block, const int8_t *q)
{
    struct q4_0 *b = block;
    bits_pack(q, 16, 4, -8, 0, b->qs);
}

const struct grid q4_0_grid = {
    .subs = 1,
    .size = 32,
    .scale_lo = 1,
    .scale_hi = 1,
    .lo = -8,
    .hi = 7,
    .search = {.kind = GRID_BLOCKS,
               .start = 0.775f,
               .start_step = 0.04f,
               .starts = 10,
               .turns = 1,
               .beyond = 4,
               .unbiased = 0.75f},
    .get = get,
    .set = set,
    .unpack = unpack,
    .pack = pack,
};
