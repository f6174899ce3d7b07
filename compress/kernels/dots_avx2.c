#if defined __x86_64__
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

typedef int32_t vec_sums __attribute__((vector_size(32)));
typedef float vec_floats __attribute__((vector_size(32)));

/* maddubs wants an unsigned side: v's sign moves to a. |v| of -128 is 128, and 2 * 128 * 127 fits.
 */
#define vec_scaled(sum, v, a, lo, hi)                                                              \
    ((sum) + (vec_sums)_mm256_madd_epi16(                                                          \
                 _mm256_maddubs_epi16(_mm256_abs_epi8((__m256i)(v)),                               \
                                      _mm256_sign_epi8((__m256i)(a), (__m256i)(v))),               \
                 _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_set1_epi16(lo)),               \
                                         _mm_set1_epi16(hi), 1)))

#define vec_lookup(table, q)                                                                       \
    _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(                                               \
                            _mm_loadu_si128((const __m128i *)(const void *)(table))),              \
                        (__m256i)(q))

static inline int32_t vec_total(vec_sums sum)
{
    const __m128i s = _mm_add_epi32(_mm256_castsi256_si128((__m256i)sum),
                                    _mm256_extracti128_si256((__m256i)sum, 1));
    const __m128i t = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(t, _mm_shuffle_epi32(t, 0xb1)));
}

static inline vec_sums vec_totals(const vec_sums *sum)
{
    __m256i q[2];
    for (int i = 0; i < 2; i++) {
        const __m256i *s = (const __m256i *)sum + 4 * i;
        q[i] = _mm256_hadd_epi32(_mm256_hadd_epi32(s[0], s[1]), _mm256_hadd_epi32(s[2], s[3]));
    }
    return (vec_sums)_mm256_add_epi32(_mm256_permute2x128_si256(q[0], q[1], 0x20),
                                      _mm256_permute2x128_si256(q[0], q[1], 0x31));
}

static inline __m256i vec_eighths(const uint8_t *bytes)
{
    int32_t four;
    memcpy(&four, bytes, sizeof four);
    return _mm256_shuffle_epi8(_mm256_set1_epi32(four),
                               _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2,
                                                2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3));
}

#define vec_half(h) _cvtsh_ss(h)

static inline vec_floats vec_halves_of_8(const char *p, size_t stride)
{
    int16_t h[8];
    for (int k = 0; k < 8; k++)
        memcpy(&h[k], p + (size_t)k * stride, sizeof h[k]);
    return (vec_floats)_mm256_cvtph_ps(
        _mm_setr_epi16(h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7]));
}

#define vec_fma(a, b, c) ((vec_floats)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))

static inline float vec_tree(vec_floats p)
{
    const __m256 two = _mm256_add_ps((__m256)p, _mm256_permute_ps((__m256)p, 0xff)); // lanes 1, 5
    const __m128 all = _mm_add_ps(_mm256_castps256_ps128(two), _mm256_extractf128_ps(two, 1));
    return _mm_cvtss_f32(_mm_movehdup_ps(all));
}

#include "compress/kernels/dots_vec.h"
#include "compress/kernels/panels8.h"

/* ---- panels ---- */

/* Codes are unsigned; where they take a byte, their levels' signs move to the activations. Pairs of
   products are added in 16 bits as long as those hold them. */
enum { PANEL_ROWS = 16 };

#define PANEL_LANES      8
#define PANEL_LESS(less) (less)
#define PANEL_SCALE(s)   ((int32_t)((uint32_t)(s) << 16 | ((uint32_t)(s)&0xffff)))
#define PANEL_MIN(s, i)  (((s) / 2 * PANEL_ROWS + (i)) * 2 + (s) % 2)

typedef __m256i panel_part;

static inline int panel_run(int top, int sub)
{
    int run = sub / 4;
    while (run > 1 && run * 2 * 127 * top > INT16_MAX)
        run /= 2;
    return run;
}
#define PANEL_RUN panel_run

static inline __m256i panel_add(__m256i part, const int8_t *w, const int8_t *a, int top)
{
    int32_t four;
    memcpy(&four, a, sizeof four);
    const __m256i x = _mm256_set1_epi32(four), y = _mm256_load_si256((const __m256i *)w);
    if (top == TOP_SIGNED)
        return _mm256_maddubs_epi16(_mm256_abs_epi8(y), _mm256_sign_epi8(x, y)); // a run of one
    return _mm256_add_epi16(part, _mm256_maddubs_epi16(y, x));
}

static inline vec_sums panel_scaled(vec_sums sum, __m256i part, const int32_t *scale)
{
    return sum + (vec_sums)_mm256_madd_epi16(part, _mm256_load_si256((const __m256i *)scale));
}

static inline vec_sums panel_mins(const int16_t *min, const struct act8 *a, int v)
{
    vec_sums sum = {0};
    for (int k = 0; k < 8; k++) {
        int32_t two;
        memcpy(&two, a->sum + 2 * k, sizeof two);
        sum += (vec_sums)_mm256_madd_epi16(
            _mm256_set1_epi32(two),
            _mm256_load_si256((const __m256i *)(min + PANEL_MIN(2 * k, PANEL_LANES * v))));
    }
    return sum;
}

#define panel_fma vec_fma

#include "compress/kernels/panels8_vec.h"

VEC_FORMATS(VEC_PRODUCT)
VEC_FORMATS(PANEL_PRODUCT)

static void encode(int64_t cols, const float *x, struct act8 *a)
{
    dots_scalar.encode(cols, x, a);
}

static void encode_32(int64_t cols, const float *x, struct act8 *a)
{
    dots_scalar.encode_32(cols, x, a);
}

const struct dots dots_avx2 = {"avx2", &dots_scalar, encode, encode_32, {VEC_FORMATS(PANEL_ENTRY)}};
#endif
