#include <string.h>

#include "autograd/base/half.h"
#include "compress/codecs/bits.h"
#include "compress/codecs/blocks.h"
#include "compress/codecs/grid.h"

static void get(const void *block, struct grid_scales *s)
{
    const struct iq4_xs *b = block;
    s->d = half_float(b->d);
    for (int j = 0; j < 8; j++) {
        const int low = b->scales_l[j / 2] >> j % 2 * 4 & 15, high = b->scales_h >> 2 * j & 3;
        s->scale[j] = (int16_t)((low | high << 4) - 32);
    }
}

static void set(void *block, const struct grid_scales *s)
{
    struct iq4_xs *b = block;
    b->d = half_of(s->d);
    b->scales_h = 0;
    memset(b->scales_l, 0, sizeof b->scales_l);
    for (int j = 0; j < 8; j++) {
        const int code = s->scale[j] + 32;
        b->scales_l[j / 2] |= (uint8_t)((code & 15) << j % 2 * 4);
        b->scales_h = (uint16_t)(b->scales_h | (code >> 4) << 2 * j);
    }
}

static void unpack(const void *block, int8_t *q)
{
    const struct iq4_xs *b = block;
    for (int k = 0; k < 8; k++)
        bits_planes(b->qs + 16 * k, 16, 4, 0, q + 32 * k);
}

static void pack(void *block, const int8_t *q)
{
    struct iq4_xs *b = block;
    for (int k = 0; k < 8; k++)
        bits_pack(q + 32 * k, 16, 4, 0, 0, b->qs + 16 * k);
}

const struct grid iq4_xs_grid = {
    .subs = 8,
    .size = 32,
    .scale_lo = -32,
    .scale_hi = 31,
    .lo = 0,
    .hi = 15,
    .level = iq4_nl_levels,
    .search = {.kind = GRID_SUPER,
               .start = 0.75f,
               .start_step = 0.05f,
               .starts = 7,
               .around = 1,
               .passes = 2,
               .others = 7,
               .full = 1.05f,
               .beyond = 4,
               .unbiased = 0.75f},
    .get = get,
    .set = set,
    .unpack = unpack,
    .pack = pack,
};
