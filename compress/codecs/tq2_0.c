#include <stddef.h>

#include "autograd/base/half.h"
#include "compress/codecs/bits.h"
#include "compress/codecs/blocks.h"
#include "compress/codecs/grid.h"

static void get(const void *block, struct grid_scales *s)
{
    const struct tq2_0 *b = block;
    *s = (struct grid_scales){.d = half_float(b->d), .scale = {1}};
}

static void set(void *block, const struct grid_scales *s)
{
    struct tq2_0 *b = block;
    b->d = half_of(s->d);
}

static void unpack(const void *block, int8_t *q)
{
    const struct tq2_0 *b = block;
    bits_planes(b->qs, 32, 2, -1, q);
    bits_planes(b->qs + 32, 32, 2, -1, q + 128);
}

static void pack(void *block, const int8_t *q)
{
    struct tq2_0 *b = block;
    bits_pack(q, 32, 2, -1, 0, b->qs);
    bits_pack(q + 128, 32, 2, -1, 0, b->qs + 32);
}

const struct grid tq2_0_grid = {
    .d_at = offsetof(struct tq2_0, d),
    .subs = 1,
    .size = 256,
    .scale_lo = 1,
    .scale_hi = 1,
    .lo = -1,
    .hi = 1,
    .search = {.kind = GRID_TERNARY, .starts = 4, .passes = 4},
    .get = get,
    .set = set,
    .unpack = unpack,
    .pack = pack,
};
