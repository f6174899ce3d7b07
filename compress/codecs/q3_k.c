#include <string.h>

#include "autograd/base/half.h"
#include "compress/codecs/bits.h"
#include "compress/codecs/blocks.h"
#include "compress/codecs/grid.h"

/* Codes of scales, eight bytes at a time: low nibbles are in bytes 0-7, those of the first eight
   scales below; pairs of high bits in bytes 8-11, four scales in each pair of their bits. */
static const uint64_t NIBBLES = 0x0f0f0f0f0f0f0f0f;
static const uint32_t PAIRS = 0x03030303;

static void get(const void *block, struct grid_scales *s)
{
    const struct q3_k *b = block;
    uint64_t low, code[2];
    uint32_t high;
    uint8_t byte[16];
    memcpy(&low, b->scales, sizeof low);
    memcpy(&high, b->scales + sizeof low, sizeof high);
    for (int i = 0; i < 2; i++) {
        const uint64_t first = high >> 4 * i & PAIRS, second = high >> (4 * i + 2) & PAIRS;
        code[i] = (low >> 4 * i & NIBBLES) | (first | second << 32) << 4;
    }
    memcpy(byte, code, sizeof byte);
    s->d = half_float(b->d);
    for (int j = 0; j < 16; j++)
        s->scale[j] = (int16_t)(byte[j] - 32);
}

static void set(void *block, const struct grid_scales *s)
{
    struct q3_k *b = block;
    uint64_t low = 0, code[2];
    uint32_t high = 0;
    uint8_t byte[16];
    for (int j = 0; j < 16; j++)
        byte[j] = (uint8_t)(s->scale[j] + 32);
    memcpy(code, byte, sizeof code);
    for (int i = 0; i < 2; i++) {
        const uint64_t pairs = code[i] >> 4;
        low |= (code[i] & NIBBLES) << 4 * i;
        high |= ((uint32_t)pairs & PAIRS) << 4 * i;
        high |= ((uint32_t)(pairs >> 32) & PAIRS) << (4 * i + 2);
    }
    b->d = half_of(s->d);
    memcpy(b->scales, &low, sizeof low);
    memcpy(b->scales + sizeof low, &high, sizeof high);
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
               .full = 1,
               .beyond = 4,
               .unbiased = 0.75f},
    .get = get,
    .set = set,
    .unpack = unpack,
    .pack = pack,
};
