#include <string.h>

#include "autograd/base/half.h"
#include "compress/codecs/blocks.h"
#include "compress/codecs/grid.h"

static void get(const void *block, struct grid_scales *s)
{
    const struct q8_0 *b = block;
    *s = (struct grid_scales){.d = half_float(b->d), .scale = {1}};
}

static void set(void *block, const struct grid_scales *s)
{
    struct q8_0 *b = block;
    b->d = half_of(s->d);
}

static void unpack(const void *block, int8_t *q)
{
    const struct q8_0 *b = block;
    memcpy(q, b->qs, sizeof b->qs);
}

static void pack(void *block, const int8_t *q)
{
    struct q8_0 *b = block;
    memcpy(b->qs, q, sizeof b->qs);
}

const struct grid q8_0_grid = {
    .subs = 1,
    .size = 32,
    .scale_lo = 1,
    .scale_hi = 1,
    .lo = -127, // -128 is read, never written
    .hi = 127,
    .get = get,
    .set = set,
    .unpack = unpack,
    .pack = pack,
};
