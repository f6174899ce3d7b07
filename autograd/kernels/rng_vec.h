/*
 * rng_block() for many counters at once, in vectors of the instruction set that the including file
 * is compiled for: a 64-bit lane holds a word in its low half, what is above it does not count.
 */
#include <stdint.h>
#include <string.h>

#if defined __AVX512F__
#include <immintrin.h>
typedef uint64_t vu __attribute__((vector_size(64)));
enum { VU_N = 8, SETS = 4 };
static inline vu vu_product(vu a, vu b)
{
    return (vu)_mm512_mul_epu32((__m512i)a, (__m512i)b);
}
#elif defined __AVX2__
#include <immintrin.h>
typedef uint64_t vu __attribute__((vector_size(32)));
enum { VU_N = 4, SETS = 2 };
static inline vu vu_product(vu a, vu b)
{
    return (vu)_mm256_mul_epu32((__m256i)a, (__m256i)b);
}
#else
#include <arm_neon.h>
typedef uint64x2_t vu;
enum { VU_N = 2, SETS = 4 };
static inline vu vu_product(vu a, vu b)
{
    return vmull_u32(vmovn_u64(a), vmovn_u64(b));
}
#endif
enum { DRAWS = 4 * VU_N * SETS };

static inline vu vu_set(uint64_t x)
{
    return (vu){0} + x;
}

/* r: the words of rng_block(key, hi, lo), rng_block(key, hi, lo + 4), ... one after the other. */
static inline void draws(uint64_t key, uint64_t hi, uint64_t lo, uint32_t r[DRAWS])
{
    const vu m0 = vu_set(0xd2511f53), m1 = vu_set(0xcd9e8d57), half = vu_set(0xffffffff);
    vu c0[SETS], c1[SETS], c2[SETS], c3[SETS];
    for (int s = 0; s < SETS; s++) {
        uint64_t at[VU_N];
        for (int i = 0; i < VU_N; i++)
            at[i] = lo + 4 * (uint64_t)(s * VU_N + i);
        memcpy(&c0[s], at, sizeof at);
        c1[s] = c0[s] >> 32;
        c2[s] = vu_set(hi);
        c3[s] = vu_set(hi >> 32);
    }
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++) {
        for (int s = 0; s < SETS; s++) {
            const vu p0 = vu_product(m0, c0[s]), p1 = vu_product(m1, c2[s]);
            c0[s] = p1 >> 32 ^ c1[s] ^ k0;
            c1[s] = p1;
            c2[s] = p0 >> 32 ^ c3[s] ^ k1;
            c3[s] = p0;
        }
        k0 += 0x9e3779b9;
        k1 += 0xbb67ae85;
    }
    for (int s = 0; s < SETS; s++) {
        const vu first = (c0[s] & half) | c1[s] << 32, second = (c2[s] & half) | c3[s] << 32;
        for (int i = 0; i < VU_N; i++) {
            const uint64_t words[] = {first[i], second[i]};
            memcpy(r + 4 * (s * VU_N + i), words, sizeof words);
        }
    }
}
