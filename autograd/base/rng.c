#include "autograd/base/rng.h"

#include <math.h>

void rng_block(uint64_t key, uint64_t hi, uint64_t lo, uint32_t out[4])
{
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    uint32_t c0 = (uint32_t)lo, c1 = (uint32_t)(lo >> 32);
    uint32_t c2 = (uint32_t)hi, c3 = (uint32_t)(hi >> 32);
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xd2511f53 * c0;
        const uint64_t p1 = (uint64_t)0xcd9e8d57 * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9e3779b9;
        k1 += 0xbb67ae85;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

uint64_t rng_key(uint64_t seed, const char *name)
{
    uint64_t h = seed;
    for (const char *c = name; *c; c++) {
        uint32_t r[4];
        rng_block(h, 0, (unsigned char)*c, r);
        h = (uint64_t)r[1] << 32 | r[0];
    }
    return h;
}

static float unit(uint32_t bits)
{
    return (float)(bits >> 8) * 0x1p-24f;
}

float rng_uniform(uint64_t key, uint64_t hi, uint64_t lo)
{
    uint32_t r[4];
    rng_block(key, hi, lo, r);
    return unit(r[0]);
}

uint64_t rng_below(uint64_t key, uint64_t counter, uint64_t n)
{
    const uint64_t bias = -n % n; // 2^64 mod n: draws below it would favour small values
    for (uint64_t again = 0;; again++) {
        uint32_t r[4];
        rng_block(key, again, counter, r);
        const uint64_t x = (uint64_t)r[1] << 32 | r[0];
        if (x >= bias)
            return x % n;
    }
}

/* Up to four draws: those of one block. */
static void normals(uint64_t key, float std, uint64_t block, float *x, size_t n)
{
    uint32_t r[4];
    rng_block(key, 0, block, r);
    for (size_t j = 0; j < 4 && j < n; j++) {
        const uint32_t *pair = r + (j & 2);
        const float radius = sqrtf(-2 * logf(1 - unit(pair[0])));
        const float angle = 6.28318530718f * unit(pair[1]);
        x[j] = std * radius * (j & 1 ? sinf(angle) : cosf(angle));
    }
}

void rng_normal(uint64_t key, float std, float *x, size_t n)
{
    enum { ALONE = 1 << 14 }; // below it, waking a team takes longer
#pragma omp parallel for schedule(static) if (n > ALONE)
    for (size_t i = 0; i < n; i += 4)
        normals(key, std, i / 4, x + i, n - i);
}
