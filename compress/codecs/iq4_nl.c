#include "autograd/base/half.h"
#include "compress/codecs/bits.h"
#include "compress/codecs/blocks.h"
#include "compress/codecs/grid.h"

const int8_t iq4_nl_levels[GRID_LEVELS] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                           1,    13,   25,  38,  53,  69,  89,  113};

static void get(const void *block, struct grid_scales *s)
{
    const struct iq4_nl *b = block;
    *s = (struct grid_scales){.d = half_float(b->d), .scale = {1}};
}

static void set(void *block, const struct grid_scales *s)
{
    struct iq4_nl *b = block;
    b->d = half_of(s->d);
}

static void unpack(const void *block, int8_t *q)
{
    const struct iq4_nl *b = block;
    bits_planes(b->qs, 16, 4, 0, q);
}

static void pack(void *block, const int8_t *q)
{
    struct iq4_nl *b = block;
    bits_pack(q, 16, 4, 0, 0, b->qs);
}

const struct grid iq4_nl_grid = {
    .subs = 1,
    .size = 32,
    .scale_lo = 1,
    .scale_hi = 1,
    .lo = 0,
    .hi = 15,
    .level = iq4_nl_levels,
    .search = {.kind = GRID_BLOCKS,
               .start = 0.75f,
               .start_step = 0.05f,
               .starts = 8,
               .turns = 1,
               .beyond = 4,
               .unbiased = 0.75f},
    .get = get,
    .set = set,
    .unpack = unpack,
    .pack = pack,
};
