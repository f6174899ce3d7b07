/*
 * Blocks of 256 weights opened into registers of AVX-512, for the dots and panels of that
 * instruction set: codes as unsigned bytes in the order of the row, and the codes of their scales.
 */
#ifndef ATTAR_COMPRESS_KERNELS_DOTS_OPEN_AVX512VNNI_H
#define ATTAR_COMPRESS_KERNELS_DOTS_OPEN_AVX512VNNI_H

#include <immintrin.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "autograd/base/half.h"
#include "compress/codecs/blocks.h"
#include "compress/codecs/grid.h"

#define OPEN_INLINE static inline __attribute__((always_inline))

/*
 * sum of scale v a = (sum of scale w a - sum of offset a) >> shift, the first over the elements,
 * the second over the sums of 16 activations. Some codes stay at the bits where they lie, 4 times
 * too large; their scales are then as they are, the others' scales 4 times too large.
 */
struct open {
    __m512i w[4];
    __m256i scale, offset, min; /* of 16 elements each */
};

/* What the compiler knows of a format. */
struct open_traits {
    void (*open)(const void *block, struct open *o);
    int bytes, at; /* of a block; where d is, and behind it dmin */
    int less;      /* w - less (in codes at bit 0) is the level */
    int shift;
    bool min, offset;
    bool big; /* w takes all 8 bits: its products with activations do not fit 16 */
};

OPEN_INLINE __m512i open_load(const void *p)
{
    return _mm512_loadu_si512(p);
}

/* 32 bytes, twice */
OPEN_INLINE __m512i open_twice(const void *p)
{
    return _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)p));
}

/* 32 times the byte lo, 32 times hi */
OPEN_INLINE __m512i open_halves(int lo, int hi)
{
    const __m256i l = _mm256_set1_epi8((char)lo);
    return _mm512_inserti64x4(_mm512_castsi256_si512(l), _mm256_set1_epi8((char)hi), 1);
}

/* Bytes rotated to the right by lo and hi bits; what crosses bytes is masked by the caller. */
OPEN_INLINE __m512i open_rotate(__m512i x, int lo, int hi)
{
    const __m256i l = _mm256_set1_epi64x(lo & 63);
    return _mm512_rorv_epi64(x, _mm512_inserti64x4(_mm512_castsi256_si512(l),
                                                   _mm256_set1_epi64x(hi & 63), 1));
}

/* (x & mask) | y */
OPEN_INLINE __m512i open_join(__m512i x, __m512i mask, __m512i y)
{
    return _mm512_ternarylogic_epi64(x, mask, y, 0xea);
}

OPEN_INLINE uint32_t open_u32(const void *p)
{
    uint32_t u;
    memcpy(&u, p, sizeof u);
    return u;
}

/* Lane l: sums of those lanes of a, b, c, d, a ... that lie in one 128-bit part. */
OPEN_INLINE __m512i open_sums(const __m512i *v)
{
    const __m512i a =
        _mm512_add_epi32(_mm512_unpacklo_epi32(v[0], v[1]), _mm512_unpackhi_epi32(v[0], v[1]));
    const __m512i b =
        _mm512_add_epi32(_mm512_unpacklo_epi32(v[2], v[3]), _mm512_unpackhi_epi32(v[2], v[3]));
    return _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}

/* Scales of 16 elements at a time where groups of 32 lie at bits 0 and 2 in turn. */
OPEN_INLINE __m256i open_leveled(__m256i scale)
{
    return _mm256_sllv_epi16(scale, _mm256_set1_epi64x(0x20002));
}

OPEN_INLINE void open_q2_k(const void *block, struct open *o)
{
    const struct q2_k *b = block;
    const __m512i mask = open_halves(0x03, 0x0c);
    const __m512i x = open_twice(b->qs), y = open_twice(b->qs + 32);
    o->w[0] = _mm512_and_si512(x, mask);
    o->w[1] = _mm512_and_si512(_mm512_srli_epi16(x, 4), mask);
    o->w[2] = _mm512_and_si512(y, mask);
    o->w[3] = _mm512_and_si512(_mm512_srli_epi16(y, 4), mask);
    const __m128i s = _mm_loadu_si128((const __m128i *)b->scales), low = _mm_set1_epi8(15);
    o->scale = open_leveled(_mm256_cvtepu8_epi16(_mm_and_si128(s, low)));
    o->min = _mm256_cvtepu8_epi16(_mm_and_si128(_mm_srli_epi16(s, 4), low));
}

OPEN_INLINE __m512i open_q3_part(__m512i q, __m512i high, int i)
{
    // bit 2i of the high ones joins at bit 2, bit 2i + 1 at bit 4
    const __m512i h = _mm512_and_si512(open_rotate(high, 2 * i - 2, 2 * i - 3), open_halves(4, 16));
    return open_join(q, open_halves(0x03, 0x0c), h);
}

OPEN_INLINE void open_q3_k(const void *block, struct open *o)
{
    const struct q3_k *b = block;
    const __m512i x = open_twice(b->qs), y = open_twice(b->qs + 32), high = open_twice(b->hmask);
    o->w[0] = open_q3_part(x, high, 0);
    o->w[1] = open_q3_part(_mm512_srli_epi16(x, 4), high, 1);
    o->w[2] = open_q3_part(y, high, 2);
    o->w[3] = open_q3_part(_mm512_srli_epi16(y, 4), high, 3);
    const uint32_t p = open_u32(b->scales), q = open_u32(b->scales + 4);
    const uint32_t r = open_u32(b->scales + 8), low = 0x0f0f0f0f, two = 0x03030303;
    const __m128i s =
        _mm_setr_epi32((int)((p & low) | (r & two) << 4), (int)((q & low) | (r >> 2 & two) << 4),
                       (int)((p >> 4 & low) | (r >> 4 & two) << 4),
                       (int)((q >> 4 & low) | (r >> 6 & two) << 4));
    const __m256i scale = _mm256_sub_epi16(_mm256_cvtepu8_epi16(s), _mm256_set1_epi16(32));
    o->scale = open_leveled(scale);
    o->offset = _mm256_slli_epi16(scale, 4);
}

/* Q4_K's and Q5_K's: 8 scales, 8 mins, each for two runs of 16 elements. */
OPEN_INLINE void open_scales6(const uint8_t *b, struct open *o)
{
    const uint32_t p = open_u32(b), q = open_u32(b + 4), r = open_u32(b + 8);
    const uint32_t six = 0x3f3f3f3f, low = 0x0f0f0f0f, two = 0x03030303;
    const __m128i x = _mm_setr_epi32((int)(p & six), (int)((r & low) | (p >> 6 & two) << 4),
                                     (int)(q & six), (int)((r >> 4 & low) | (q >> 6 & two) << 4));
    const __m256i twice = _mm256_broadcastsi128_si256(x);
    const __m256i scales = _mm256_setr_epi8(0, -1, 0, -1, 1, -1, 1, -1, 2, -1, 2, -1, 3, -1, 3, -1,
                                            4, -1, 4, -1, 5, -1, 5, -1, 6, -1, 6, -1, 7, -1, 7, -1);
    o->scale = _mm256_shuffle_epi8(twice, scales);
    o->min = _mm256_shuffle_epi8(twice, _mm256_or_si256(scales, _mm256_set1_epi16(8)));
}

OPEN_INLINE __m512i open_nibbles(const uint8_t *q)
{
    const __m256i four = _mm256_set1_epi16(4);
    const __m512i by = _mm512_inserti64x4(_mm512_setzero_si512(), four, 1);
    return _mm512_srlv_epi16(open_twice(q), by);
}

OPEN_INLINE void open_q4_k(const void *block, struct open *o)
{
    const struct q4_k *b = block;
    for (int i = 0; i < 4; i++)
        o->w[i] = _mm512_and_si512(open_nibbles(b->qs + 32 * i), _mm512_set1_epi8(15));
    open_scales6(b->scales, o);
}

OPEN_INLINE void open_q5_k(const void *block, struct open *o)
{
    const struct q5_k *b = block;
    const __m512i high = open_twice(b->qh);
    for (int i = 0; i < 4; i++) {
        const __m512i h = open_rotate(high, 2 * i - 4, 2 * i - 3);
        o->w[i] = open_join(open_nibbles(b->qs + 32 * i), _mm512_set1_epi8(15),
                            _mm512_and_si512(h, _mm512_set1_epi8(16)));
    }
    open_scales6(b->scales, o);
}

OPEN_INLINE void open_q6_k(const void *block, struct open *o)
{
    const struct q6_k *b = block;
    const __m512i low = _mm512_set1_epi8(15), two = _mm512_set1_epi8(0x30);
    for (int i = 0; i < 2; i++) {
        const __m512i q = open_load(b->ql + 64 * i), h = open_twice(b->qh + 32 * i);
        o->w[2 * i] = open_join(q, low, _mm512_and_si512(open_rotate(h, -4, -2), two));
        o->w[2 * i + 1] =
            open_join(_mm512_srli_epi16(q, 4), low, _mm512_and_si512(open_rotate(h, 0, 2), two));
    }
    o->scale = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)b->scales));
    o->offset = _mm256_slli_epi16(o->scale, 5);
}

OPEN_INLINE void open_tq2_0(const void *block, struct open *o)
{
    const struct tq2_0 *b = block;
    const __m512i mask = open_halves(0x03, 0x0c);
    const __m512i x = open_twice(b->qs), y = open_twice(b->qs + 32);
    o->w[0] = _mm512_and_si512(x, mask);
    o->w[1] = _mm512_and_si512(_mm512_srli_epi16(x, 4), mask);
    o->w[2] = _mm512_and_si512(y, mask);
    o->w[3] = _mm512_and_si512(_mm512_srli_epi16(y, 4), mask);
    o->scale = open_leveled(_mm256_set1_epi16(1));
    o->offset = _mm256_set1_epi16(4);
}

/* By the format's grid: codes or levels, and how much is added to make them unsigned. */
OPEN_INLINE void open_grid(const struct grid *g, const void *block, int less, struct open *o)
{
    int8_t v[GRID_BLOCK] __attribute__((aligned(64)));
    struct grid_scales s;
    g->unpack(block, v);
    g->get(block, &s);
    for (int i = 0; i < 4; i++) {
        o->w[i] = open_load(v + 64 * i);
        if (g->level)
            o->w[i] = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(
                                              _mm_loadu_si128((const __m128i *)g->level)),
                                          o->w[i]);
        o->w[i] = _mm512_add_epi8(o->w[i], _mm512_set1_epi8((char)less));
    }
    int16_t scale[GRID_SUBS];
    for (int i = 0; i < GRID_SUBS; i++)
        scale[i] = s.scale[i * g->subs / GRID_SUBS];
    o->scale = _mm256_loadu_si256((const __m256i *)scale);
    o->offset = _mm256_mullo_epi16(o->scale, _mm256_set1_epi16((short)less));
}

OPEN_INLINE void open_tq1_0(const void *block, struct open *o)
{
    open_grid(&tq1_0_grid, block, 1, o);
}

OPEN_INLINE void open_iq4_xs(const void *block, struct open *o)
{
    const struct iq4_xs *b = block;
    const __m128i level =
        _mm_add_epi8(_mm_loadu_si128((const __m128i *)iq4_nl_levels), _mm_set1_epi8((char)128));
    const __m512i levels = _mm512_broadcast_i32x4(level);
    const __m512i by = _mm512_setr_epi64(0, 0, 0x0004000400040004, 0x0004000400040004, 0, 0,
                                         0x0004000400040004, 0x0004000400040004);
    for (int i = 0; i < 4; i++) { // 16 codes low, 16 high, twice
        const __m512i q = open_twice(b->qs + 32 * i);
        const __m512i each = _mm512_srlv_epi16(_mm512_shuffle_i64x2(q, q, 0x50), by);
        o->w[i] = _mm512_shuffle_epi8(levels, _mm512_and_si512(each, _mm512_set1_epi8(15)));
    }
    const __m256i at = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i low =
        _mm256_srlv_epi32(_mm256_set1_epi32((int)open_u32(b->scales_l)), _mm256_slli_epi32(at, 2));
    const __m256i high =
        _mm256_srlv_epi32(_mm256_set1_epi32(b->scales_h), _mm256_slli_epi32(at, 1));
    const __m256i six =
        _mm256_or_si256(_mm256_and_si256(low, _mm256_set1_epi32(15)),
                        _mm256_slli_epi32(_mm256_and_si256(high, _mm256_set1_epi32(3)), 4));
    o->scale =
        _mm256_sub_epi16(_mm256_or_si256(six, _mm256_slli_epi32(six, 16)), _mm256_set1_epi16(32));
    o->offset = _mm256_slli_epi16(o->scale, 7);
}

/* OPEN_FORMAT(stem, less, shift, min, offset, big): the formats of 256 */
#define OPEN_FORMATS(OPEN_FORMAT)                                                                  \
    OPEN_FORMAT(q2_k, 0, 2, true, false, false)                                                    \
    OPEN_FORMAT(q3_k, 4, 2, false, true, false)                                                    \
    OPEN_FORMAT(q4_k, 0, 0, true, false, false)                                                    \
    OPEN_FORMAT(q5_k, 0, 0, true, false, false)                                                    \
    OPEN_FORMAT(q6_k, 32, 0, false, true, false)                                                   \
    OPEN_FORMAT(iq4_xs, 128, 0, false, true, true)                                                 \
    OPEN_FORMAT(tq1_0, 1, 0, false, true, false)                                                   \
    OPEN_FORMAT(tq2_0, 1, 2, false, true, false)

#define OPEN_TRAITS(stem, less, shift, min, offset, big)                                           \
    static const struct open_traits stem##_traits = {open_##stem,                                  \
                                                     sizeof(struct stem),                          \
                                                     offsetof(struct stem, d),                     \
                                                     less,                                         \
                                                     shift,                                        \
                                                     min,                                          \
                                                     offset,                                       \
                                                     big};
OPEN_FORMATS(OPEN_TRAITS)
#undef OPEN_TRAITS

#endif
