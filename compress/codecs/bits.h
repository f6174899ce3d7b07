/*
 * Codes of a few bits in the bytes of blocks. "Planes": n bytes hold 8 / bits planes of n elements,
 * the lowest bits first.
 */
#ifndef ATTAR_COMPRESS_CODECS_BITS_H
#define ATTAR_COMPRESS_CODECS_BITS_H

#include <stdint.h>

/* q [n 8 / bits] <- planes of bytes [n], plus `plus` */
static inline void bits_planes(const uint8_t *bytes, int n, int bits, int plus, int8_t *q)
{
    for (int k = 0; k < 8; k += bits, q += n)
        for (int l = 0; l < n; l++)
            q[l] = (int8_t)((bytes[l] >> k & ((1 << bits) - 1)) + plus);
}

/* the other way: the low bits of q [n 8 / bits] >> shift, less `plus` */
static inline void bits_pack(const int8_t *q, int n, int bits, int plus, int shift, uint8_t *bytes)
{
    for (int l = 0; l < n; l++)
        bytes[l] = 0;
    for (int k = 0; k < 8; k += bits, q += n)
        for (int l = 0; l < n; l++)
            bytes[l] |= (uint8_t)(((q[l] - plus) >> shift & ((1 << bits) - 1)) << k);
}

/* q [n 8 / bits] += the planes of bytes [n], shifted left: the high bits of codes */
static inline void bits_add(const uint8_t *bytes, int n, int bits, int shift, int8_t *q)
{
    for (int k = 0; k < 8; k += bits, q += n)
        for (int l = 0; l < n; l++)
            q[l] = (int8_t)(q[l] + ((bytes[l] >> k & ((1 << bits) - 1)) << shift));
}

/* The 12 bytes of Q4_K's and Q5_K's scales and mins, 6 bits each: bytes 0-3 and 4-7 hold the first
   four, and in their two high bits those of the last four, whose nibbles are in bytes 8-11. */
static inline void bits_scales6(const uint8_t *b, int16_t *scale, int16_t *min)
{
    for (int j = 0; j < 4; j++) {
        scale[j] = b[j] & 63;
        min[j] = b[j + 4] & 63;
        scale[j + 4] = (int16_t)((b[j + 8] & 15) | (b[j] >> 6) << 4);
        min[j + 4] = (int16_t)(b[j + 8] >> 4 | (b[j + 4] >> 6) << 4);
    }
}

static inline void bits_pack_scales6(const int16_t *scale, const int16_t *min, uint8_t *b)
{
    for (int j = 0; j < 4; j++) {
        b[j] = (uint8_t)(scale[j] | (scale[j + 4] >> 4) << 6);
        b[j + 4] = (uint8_t)(min[j] | (min[j + 4] >> 4) << 6);
        b[j + 8] = (uint8_t)((scale[j + 4] & 15) | (min[j + 4] & 15) << 4);
    }
}

#endif
