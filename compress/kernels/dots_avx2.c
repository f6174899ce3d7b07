#if defined __x86_64__
#include <immintrin.h>
#include <stdint.h>

typedef int32_t vec_sums __attribute__((vector_size(32)));

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

#include "compress/kernels/dots_vec.h"

VEC_FORMATS_256(VEC_PRODUCT)
VEC_FORMATS_32(VEC_PRODUCT)

static void encode(int64_t cols, const float *x, struct act8 *a)
{
    dots_scalar.encode(cols, x, a);
}

const struct dots dots_avx2 = {"avx2",
                               &dots_scalar,
                               encode,
                               {VEC_FORMATS_256(VEC_ENTRY) VEC_FORMATS_32(VEC_ENTRY)}};
#endif
