/*
 * Formats of 32 (Q4_0 ... IQ4_NL): eight blocks of each of four rows at once. 128-bit lane l of
 * vector s belongs to block SMALL_BLOCK(s, l), so that a lane has the blocks of one of the
 * parts of dots.h. In a lane, four parts of one row's block become one sum each of four rows.
 */
#ifndef ATTAR_COMPRESS_KERNELS_DOTS_SMALL_AVX512VNNI_H
#define ATTAR_COMPRESS_KERNELS_DOTS_SMALL_AVX512VNNI_H

#include "compress/kernels/act8.h"
#include "compress/kernels/dots.h"
#include "compress/kernels/dots_open_avx512vnni.h"

/* 0 4 2 6, 1 5 3 7 */
#define SMALL_BLOCK(s, l) ((s) + 4 * ((l) % 2) + 2 * ((l) / 2))

enum { SMALL_GROUP = ACT8_RUNS }; /* blocks */

/* A group of an activation, in the order of codes. */
struct small_act {
    int8_t x[4][64];
    float e[2][16]; /* scale of a block's elements, in its lane */
    union {
        int32_t less[2][16]; /* formats without mins: sum of a block's elements, times what codes
                                are above levels */
        float sum[2][16];    /* with mins: that sum times the scale */
    };
};

/* What the compiler knows of a format. */
struct small_traits {
    __m512i (*two)(const char *block, const char *other); /* codes of two blocks, in order */
    __m512i (*four)(__m512i nibbles);                     /* codes of nibbles; NULL: by two() */
    int bytes;                                            /* of a block */
    int less;                                             /* code - less is the level */
    bool min;
};

/* ---- codes ---- */

OPEN_INLINE __m512i small_twice_16(const void *p, const void *q)
{
    const __m512i x = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)p));
    return _mm512_mask_broadcast_i32x4(x, 0xff00, _mm_loadu_si128((const __m128i *)q));
}

OPEN_INLINE __m512i small_nibbles(const void *p, const void *q)
{
    const __m512i by = _mm512_setr_epi64(0, 0, 0x0004000400040004, 0x0004000400040004, 0, 0,
                                         0x0004000400040004, 0x0004000400040004);
    return _mm512_and_si512(_mm512_srlv_epi16(small_twice_16(p, q), by), _mm512_set1_epi8(15));
}

/* With a fifth bit: bit i of p_high that of element i. */
OPEN_INLINE __m512i small_fives(const void *p, const void *q, const void *p_high,
                                const void *q_high)
{
    const uint64_t high = open_u32(p_high) | (uint64_t)open_u32(q_high) << 32;
    const __m512i w = small_nibbles(p, q);
    return _mm512_mask_add_epi8(w, (__mmask64)high, w, _mm512_set1_epi8(16));
}

OPEN_INLINE __m512i small_plain(__m512i nibbles)
{
    return nibbles;
}

OPEN_INLINE __m512i small_iq4(__m512i nibbles)
{
    const __m128i level =
        _mm_add_epi8(_mm_loadu_si128((const __m128i *)iq4_nl_levels), _mm_set1_epi8((char)128));
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(level), nibbles);
}

OPEN_INLINE __m512i small_two_q4_0(const char *p, const char *q)
{
    const size_t at = offsetof(struct q4_0, qs);
    return small_nibbles(p + at, q + at);
}

OPEN_INLINE __m512i small_two_q4_1(const char *p, const char *q)
{
    const size_t at = offsetof(struct q4_1, qs);
    return small_nibbles(p + at, q + at);
}

OPEN_INLINE __m512i small_two_iq4_nl(const char *p, const char *q)
{
    return small_iq4(small_two_q4_0(p, q)); // blocks alike
}

OPEN_INLINE __m512i small_two_q5_0(const char *p, const char *q)
{
    const size_t at = offsetof(struct q5_0, qs), high = offsetof(struct q5_0, qh);
    return small_fives(p + at, q + at, p + high, q + high);
}

OPEN_INLINE __m512i small_two_q5_1(const char *p, const char *q)
{
    const size_t at = offsetof(struct q5_1, qs), high = offsetof(struct q5_1, qh);
    return small_fives(p + at, q + at, p + high, q + high);
}

OPEN_INLINE __m512i small_two_q8_0(const char *p, const char *q)
{
    const size_t at = offsetof(struct q8_0, qs);
    const __m256i x = _mm256_loadu_si256((const __m256i *)(p + at));
    const __m256i y = _mm256_loadu_si256((const __m256i *)(q + at));
    return _mm512_xor_si512(_mm512_inserti64x4(_mm512_castsi256_si512(x), y, 1),
                            _mm512_set1_epi8((char)128));
}

/* The 16 bytes of nibbles of blocks SMALL_BLOCK(s, 0 ... 3), which end a block. */
OPEN_INLINE __m512i small_gather(const char *group, int bytes, int s)
{
    const int block = bytes / 2, at = block - 8; // in words, as what follows
    const int first = s * block + at;
    // not behind the group's end
    const int last = s ? SMALL_GROUP * block - 32 : SMALL_BLOCK(0, 1) * block + at;
    int64_t from[4];
    for (int l = 0; l < 4; l++) {
        const int word = SMALL_BLOCK(s, l) * block + at;
        from[l] = (l % 2 ? 32 + word - last : word - first) * 0x0001000100010001;
    }
    const int64_t lo = 0x0003000200010000, hi = 0x0007000600050004;
    const __m512i words = _mm512_setr_epi64(from[0] + lo, from[0] + hi, from[1] + lo, from[1] + hi,
                                            from[2] + lo, from[2] + hi, from[3] + lo, from[3] + hi);
    return _mm512_permutex2var_epi16(open_load(group + 2 * first), words,
                                     open_load(group + 2 * last));
}

/* codes w[2 s], w[2 s + 1]: by four(), elements 0-15, then 16-31 of the four blocks of vector s;
   else all those of the blocks of lanes 0 and 1, then of 2 and 3. */
OPEN_INLINE void small_codes(const struct small_traits *f, const char *group, __m512i w[4])
{
    const __m512i low = _mm512_set1_epi8(15);
    for (int s = 0; s < 2; s++) {
        if (f->four) {
            const __m512i q = small_gather(group, f->bytes, s);
            w[2 * s] = f->four(_mm512_and_si512(q, low));
            w[2 * s + 1] = f->four(_mm512_and_si512(_mm512_srli_epi16(q, 4), low));
            continue;
        }
        for (int h = 0; h < 2; h++)
            w[2 * s + h] = f->two(group + SMALL_BLOCK(s, 2 * h) * f->bytes,
                                  group + SMALL_BLOCK(s, 2 * h + 1) * f->bytes);
    }
}

OPEN_INLINE void small_order(const struct small_traits *f, const struct act8 *a,
                             struct small_act *o)
{
    for (int s = 0; s < 2; s++)
        for (int l = 0; l < 4; l++) {
            const int k = SMALL_BLOCK(s, l);
            const int8_t *q = a->q + 32 * k;
            if (f->four) {
                memcpy(o->x[2 * s] + 16 * l, q, 16);
                memcpy(o->x[2 * s + 1] + 16 * l, q + 16, 16);
            } else {
                memcpy(o->x[2 * s + l / 2] + l % 2 * 32, q, 32);
            }
        }
    const __m512i all =
        _mm512_zextsi256_si512(_mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)a->sum32)));
    const __m512 scale = _mm512_castps256_ps512(_mm256_loadu_ps(a->d32));
    for (int s = 0; s < 2; s++) {
        const __m512i from =
            _mm512_add_epi32(_mm512_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4, 2, 2, 2, 2, 6, 6, 6, 6),
                             _mm512_set1_epi32(s));
        const __m512 e = _mm512_permutexvar_ps(from, scale);
        const __m512i sum = _mm512_permutexvar_epi32(from, all);
        _mm512_storeu_ps(o->e[s], e);
        if (f->min)
            _mm512_storeu_ps(o->sum[s], _mm512_mul_ps(e, _mm512_cvtepi32_ps(sum)));
        else
            _mm512_storeu_si512(o->less[s], _mm512_mullo_epi32(sum, _mm512_set1_epi32(f->less)));
    }
}

/* Sums of code a of a row over its lane's elements: sum[s]. */
OPEN_INLINE void small_dot(const struct small_traits *f, const __m512i w[4],
                           const struct small_act *a, __m512i sum[2])
{
    const __m512i zero = _mm512_setzero_si512();
    for (int s = 0; s < 2; s++) {
        const __m512i x = open_load(a->x[2 * s]), y = open_load(a->x[2 * s + 1]);
        const __m512i p = _mm512_dpbusd_epi32(zero, w[2 * s], x);
        if (f->four) {
            sum[s] = _mm512_dpbusd_epi32(p, w[2 * s + 1], y);
            continue;
        }
        const __m512i q = _mm512_dpbusd_epi32(zero, w[2 * s + 1], y);
        sum[s] =
            _mm512_add_epi32(_mm512_shuffle_i32x4(p, q, 0x88), _mm512_shuffle_i32x4(p, q, 0xdd));
    }
}

/* ---- scales ---- */

/* From two or four vectors of a row: blocks 0-3 and 4-7, or two each. */
OPEN_INLINE __m512i small_row_halves(const char *group, int bytes, int at, int row, __m512i all)
{
    const int block = bytes / 2, n = 3 * block + 2 <= 32 ? 4 : 2; // blocks of a vector
    const int last = (SMALL_GROUP - 2) * block, end = SMALL_GROUP * block - 32;
    const int base[4] = {0, 2 * block, 4 * block, last < end ? last : end};
    int64_t from[8]; // 64-bit part 4 s + l: lane l of vector s
    for (int i = 0; i < 8; i++) {
        const int k = SMALL_BLOCK(i / 4, i % 4), word = k * block + at;
        const int where =
            n == 4 ? word - k / 4 * 4 * block + k / 4 * 32 : word - base[k / 2] + k / 2 % 2 * 32;
        from[i] = where * 0x0001000100010001;
    }
    const __m512i words =
        _mm512_setr_epi64(from[0], from[1], from[2], from[3], from[4], from[5], from[6], from[7]);
    const __mmask32 rows = 0x11111111u << row;
    if (n == 4)
        return _mm512_or_si512(all, _mm512_maskz_permutex2var_epi16(rows, open_load(group), words,
                                                                    open_load(group + 8 * block)));
    const __m512i lo = _mm512_maskz_permutex2var_epi16(rows & 0x0f0f0f0fu, open_load(group), words,
                                                       open_load(group + 2 * base[1]));
    const __m512i hi =
        _mm512_maskz_permutex2var_epi16(rows & 0xf0f0f0f0u, open_load(group + 2 * base[2]), words,
                                        open_load(group + 2 * base[3]));
    return _mm512_or_si512(all, _mm512_or_si512(lo, hi));
}

/* The halves at word `at` of every block of four rows, as f32: in the order of the sums. */
OPEN_INLINE void small_halves(const char *const group[4], int bytes, int at, __m512 v[2])
{
    __m512i all = _mm512_setzero_si512();
    for (int r = 0; r < 4; r++)
        all = small_row_halves(group[r], bytes, at, r, all);
    v[0] = _mm512_cvtph_ps(_mm512_castsi512_si256(all));
    v[1] = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(all, 1));
}

/* p, the parts of dots.h (0, 2, 1, 3) of four rows each, plus a group's sums. */
OPEN_INLINE __m512 small_add(const struct small_traits *f, const __m512 d[2], const __m512 m[2],
                             const __m512i sum[2], const struct small_act *a, __m512 p)
{
    for (int s = 0; s < 2; s++) {
        const __m512 de = _mm512_mul_ps(d[s], _mm512_loadu_ps(a->e[s]));
        const __m512i all = f->min ? sum[s] : _mm512_sub_epi32(sum[s], open_load(a->less[s]));
        p = _mm512_fmadd_ps(de, _mm512_cvtepi32_ps(all), p);
        if (f->min)
            p = _mm512_fmadd_ps(m[s], _mm512_loadu_ps(a->sum[s]), p);
    }
    return p;
}

OPEN_INLINE __m128 small_total(__m512 p)
{
    const __m256 u = _mm256_add_ps(_mm512_castps512_ps256(p), _mm512_extractf32x8_ps(p, 1));
    return _mm_add_ps(_mm256_castps256_ps128(u), _mm256_extractf128_ps(u, 1));
}

/* SMALL_FORMAT(stem, nibbles, less, min) */
#define SMALL_FORMATS(SMALL_FORMAT)                                                                \
    SMALL_FORMAT(q4_0, small_plain, 8, false)                                                      \
    SMALL_FORMAT(q4_1, small_plain, 0, true)                                                       \
    SMALL_FORMAT(q5_0, NULL, 16, false)                                                            \
    SMALL_FORMAT(q5_1, NULL, 0, true)                                                              \
    SMALL_FORMAT(q8_0, NULL, 128, false)                                                           \
    SMALL_FORMAT(iq4_nl, small_iq4, 128, false)

#define SMALL_TRAITS(stem, nibbles, less, min)                                                     \
    static const struct small_traits stem##_small = {small_two_##stem, nibbles,                    \
                                                     sizeof(struct stem), less, min};
SMALL_FORMATS(SMALL_TRAITS)
#undef SMALL_TRAITS

dots_fn dots_small_q4_0, dots_small_q4_1, dots_small_q5_0, dots_small_q5_1, dots_small_q8_0,
    dots_small_iq4_nl;

#endif
