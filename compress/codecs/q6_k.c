#include "autograd/base/half.h"
#include "compress/codecs/bits.h"
#include "compress/codecs/blocks.h"
#include "compress/codecs/grid.h"

static void get(const void *block, struct grid_scales *s)
{
    const struct q6_k *b = block;
    s->d = half_float(b->d);
    for (int j = 0; j < 16; j++)
        s->scale[j] = b->scales[j];
}

static void set(void *block, const struct grid_scales *s)
{
    struct q6_k *b = block;
    b->d = half_of(s->d);
    for (int j = 0; j < 16; j++)
        b->scales[j] = (int8_t)s->scale[j];
}

static void unpack(const void *block, int8_t *q)
{
    const struct q6_k *b = block;
    for (int k = 0; k < 2; k++) {
        bits_planes(b->ql + 64 * k, 64, 4, -32, q + 128 * k);
        bits_add(b->qh + 32 * k, 32, 2, 4, q + 128 * k);
    }
}

static void pack(void *block, const int8_t *q)
{
    struct q6_k *b = block;
    for (int k = 0; k < 2; k++) {
        bits_pack(q + 128 * k, 64, 4, -32, 0, b->ql + 64 * k);
        bits_pack(q + 128 * k, 32, 2, -32, 4, b->qh + 32 * k);
    }
}

const struct grid q6_k_grid = {
    .subs = 16,
    .size = 16,
    .scale_lo = -128,
    .scale_hi = 127,
    .lo = -32,
    .hi = 31,
    .search = {.kind = GRID_SUPER,
               .start = 0.952f,
               .start_step = 0.0275f,
               .starts = 5,
               .around = 1,
               .passes = 1,
               .others = 5,
               .full = 1.06f},
    .get = get,
    .set = set,
    .unpack = unpack,
    .pack = pack,
};
