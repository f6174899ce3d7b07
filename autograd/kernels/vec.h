/*
 * The few vector operations that kernels need, for the instruction set that the including file is
 * compiled for; the last ones, of single floats, if it defines VEC_SCALAR. vf: VF_N floats; loads
 * and stores need no alignment.
 */
#ifndef ATTAR_AUTOGRAD_KERNELS_VEC_H
#define ATTAR_AUTOGRAD_KERNELS_VEC_H

#include <stdint.h>

// a line each, for comparing the instruction sets
// clang-format off
#if defined VEC_SCALAR
typedef float vf;
enum { VF_N = 1 };
static inline vf vf_load(const float *p) { return *p; }
static inline void vf_store(float *p, vf x) { *p = x; }
static inline vf vf_set(float x) { return x; }
static inline vf vf_max(vf a, vf b) { return a > b ? a : b; }
static inline vf vf_min(vf a, vf b) { return a < b ? a : b; }
/* below 2^22; beyond it is off by 2 at most */
static inline vf vf_round(vf a) { return a + 0x1.8p23f - 0x1.8p23f; }
static inline vf vf_pick_less(vf a, vf b, vf x, vf y) { return a < b ? x : y; }
static inline vf vf_number(vf a) { return a == a ? a : 0; }
static inline vf vf_load_i8(const int8_t *p) { return *p; }
static inline void vf_store_i8(int8_t *p, vf x) { *p = (int8_t)x; }
static inline void vf_transpose(vf r[VF_N]) { (void)r; }
/* v [16] <- table [16] at q [16], each 0 ... 15 */
static inline void bytes_lookup(const int8_t *table, const int8_t *q, int8_t *v)
{
    for (int i = 0; i < 16; i++)
        v[i] = table[q[i]];
}
#elif defined __AVX512F__
#include <immintrin.h>
typedef __m512 vf;
enum { VF_N = 16 };
static inline vf vf_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void vf_store(float *p, vf x) { _mm512_storeu_ps(p, x); }
static inline vf vf_set(float x) { return _mm512_set1_ps(x); }
static inline vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
static inline vf vf_max(vf a, vf b) { return _mm512_max_ps(a, b); }
static inline vf vf_min(vf a, vf b) { return _mm512_min_ps(a, b); }
static inline vf vf_sqrt(vf a) { return _mm512_sqrt_ps(a); }
static inline vf vf_round(vf a) { return _mm512_roundscale_ps(a, 8); }
/* x where a < b, else y: y for NaN */
static inline vf vf_pick_less(vf a, vf b, vf x, vf y)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}
/* a, 0 where it is NaN */
static inline vf vf_number(vf a)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, a, _CMP_ORD_Q), a);
}
/* integral floats in [-128, 127] */
static inline void vf_store_i8(int8_t *p, vf x)
{
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x)));
}
static inline float vf_sum(vf a) { return _mm512_reduce_add_ps(a); }
static inline float vf_top(vf a) { return _mm512_reduce_max_ps(a); }
/* bf16 <-> f32: rounds to nearest, ties to even; NaN stays NaN, and quiet */
static inline vf vf_widen(const uint16_t *p)
{
    const __m256i h = _mm256_loadu_si256((const __m256i *)(const void *)p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}
static inline vf vf_rounded(vf x) /* in the high halves; the low ones are arbitrary */
{
    const __m512i u = _mm512_castps_si512(x);
    const __mmask16 odd = _mm512_test_epi32_mask(u, _mm512_set1_epi32(0x10000));
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    __m512i r = _mm512_add_epi32(u, _mm512_set1_epi32(0x7fff));
    r = _mm512_mask_add_epi32(r, odd, u, _mm512_set1_epi32(0x8000));
    return _mm512_castsi512_ps(_mm512_mask_or_epi32(r, nan, u, _mm512_set1_epi32(0x400000)));
}
static inline void vf_narrow(uint16_t *p, vf x)
{
    const __m512i r = _mm512_castps_si512(vf_rounded(x));
    const __m256i h = _mm512_cvtepi32_epi16(_mm512_srli_epi32(r, 16));
    _mm256_storeu_si256((__m256i *)(void *)p, h);
}
/* bits: (lo >> 16) | hi for bf16 values lo and hi; and back: the low halves, the high halves */
static inline vf vf_pair(vf lo, vf hi)
{
    const __m512i l = _mm512_srli_epi32(_mm512_castps_si512(lo), 16);
    return _mm512_castsi512_ps(_mm512_or_si512(l, _mm512_castps_si512(hi)));
}
static inline vf vf_pair_even(vf x)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(x), 16));
}
static inline vf vf_pair_odd(vf x)
{
    const __m512i high = _mm512_set1_epi32((int)0xffff0000);
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x), high));
}
/* a * 2^n for an integral n in [-127, 127] */
static inline vf vf_ldexp(vf a, vf n) { return _mm512_scalef_ps(a, n); }
/* a [2i] <-> a [2i+1] */
static inline vf vf_swap(vf a) { return _mm512_permute_ps(a, 0xb1); }
/* the first and the last VF_N / 2 floats of p, each twice: p0 p0 p1 p1 ... */
static inline vf vf_load_twice(const float *p)
{
    const __m512i at = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    return _mm512_permutexvar_ps(at, _mm512_castps256_ps512(_mm256_loadu_ps(p)));
}
/* f16 <-> f32: to nearest, ties to even; and i8 -> f32 */
static inline vf vf_load_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
static inline void vf_store_f16(uint16_t *p, vf x)
{
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtps_ph(x, 0));
}
static inline vf vf_set_f16(uint16_t x)
{
    return _mm512_cvtph_ps(_mm256_set1_epi16((short)x));
}
static inline vf vf_load_i8(const int8_t *p)
{
    const __m128i b = _mm_loadu_si128((const __m128i *)(const void *)p);
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(b));
}
/* r as a square matrix, rows to columns */
static inline void bytes_lookup(const int8_t *table, const int8_t *q, int8_t *v)
{
    const __m128i t = _mm_loadu_si128((const __m128i *)(const void *)table);
    const __m128i i = _mm_loadu_si128((const __m128i *)(const void *)q);
    _mm_storeu_si128((__m128i *)(void *)v, _mm_shuffle_epi8(t, i));
}
static inline void vf_transpose(vf r[VF_N])
{
    vf t[16];
    for (int i = 0; i < 16; i += 4) { // 4 x 4 blocks inside the 128-bit lanes
        const __m512d a = _mm512_castps_pd(_mm512_unpacklo_ps(r[i], r[i + 1]));
        const __m512d b = _mm512_castps_pd(_mm512_unpackhi_ps(r[i], r[i + 1]));
        const __m512d c = _mm512_castps_pd(_mm512_unpacklo_ps(r[i + 2], r[i + 3]));
        const __m512d d = _mm512_castps_pd(_mm512_unpackhi_ps(r[i + 2], r[i + 3]));
        t[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
        t[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
        t[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
        t[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
    }
    for (int i = 0; i < 4; i++) { // then the lanes
        const vf a = _mm512_shuffle_f32x4(t[i], t[i + 4], 0x88);
        const vf b = _mm512_shuffle_f32x4(t[i], t[i + 4], 0xdd);
        const vf c = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0x88);
        const vf d = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0xdd);
        r[i] = _mm512_shuffle_f32x4(a, c, 0x88);
        r[i + 8] = _mm512_shuffle_f32x4(a, c, 0xdd);
        r[i + 4] = _mm512_shuffle_f32x4(b, d, 0x88);
        r[i + 12] = _mm512_shuffle_f32x4(b, d, 0xdd);
    }
}
#elif defined __AVX2__
#include <immintrin.h>
typedef __m256 vf;
enum { VF_N = 8 };
static inline vf vf_load(const float *p) { return _mm256_loadu_ps(p); }
static inline void vf_store(float *p, vf x) { _mm256_storeu_ps(p, x); }
static inline vf vf_set(float x) { return _mm256_set1_ps(x); }
static inline vf vf_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
static inline vf vf_max(vf a, vf b) { return _mm256_max_ps(a, b); }
static inline vf vf_min(vf a, vf b) { return _mm256_min_ps(a, b); }
static inline vf vf_sqrt(vf a) { return _mm256_sqrt_ps(a); }
static inline vf vf_round(vf a) { return _mm256_round_ps(a, 8); }
static inline vf vf_pick_less(vf a, vf b, vf x, vf y)
{
    return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}
static inline vf vf_number(vf a) { return _mm256_and_ps(a, _mm256_cmp_ps(a, a, _CMP_ORD_Q)); }
static inline void vf_store_i8(int8_t *p, vf x)
{
    const __m256i i = _mm256_cvtps_epi32(x);
    const __m128i h = _mm_packs_epi32(_mm256_castsi256_si128(i), _mm256_extracti128_si256(i, 1));
    _mm_storel_epi64((__m128i *)(void *)p, _mm_packs_epi16(h, h));
}
static inline float vf_sum(vf a)
{
    const __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 t = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(t, _mm_movehdup_ps(t)));
}
static inline float vf_top(vf a)
{
    const __m128 s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 t = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(t, _mm_movehdup_ps(t)));
}
static inline vf vf_widen(const uint16_t *p)
{
    const __m128i h = _mm_loadu_si128((const __m128i *)(const void *)p);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}
static inline vf vf_rounded(vf x)
{
    const __m256i u = _mm256_castps_si256(x), odd = _mm256_set1_epi32(1);
    const __m256i up = _mm256_and_si256(_mm256_srli_epi32(u, 16), odd);
    const __m256i r = _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), up);
    const __m256i quiet = _mm256_or_si256(u, _mm256_set1_epi32(0x400000));
    const __m256 nan = _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
    return _mm256_blendv_ps(_mm256_castsi256_ps(r), _mm256_castsi256_ps(quiet), nan);
}
static inline void vf_narrow(uint16_t *p, vf x)
{
    const __m256i h = _mm256_srli_epi32(_mm256_castps_si256(vf_rounded(x)), 16);
    const __m128i lo = _mm256_castsi256_si128(h), hi = _mm256_extracti128_si256(h, 1);
    _mm_storeu_si128((__m128i *)(void *)p, _mm_packus_epi32(lo, hi));
}
static inline vf vf_pair(vf lo, vf hi)
{
    const __m256i l = _mm256_srli_epi32(_mm256_castps_si256(lo), 16);
    return _mm256_castsi256_ps(_mm256_or_si256(l, _mm256_castps_si256(hi)));
}
static inline vf vf_pair_even(vf x)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(x), 16));
}
static inline vf vf_pair_odd(vf x)
{
    const __m256i high = _mm256_set1_epi32((int)0xffff0000);
    return _mm256_castsi256_ps(_mm256_and_si256(_mm256_castps_si256(x), high));
}
static inline vf vf_ldexp(vf a, vf n)
{
    const __m256i e = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32(e, 23)));
}
static inline vf vf_swap(vf a) { return _mm256_permute_ps(a, 0xb1); }
static inline vf vf_load_twice(const float *p)
{
    const __m256i at = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
    return _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), at);
}
static inline vf vf_load_f16(const uint16_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}
static inline void vf_store_f16(uint16_t *p, vf x)
{
    _mm_storeu_si128((__m128i *)(void *)p, _mm256_cvtps_ph(x, 0));
}
static inline vf vf_set_f16(uint16_t x) { return _mm256_cvtph_ps(_mm_set1_epi16((short)x)); }
static inline vf vf_load_i8(const int8_t *p)
{
    const __m128i b = _mm_loadl_epi64((const __m128i *)(const void *)p);
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(b));
}
static inline void bytes_lookup(const int8_t *table, const int8_t *q, int8_t *v)
{
    const __m128i t = _mm_loadu_si128((const __m128i *)(const void *)table);
    const __m128i i = _mm_loadu_si128((const __m128i *)(const void *)q);
    _mm_storeu_si128((__m128i *)(void *)v, _mm_shuffle_epi8(t, i));
}
static inline void vf_transpose(vf r[VF_N])
{
    vf t[8];
    for (int i = 0; i < 8; i += 4) {
        const __m256d a = _mm256_castps_pd(_mm256_unpacklo_ps(r[i], r[i + 1]));
        const __m256d b = _mm256_castps_pd(_mm256_unpackhi_ps(r[i], r[i + 1]));
        const __m256d c = _mm256_castps_pd(_mm256_unpacklo_ps(r[i + 2], r[i + 3]));
        const __m256d d = _mm256_castps_pd(_mm256_unpackhi_ps(r[i + 2], r[i + 3]));
        t[i] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, c));
        t[i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, c));
        t[i + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(b, d));
        t[i + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(b, d));
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2f128_ps(t[i], t[i + 4], 0x20);
        r[i + 4] = _mm256_permute2f128_ps(t[i], t[i + 4], 0x31);
    }
}
#elif defined __ARM_NEON
#include <arm_neon.h>
typedef float32x4_t vf;
enum { VF_N = 4 };
static inline vf vf_load(const float *p) { return vld1q_f32(p); }
static inline void vf_store(float *p, vf x) { vst1q_f32(p, x); }
static inline vf vf_set(float x) { return vdupq_n_f32(x); }
static inline vf vf_fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
static inline vf vf_max(vf a, vf b) { return vmaxq_f32(a, b); }
static inline vf vf_min(vf a, vf b) { return vminq_f32(a, b); }
static inline vf vf_sqrt(vf a) { return vsqrtq_f32(a); }
static inline vf vf_round(vf a) { return vrndnq_f32(a); }
static inline vf vf_pick_less(vf a, vf b, vf x, vf y) { return vbslq_f32(vcltq_f32(a, b), x, y); }
static inline vf vf_number(vf a)
{
    return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(a), vceqq_f32(a, a)));
}
static inline void vf_store_i8(int8_t *p, vf x)
{
    const int16x4_t h = vmovn_s32(vcvtq_s32_f32(x));
    const int8x8_t b = vmovn_s16(vcombine_s16(h, h));
    vst1_lane_s32((int32_t *)(void *)p, vreinterpret_s32_s8(b), 0);
}
static inline float vf_sum(vf a) { return vaddvq_f32(a); }
static inline float vf_top(vf a) { return vmaxvq_f32(a); }
static inline vf vf_widen(const uint16_t *p)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
}
static inline vf vf_rounded(vf x)
{
    const uint32x4_t u = vreinterpretq_u32_f32(x);
    const uint32x4_t up = vandq_u32(vshrq_n_u32(u, 16), vdupq_n_u32(1));
    const uint32x4_t r = vaddq_u32(vaddq_u32(u, vdupq_n_u32(0x7fff)), up);
    const uint32x4_t quiet = vorrq_u32(u, vdupq_n_u32(0x400000));
    return vreinterpretq_f32_u32(vbslq_u32(vceqq_f32(x, x), r, quiet));
}
static inline void vf_narrow(uint16_t *p, vf x)
{
    vst1_u16(p, vshrn_n_u32(vreinterpretq_u32_f32(vf_rounded(x)), 16));
}
static inline vf vf_pair(vf lo, vf hi)
{
    const uint32x4_t l = vshrq_n_u32(vreinterpretq_u32_f32(lo), 16);
    return vreinterpretq_f32_u32(vorrq_u32(l, vreinterpretq_u32_f32(hi)));
}
static inline vf vf_pair_even(vf x)
{
    return vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(x), 16));
}
static inline vf vf_pair_odd(vf x)
{
    return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(x), vdupq_n_u32(0xffff0000)));
}
static inline vf vf_ldexp(vf a, vf n)
{
    const int32x4_t e = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
    return vmulq_f32(a, vreinterpretq_f32_s32(vshlq_n_s32(e, 23)));
}
static inline vf vf_swap(vf a) { return vrev64q_f32(a); }
static inline vf vf_load_twice(const float *p)
{
    const float32x2_t x = vld1_f32(p);
    return vcombine_f32(vdup_lane_f32(x, 0), vdup_lane_f32(x, 1));
}
static inline vf vf_load_f16(const uint16_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
static inline void vf_store_f16(uint16_t *p, vf x)
{
    vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(x)));
}
static inline vf vf_set_f16(uint16_t x)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(x)));
}
static inline vf vf_load_i8(const int8_t *p)
{
    const int32_t x[4] = {p[0], p[1], p[2], p[3]};
    return vcvtq_f32_s32(vld1q_s32(x));
}
static inline void bytes_lookup(const int8_t *table, const int8_t *q, int8_t *v)
{
    vst1q_s8(v, vqtbl1q_s8(vld1q_s8(table), vreinterpretq_u8_s8(vld1q_s8(q))));
}
static inline void vf_transpose(vf r[VF_N])
{
    const float32x4x2_t a = vtrnq_f32(r[0], r[1]), b = vtrnq_f32(r[2], r[3]);
    r[0] = vcombine_f32(vget_low_f32(a.val[0]), vget_low_f32(b.val[0]));
    r[1] = vcombine_f32(vget_low_f32(a.val[1]), vget_low_f32(b.val[1]));
    r[2] = vcombine_f32(vget_high_f32(a.val[0]), vget_high_f32(b.val[0]));
    r[3] = vcombine_f32(vget_high_f32(a.val[1]), vget_high_f32(b.val[1]));
}
#endif

#if !defined VEC_SCALAR
/* k < VF_N floats, the rest filled; and the store of the first k. */
static inline vf vf_load_part(const float *p, int64_t k, float fill)
{
    float x[VF_N];
    for (int i = 0; i < VF_N; i++)
        x[i] = i < k ? p[i] : fill;
    return vf_load(x);
}
static inline void vf_store_part(float *p, int64_t k, vf v)
{
    float x[VF_N];
    vf_store(x, v);
    for (int64_t i = 0; i < k; i++)
        p[i] = x[i];
}

// clang-format on
/* exp(x): x = n ln2 + r, |r| <= ln2 / 2, e^r by its Taylor series up to r^6 (what is left out is
   below 1.2e-7 of it). x is clamped to [-87.33, 88]; NaN stays NaN: the bounds come first because
   x86's max and min return their second operand then. */
static inline vf vf_exp(vf x)
{
    x = vf_min(vf_set(88.0f), vf_max(vf_set(-87.33f), x));
    const vf n = vf_round(x * vf_set(1.44269504f));
    const vf r = vf_fma(n, vf_set(-0x1.62e4p-1f), x); // ln2 in two parts
    const vf s = vf_fma(n, vf_set(-0x1.7f7d1cp-20f), r);
    vf p = vf_set(1.0f / 720);
    p = vf_fma(p, s, vf_set(1.0f / 120));
    p = vf_fma(p, s, vf_set(1.0f / 24));
    p = vf_fma(p, s, vf_set(1.0f / 6));
    p = vf_fma(p, s, vf_set(0.5f));
    p = vf_fma(p, s, vf_set(1));
    p = vf_fma(p, s, vf_set(1));
    return vf_ldexp(p, n);
}
#endif

#endif
