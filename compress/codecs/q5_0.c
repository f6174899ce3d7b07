#include "autograd/base/half.h"
#include "compress/codecs/bits.h"
#include "compress/codecs/blocks.h"
#include "compress/codecs/grid.h"

static void get(const void *block, struct grid_scales *s)
{
    const struct q5_0 *b = block;
    *s = (struct grid_scales){.d = half_float(b->d), .scale = {1}};
}

static void set(void *block, const struct grid_scales *s)
{
    struct q5_0 *b = block;
    b->d = half_of(s->d);
}

static void unpack(const void *block, int8_t *q)
{
    const struct q5_0 *b = block;
    bits_planes(b->qs, 16, 4, -16, q);
    for (int i = 0; i < 32; i++)
        q[i] = (int8_t)(q[i] + ((b->qh[i / 8] >> i % 8 & 1) << 4));
}

static void pack(void *block, const int8_t *q)
{
    struct q5_0 *b = block;
    bits_pack(q, 16, 4, -16, 0, b->qs);
    for (int k = 0; k < 4; k++)
        b->qh[k] = 0;
    for (int i = 0; i < 32; i++)
        b->qh[i / 8] |= (uint8_t)(((q[i] + 16) >> 4) << i % 8);
}

const struct grid q5_0_grid = {
    .subs = 1,
    .size = 32,
    .scale_lo = 1,
    .scale_hi = 1,
    .lo = -16,
    .hi = 15,
    .search = {.kind = GRID_BLOCKS, .start = 0.85f, .start_step = 0.02f, .starts = 10, .turns = 1},
    .get = get,
    .set = set,
    .unpack = unpack,
    .pack = pack,
};
