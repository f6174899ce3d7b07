#include "autograd/base/half.h"
#include "compress/codecs/bits.h"
#include "compress/codecs/blocks.h"
#include "compress/codecs/grid.h"

static void get(const void *block, struct grid_scales *s)
{
    const struct q2_k *b = block;
    s->d = half_float(b->d);
    s->dmin = half_float(b->dmin);
    for (int j = 0; j < 16; j++) {
        s->scale[j] = b->scales[j] & 15;
        s->min[j] = b->scales[j] >> 4;
    }
}

static void set(void *block, const struct grid_scales *s)
{
    struct q2_k *b = block;
    b->d = half_of(s->d);
    b->dmin = half_of(s->dmin);
    for (int j = 0; j < 16; j++)
        b->scales[j] = (uint8_t)(s->scale[j] | s->min[j] << 4);
}

static void unpack(const void *block, int8_t *q)
{
    const struct q2_k *b = block;
    bits_planes(b->qs, 32, 2, 0, q);
    bits_planes(b->qs + 32, 32, 2, 0, q + 128);
}

static void pack(void *block, const int8_t *q)
{
    struct q2_k *b = block;
    bits_pack(q, 32, 2, 0, 0, b->qs);
    bits_pack(q + 128, 32, 2, 0, 0, b->qs + 32);
}

const struct grid q2_k_grid = {
    .subs = 16,
    .size = 16,
    .scale_lo = 0,
    .scale_hi = 15,
    .min_hi = 15,
    .lo = 0,
    .hi = 3,
    .search = {.kind = GRID_SUPER,
               .start = -0.8f,
               .start_step = 0.25f,
               .starts = 6,
               .turns = 1,
               .around = 1,
               .mins = 3,
               .passes = 1,
               .beyond = 4,
               .unbiased = 0.75f},
    .get = get,
    .set = set,
    .unpack = unpack,
    .pack = pack,
};
