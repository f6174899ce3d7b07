#include "datasets/shuffle.h"

#include "autograd/base/rng.h"

enum { ROUNDS = 8 };

static uint64_t feistel(uint64_t key, uint64_t which, int half, uint64_t x)
{
    const uint64_t mask = ((uint64_t)1 << half) - 1;
    uint64_t left = x >> half, right = x & mask;
    for (uint64_t round = 0; round < ROUNDS; round++) {
        uint32_t r[4];
        rng_block(key, which, round << 32 | right, r);
        const uint64_t next = left ^ (r[0] & mask);
        left = right;
        right = next;
    }
    return left << half | right;
}

uint64_t shuffle_at(uint64_t key, uint64_t which, uint64_t n, uint64_t i)
{
    int half = 1;
    while (half < 32 && (uint64_t)1 << 2 * half < n)
        half++;
    do
        i = feistel(key, which, half, i);
    while (i >= n);
    return i;
}
