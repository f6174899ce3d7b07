/*
 * One activation with four rows at once: the rows' scales are unpacked side by side, a row in each
 * 128-bit lane. For the formats whose weights are so small that unpacking scales, not memory, would
 * decide on the speed.
 */
#ifndef ATTAR_COMPRESS_KERNELS_DOTS_FOUR_AVX512VNNI_H
#define ATTAR_COMPRESS_KERNELS_DOTS_FOUR_AVX512VNNI_H

#include "compress/kernels/act8.h"
#include "compress/kernels/dots_open_avx512vnni.h"

/* Blocks of four rows. Scales are words: 8 of row r in lane r of scale[0], or 16 of row r in half
   r % 2 of scale[r / 2]; low: for the codes that lie at bit 0, where the others lie at bit 2. Mins
   are words too, those of row r in lane r: 0-7 in min[0], 8-15 in min[1]. */
struct four {
    __m512i scale[2], low[2], min[2];
    __m128 d, dmin;
};

/* How a format lies: the elements of codes k are at[k] + (0 ... 31) and those `gap` behind. */
struct four_traits {
    void (*scales)(const char *const *block, struct four *o);
    void (*codes)(const char *block, __m512i *w);
    int at[4], gap;
    int bytes, subs;
    int less;  /* sum of scale v a = (sum of scale w a - less sum of min a) >> shift */
    int shift; /* codes 2 and 3 are so many bits too high */
};

OPEN_INLINE __m512i four_lanes(const char *const *block, int at)
{
    __m512i x = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)(block[0] + at)));
    x = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)(block[1] + at)), 1);
    x = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)(block[2] + at)), 2);
    return _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)(block[3] + at)), 3);
}

/* 32-bit part i of each lane */
OPEN_INLINE __m128i four_parts(__m512i x, int i)
{
    const __m512i at =
        _mm512_add_epi32(_mm512_castsi128_si512(_mm_setr_epi32(0, 4, 8, 12)), _mm512_set1_epi32(i));
    return _mm512_castsi512_si128(_mm512_permutexvar_epi32(at, x));
}

/* Pairs of halves: d and dmin. */
OPEN_INLINE void four_halves(__m128i pairs, struct four *o)
{
    const __m256 x = _mm256_cvtph_ps(pairs);
    const __m128 lo = _mm256_castps256_ps128(x), hi = _mm256_extractf128_ps(x, 1);
    o->d = _mm_shuffle_ps(lo, hi, 0x88);
    o->dmin = _mm_shuffle_ps(lo, hi, 0xdd);
}

OPEN_INLINE __m512i four_set(int a, int b, int c, int d)
{
    return _mm512_set4_epi32(d, c, b, a);
}

/* 16 bytes of each lane as words, plus bias. */
OPEN_INLINE void four_words(__m512i bytes, int bias, struct four *o)
{
    const __m512i b = _mm512_set1_epi16((short)bias);
    for (int i = 0; i < 2; i++) {
        const __m256i two = i ? _mm512_extracti64x4_epi64(bytes, 1) : _mm512_castsi512_si256(bytes);
        o->scale[i] = _mm512_add_epi16(_mm512_cvtepu8_epi16(two), b);
        o->low[i] = _mm512_slli_epi16(o->scale[i], 2);
    }
}

OPEN_INLINE void four_scales_q2_k(const char *const *block, struct four *o)
{
    const __m512i s = four_lanes(block, offsetof(struct q2_k, scales));
    const __m512i low = _mm512_set1_epi8(15), zero = _mm512_setzero_si512();
    const __m512i scale = _mm512_and_si512(s, low);
    const __m512i min = _mm512_and_si512(_mm512_srli_epi16(s, 4), low);
    four_words(scale, 0, o);
    o->min[0] = _mm512_unpacklo_epi8(min, zero);
    o->min[1] = _mm512_unpackhi_epi8(min, zero);
    const size_t at = offsetof(struct q2_k, d);
    four_halves(_mm_setr_epi32((int)open_u32(block[0] + at), (int)open_u32(block[1] + at),
                               (int)open_u32(block[2] + at), (int)open_u32(block[3] + at)),
                o);
}

OPEN_INLINE void four_codes_q2_k(const char *block, __m512i *w)
{
    const __m512i q = open_load(block + offsetof(struct q2_k, qs)), h = _mm512_srli_epi16(q, 4);
    w[0] = _mm512_and_si512(q, _mm512_set1_epi8(0x03));
    w[2] = _mm512_and_si512(q, _mm512_set1_epi8(0x0c));
    w[1] = _mm512_and_si512(h, _mm512_set1_epi8(0x03));
    w[3] = _mm512_and_si512(h, _mm512_set1_epi8(0x0c));
}

OPEN_INLINE void four_scales_q3_k(const char *const *block, struct four *o)
{
    // to the block's last byte: 2 of the codes, 12 of scales, d
    const __m512i x = four_lanes(block, sizeof(struct q3_k) - 16);
    const __m512i s = _mm512_bsrli_epi128(x, 2);
    const __m512i a = _mm512_srlv_epi32(_mm512_shuffle_epi32(s, 0x44), four_set(0, 0, 4, 4));
    const __m512i b = _mm512_rorv_epi32(_mm512_shuffle_epi32(s, 0xaa), four_set(28, 30, 0, 2));
    const __m512i six =
        open_join(a, _mm512_set1_epi8(15), _mm512_and_si512(b, _mm512_set1_epi8(0x30)));
    const __m512i zero = _mm512_setzero_si512(), bias = _mm512_set1_epi16(32);
    o->min[0] = _mm512_sub_epi16(_mm512_unpacklo_epi8(six, zero), bias);
    o->min[1] = _mm512_sub_epi16(_mm512_unpackhi_epi8(six, zero), bias);
    four_words(six, -32, o);
    four_halves(_mm_srli_epi32(four_parts(x, 3), 16), o);
}

OPEN_INLINE void four_codes_q3_k(const char *block, __m512i *w)
{
    const __m512i q = open_load(block + offsetof(struct q3_k, qs)), h = _mm512_srli_epi16(q, 4);
    const __m512i high = open_rotate(open_twice(block), 0, 4); // bits 0-3 of each half's codes
    const __m512i at2 = _mm512_set1_epi8(0x04), at4 = _mm512_set1_epi8(0x10);
    const __m512i low = _mm512_set1_epi8(0x03), mid = _mm512_set1_epi8(0x0c);
    w[0] = open_join(q, low, _mm512_and_si512(_mm512_slli_epi16(high, 2), at2));
    w[2] = open_join(q, mid, _mm512_and_si512(_mm512_slli_epi16(high, 3), at4));
    w[1] = open_join(h, low, _mm512_and_si512(high, at2));
    w[3] = open_join(h, mid, _mm512_and_si512(_mm512_slli_epi16(high, 1), at4));
}

/* Q4_K's and Q5_K's, whose blocks begin alike: d, dmin, 12 bytes of scales. */
OPEN_INLINE void four_scales_q4_k(const char *const *block, struct four *o)
{
    const __m512i x = four_lanes(block, 0);
    const int six = 0x3f3f3f3f, low = 0x0f0f0f0f, high = 0x30303030;
    const __m512i a = _mm512_srlv_epi32(_mm512_shuffle_epi32(x, 0xed), four_set(0, 0, 0, 4));
    const __m512i b = _mm512_srli_epi32(_mm512_shuffle_epi32(x, 0x84), 2);
    // scales 0-3, 4-7, mins 0-3, 4-7
    const __m512i s =
        open_join(a, four_set(six, low, six, low), _mm512_and_si512(b, four_set(0, high, 0, high)));
    o->scale[0] = _mm512_unpacklo_epi8(s, _mm512_setzero_si512());
    o->min[0] = _mm512_unpackhi_epi8(s, _mm512_setzero_si512());
    o->min[1] = _mm512_setzero_si512();
    four_halves(four_parts(x, 0), o);
}

OPEN_INLINE void four_codes_q4_k(const char *block, __m512i *w)
{
    const __m512i low = _mm512_set1_epi8(15);
    for (int i = 0; i < 2; i++) {
        const __m512i q = open_load(block + offsetof(struct q4_k, qs) + 64 * i);
        w[2 * i] = _mm512_and_si512(q, low);
        w[2 * i + 1] = _mm512_and_si512(_mm512_srli_epi16(q, 4), low);
    }
}

OPEN_INLINE void four_codes_q5_k(const char *block, __m512i *w)
{
    const __m512i low = _mm512_set1_epi8(15), at4 = _mm512_set1_epi8(16);
    // bits 0, 1, 4, 5 of the lower half's elements, 2, 3, 6, 7 of the upper half's
    const __m512i high = open_rotate(open_twice(block + offsetof(struct q5_k, qh)), 0, 2);
    const __m512i h[4] = {_mm512_slli_epi16(high, 4), _mm512_slli_epi16(high, 3), high,
                          _mm512_srli_epi16(high, 1)};
    for (int i = 0; i < 2; i++) {
        const __m512i q = open_load(block + offsetof(struct q5_k, qs) + 64 * i);
        w[2 * i] = open_join(q, low, _mm512_and_si512(h[2 * i], at4));
        w[2 * i + 1] = open_join(_mm512_srli_epi16(q, 4), low, _mm512_and_si512(h[2 * i + 1], at4));
    }
}

/* Row r's scales of codes 2h and 2h + 1, whose sums of four products are packed into one vector. */
OPEN_INLINE __m512i four_spread(const struct four *o, const struct four_traits *f, int r, int h)
{
    const int size = 256 / f->subs, first = f->subs == 8 ? 8 * r : 16 * (r % 2);
    int64_t at[8];
    for (int lane = 0; lane < 4; lane++)
        for (int k = 0; k < 2; k++) {
            const int e = f->at[2 * h + k] + (lane < 2 ? 0 : f->gap) + 16 * (lane % 2);
            at[2 * lane + k] = (first + e / size) * 0x0001000100010001;
        }
    const __m512i words = _mm512_setr_epi64(at[0], at[1], at[2], at[3], at[4], at[5], at[6], at[7]);
    const int from = f->subs == 8 ? 0 : r / 2;
    return _mm512_permutexvar_epi16(words, f->shift && !h ? o->low[from] : o->scale[from]);
}

/* Sums of scale w a of a row, over the lanes: pairs of sums of four products fit 16 bits. */
OPEN_INLINE __m512i four_dot(const struct four *o, const struct four_traits *f, int r,
                             const __m512i w[4], const int8_t (*x)[64])
{
    __m512i s[2];
    for (int h = 0; h < 2; h++) {
        const __m512i zero = _mm512_setzero_si512();
        const __m512i a = _mm512_dpbusd_epi32(zero, w[2 * h], open_load(x[2 * h]));
        const __m512i b = _mm512_dpbusd_epi32(zero, w[2 * h + 1], open_load(x[2 * h + 1]));
        s[h] = _mm512_madd_epi16(_mm512_packs_epi32(a, b), four_spread(o, f, r, h));
    }
    return _mm512_add_epi32(s[0], s[1]);
}

/* Sums of min a, a lane each. */
OPEN_INLINE __m128i four_mins(const struct four *o, const struct four_traits *f,
                              const struct act8 *a)
{
    __m512i s;
    if (f->subs == 8)
        s = _mm512_madd_epi16(o->min[0],
                              _mm512_broadcast_i32x4(_mm_load_si128((const __m128i *)a->sum32)));
    else
        s = _mm512_add_epi32(_mm512_madd_epi16(o->min[0], _mm512_broadcast_i32x4(_mm_load_si128(
                                                              (const __m128i *)a->sum))),
                             _mm512_madd_epi16(o->min[1], _mm512_broadcast_i32x4(_mm_load_si128(
                                                              (const __m128i *)(a->sum + 8)))));
    s = _mm512_add_epi32(s, _mm512_shuffle_epi32(s, 0xb1));
    s = _mm512_add_epi32(s, _mm512_shuffle_epi32(s, 0x4e));
    return four_parts(s, 0);
}

/* An activation's elements in the order of the codes. */
enum { FOUR_MOST = 128 }; /* blocks of a row */

OPEN_INLINE void four_order(const struct four_traits *f, const struct act8 *a, int64_t blocks,
                            int8_t (*x)[4][64])
{
    for (int64_t b = 0; b < blocks; b++)
        for (int k = 0; k < 4; k++) {
            memcpy(x[b][k], a[b].q + f->at[k], 32);
            memcpy(x[b][k] + 32, a[b].q + f->at[k] + f->gap, 32);
        }
}

static const struct four_traits q2_k_four = {
    four_scales_q2_k, four_codes_q2_k, {0, 64, 32, 96}, 128, sizeof(struct q2_k), 16, 0, 2};
static const struct four_traits q3_k_four = {
    four_scales_q3_k, four_codes_q3_k, {0, 64, 32, 96}, 128, sizeof(struct q3_k), 16, 16, 2};
static const struct four_traits q4_k_four = {
    four_scales_q4_k, four_codes_q4_k, {0, 32, 128, 160}, 64, sizeof(struct q4_k), 8, 0, 0};
static const struct four_traits q5_k_four = {
    four_scales_q4_k, four_codes_q5_k, {0, 32, 128, 160}, 64, sizeof(struct q5_k), 8, 0, 0};

#endif
