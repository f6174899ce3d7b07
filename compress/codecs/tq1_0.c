#include <stddef.h>

#include "autograd/base/half.h"
#include "compress/codecs/blocks.h"
#include "compress/codecs/grid.h"

// A byte is a fraction of 256 whose ternary digits behind the point are the elements: digit k is
// the integral part of 3 (3^k byte mod 256) / 256. bytes [n] hold k digits of n elements each.

static void digits(const uint8_t *bytes, int n, int k, int8_t *q)
{
    for (int power = 1; k--; power *= 3, q += n)
        for (int l = 0; l < n; l++)
            q[l] = (int8_t)(((uint8_t)(bytes[l] * power) * 3 >> 8) - 1);
}

static void pack_digits(const int8_t *q, int n, int k, uint8_t *bytes)
{
    for (int l = 0; l < n; l++) {
        int number = 0;
        for (int i = 0; i < 5; i++)
            number = 3 * number + (i < k ? q[i * n + l] + 1 : 0);
        bytes[l] = (uint8_t)((number * 256 + 242) / 243); // rounded up: no digit falls short
    }
}

static void get(const void *block, struct grid_scales *s)
{
    const struct tq1_0 *b = block;
    *s = (struct grid_scales){.d = half_float(b->d), .scale = {1}};
}

static void set(void *block, const struct grid_scales *s)
{
    struct tq1_0 *b = block;
    b->d = half_of(s->d);
}

static void unpack(const void *block, int8_t *q)
{
    const struct tq1_0 *b = block;
    digits(b->qs, 32, 5, q);
    digits(b->qs + 32, 16, 5, q + 160);
    digits(b->qh, 4, 4, q + 240);
}

static void pack(void *block, const int8_t *q)
{
    struct tq1_0 *b = block;
    pack_digits(q, 32, 5, b->qs);
    pack_digits(q + 160, 16, 5, b->qs + 32);
    pack_digits(q + 240, 4, 4, b->qh);
}

const struct grid tq1_0_grid = {
    .d_at = offsetof(struct tq1_0, d),
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
