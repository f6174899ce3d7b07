#include <string.h>

#include "compress/codecs/blocks.h"
#include "compress/codecs/grid.h"

static void get(const void *block, struct grid_scales *s)
{
    const struct q8_k *b = block;
    *s = (struct grid_scales){.d = b->d, .scale = {1}};
}

static void set(void *block, const struct grid_scales *s)
{
    struct q8_k *b = block;
    b->d = s->d;
}

static void unpack(const void *block, int8_t *q)
{
    const struct q8_k *b = block;
    memcpy(q, b->qs, sizeof b->qs);
}

static void pack(void *block, const int8_t *q)
{
    struct q8_k *b = block;
    memcpy(b->qs, q, sizeof b->qs);
    for (int j = 0; j < 16; j++) {
        int sum = 0;
        for (int i = 0; i < 16; i++)
            sum += q[16 * j + i];
        b->bsums[j] = (int16_t)sum;
    }
}

const struct grid q8_k_grid = {
    .wide = true,
    .subs = 1,
    .size = 256,
    .scale_lo = 1,
    .scale_hi = 1,
    .lo = -127, // -128 is read, never written
    .hi = 127,
    .get = get,
    .set = set,
    .unpack = unpack,
    .pack = pack,
};
