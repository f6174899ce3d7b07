/*
 * Codes of a few bits in the bytes of blocks. "Planes": n bytes hold 8 / bits planes of n elements,
 * the lowest bits first. n is a multiple of 16; bytes are shifted in pairs, and what the neighbour
 * pushes in is masked away.
 */
#ifndef ATTAR_COMPRESS_CODECS_BITS_H
#define ATTAR_COMPRESS_CODECS_BITS_H

#include <stdint.h>
#include <string.h>

typedef uint8_t bits_bytes __attribute__((vector_size(16)));
typedef uint16_t bits_pairs __attribute__((vector_size(16)));

static inline bits_bytes bits_load(const void *p)
{
    bits_bytes v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void bits_store(void *p, bits_bytes v)
{
    memcpy(p, &v, sizeof v);
}

/* Left by so many bits, right where that is negative; of what comes, the bits of `keep`. */
static inline bits_bytes bits_shift(bits_bytes v, int by, int keep)
{
    bits_pairs p = (bits_pairs)v;
    p = by < 0 ? p >> (uint16_t)-by : p << (uint16_t)by;
    return (bits_bytes)p & (uint8_t)keep;
}

/* q [n 8 / bits] <- planes of bytes [n], plus `plus` */
static inline void bits_planes(const uint8_t *bytes, int n, int bits, int plus, int8_t *q)
{
    for (int k = 0; k < 8; k += bits, q += n)
        for (int l = 0; l < n; l += 16)
            bits_store(q + l,
                       bits_shift(bits_load(bytes + l), -k, (1 << bits) - 1) + (uint8_t)plus);
}

/* the other way: the low bits of q [n 8 / bits] >> shift, less `plus` */
static inline void bits_pack(const int8_t *q, int n, int bits, int plus, int shift, uint8_t *bytes)
{
    for (int l = 0; l < n; l += 16) {
        bits_bytes sum = {0};
        for (int k = 0; k < 8; k += bits) {
            const bits_bytes code = bits_load(q + k / bits * n + l) - (uint8_t)plus;
            sum |= bits_shift(code, k - shift, ((1 << bits) - 1) << k);
        }
        bits_store(bytes + l, sum);
    }
}

/* q [n 8 / bits] += the planes of bytes [n], shifted left: the high bits of codes */
static inline void bits_add(const uint8_t *bytes, int n, int bits, int shift, int8_t *q)
{
    for (int k = 0; k < 8; k += bits, q += n)
        for (int l = 0; l < n; l += 16) {
            const bits_bytes high =
                bits_shift(bits_load(bytes + l), shift - k, ((1 << bits) - 1) << shift);
            bits_store(q + l, bits_load(q + l) + high);
        }
}

/* The 12 bytes of Q4_K's and Q5_K's scales and mins, 6 bits each: bytes 0-3 and 4-7 hold the first
   four, and in their two high bits those of the last four, whose nibbles are in bytes 8-11. Four
   bytes at a time. */
static inline void bits_scales6(const uint8_t *b, int16_t *scale, int16_t *min)
{
    const uint32_t six = 0x3f3f3f3f, low = 0x0f0f0f0f, high = 0x30303030;
    uint32_t w[3];
    uint8_t code[16];
    memcpy(w, b, sizeof w);
    const uint32_t c[4] = {w[0] & six, (w[2] & low) | (w[0] >> 2 & high), w[1] & six,
                           (w[2] >> 4 & low) | (w[1] >> 2 & high)};
    memcpy(code, c, sizeof code);
    for (int j = 0; j < 8; j++) {
        scale[j] = code[j];
        min[j] = code[j + 8];
    }
}

static inline void bits_pack_scales6(const int16_t *scale, const int16_t *min, uint8_t *b)
{
    const uint32_t low = 0x0f0f0f0f, high = 0x30303030;
    uint8_t code[16];
    uint32_t c[4];
    for (int j = 0; j < 8; j++) {
        code[j] = (uint8_t)scale[j];
        code[j + 8] = (uint8_t)min[j];
    }
    memcpy(c, code, sizeof c);
    const uint32_t w[3] = {c[0] | (c[1] & high) << 2, c[2] | (c[3] & high) << 2,
                           (c[1] & low) | (c[3] & low) << 4};
    memcpy(b, w, sizeof w);
}

#endif
