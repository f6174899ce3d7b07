#include <string.h>

#include "autograd/base/half.h"
#include "compress/codecs/bits.h"
#include "compress/codecs/blocks.h"
#include "compress/codecs/grid.h"

static void get(const void *block, struct grid_scales *s)
{
    const struct q3_k *b = block;
    s->d = half_float(b->d);
    for (int j = 0; j < 16; j++) {
        const int low = b->scales[j % 8] >> j / 8 * 4 & 15;
        const int high = b->scales[8 + j % 4] >> j / 4 * 2 & 3;
        s->scale[j] = (int16_t)((low | high << 4) - 32);
    }
}

static void set(void *block, const struct grid_scales *s)
{
    struct q3_k *b = block;
    b->d = half_of(s->d);
    memset(b->scales, 0, sizeof b->scales);
    for (int j = 0; j < 16; j++) {
        const int code = s->scale[j] + 32;
        b->scales[j % 8] |= (uint8_t)((code & 15) << j / 8 * 4);
        b->scales[8 + j % 4] |= (uint8_t)((code >> 4) << j / 4 * 2);
    }
}

static void unpack(const void *block, int8_t *q)
{
    const struct q3_k *b = block;
    bits_planes(b->qs, 32, 2, -4, q);
    bits_planes(b->qs + 32, 32, 2, -4, q + 128);
    bits_add(b->hmask, 32, 1, 2, q);
}

static void pack(void *block, const int8_t *q)
{
    struct q3_k *b = block;
    bits_pack(q, 32, 2, -4, 0, b->qs);
    bits_pack(q + 128, 32, 2, -4, 0, b->qs + 32);
    bits_pack(q, 32, 1, -4, 2, b->hmask);
}

const struct grid q3_k_grid = {
    .subs = 16,
    .size = 16,
    .scale_lo = -32,
    .scale_hi = 31,
    .lo = -4,
    .hi = 3,
    .search = {.kind = GRID_SUPER,
               .start = 0.72f,
               .start_step = 0.12f,
               .starts = 3,
               .around = 1,
               .passes = 2,
               .others = 3,
               .full = 1},
    .get = get,
    .set = set,
    .unpack = unpack,
    .pack = pack,
};
