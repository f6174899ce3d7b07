#if defined __x86_64__
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "autograd/base/half.h"
#include "autograd/kernels/halves.h"

#define INLINE static inline __attribute__((always_inline))

INLINE __m512 widen(const uint16_t *w, int64_t n, bool bf16)
{
    const __mmask16 some = n < 16 ? (__mmask16)((1 << n) - 1) : 0xffff;
    const __m256i h = _mm256_maskz_loadu_epi16(some, w);
    return bf16 ? _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16))
                : _mm512_cvtph_ps(h);
}

INLINE float halves_sum(__m512 v)
{
    const __m256 e = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    const __m128 f = _mm_add_ps(_mm256_castps256_ps128(e), _mm256_extractf128_ps(e, 1));
    const __m128 t = _mm_add_ps(f, _mm_movehl_ps(f, f));
    return _mm_cvtss_f32(_mm_add_ss(t, _mm_movehdup_ps(t)));
}

/* Weights of a cache line; bytes that are fetched ahead at least. What comes behind these rows in
   memory comes next: four streams of half a line each are none that the CPU recognizes. */
enum { LINE = 32, AHEAD = 8192 };

INLINE void few_half(const struct halves_job *j, int64_t r, int64_t i, int R, int T, bool bf16)
{
    const uint16_t *w[8];
    const struct act16 *a[8];
    __m512 s[8];
    for (int k = 0; k < R; k++)
        w[k] = (const void *)(j->w + (size_t)(r + k) * j->stride);
    for (int k = 0; k < T; k++)
        a[k] = j->a + (i + k) * act16_groups(j->cols);
    for (int k = 0; k < R * T; k++)
        s[k] = _mm512_setzero_ps();
    const size_t ahead = (size_t)R * j->stride > AHEAD ? (size_t)R * j->stride : AHEAD;
    const char *next = j->w + (size_t)r * j->stride + ahead;
    for (int64_t c = 0; c < j->cols; c += 16) {
        for (int k = 0; i == 0 && k < R && c % LINE == 0; k++, next += LINE * sizeof *w[0])
            _mm_prefetch(next, _MM_HINT_T1);
        for (int k = 0; k < R; k++) {
            const __m512 x = widen(w[k] + c, j->cols - c, bf16);
            for (int t = 0; t < T; t++)
                s[k * T + t] =
                    _mm512_fmadd_ps(x, _mm512_load_ps(a[t][c / ACT16].x + c % ACT16), s[k * T + t]);
        }
    }
    for (int k = 0; k < R * T; k++)
        j->y[(i + k % T) * j->ldy + r + k / T] = halves_sum(s[k]);
}

INLINE void all(const struct halves_job *j, bool bf16)
{
    int64_t r = 0;
    for (; r + 4 <= j->rows; r += 4) {
        int64_t i = 0;
        for (; i + 2 <= j->n; i += 2)
            few_half(j, r, i, 4, 2, bf16);
        for (; i < j->n; i++)
            few_half(j, r, i, 4, 1, bf16);
    }
    for (; r < j->rows; r++)
        for (int64_t i = 0; i < j->n; i++)
            few_half(j, r, i, 1, 1, bf16);
}

void halves_avx512(const struct halves_job *j)
{
    if (j->bf16)
        all(j, true);
    else
        all(j, false);
}

static void encode_run(struct act16 *a, int r)
{
    const __m512 x = _mm512_load_ps(a->x + r * ACT16_RUN);
    const __m512 y = _mm512_load_ps(a->x + r * ACT16_RUN + 16);
    const __m512i mag = _mm512_set1_epi32(0x7fffffff);
    const uint32_t top =
        _mm512_reduce_max_epu32(_mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(x), mag),
                                                 _mm512_and_si512(_mm512_castps_si512(y), mag)));
    const float most = half_from(top);
    const bool finite = top < 0x7f800000, some = finite && most >= 0x1p-100f;
    a->d[r] = !finite ? NAN : some ? most / ACT16_TOP : 0;
    const __m512 inverse = _mm512_set1_ps(some ? ACT16_TOP / most : 0);
    const __mmask16 keep = some ? 0xffff : 0;
    const __m512i p = _mm512_maskz_cvtps_epi32(keep, _mm512_mul_ps(x, inverse));
    const __m512i q = _mm512_maskz_cvtps_epi32(keep, _mm512_mul_ps(y, inverse));
    _mm256_store_si256((__m256i *)(a->q + r * ACT16_RUN), _mm512_cvtepi32_epi16(p));
    _mm256_store_si256((__m256i *)(a->q + r * ACT16_RUN + 16), _mm512_cvtepi32_epi16(q));
}

void halves_encode_avx512(int64_t cols, const float *x, struct act16 *a)
{
    for (int64_t i = 0; i < cols; i += ACT16, a++) {
        const int64_t n = cols - i < ACT16 ? cols - i : ACT16;
        memcpy(a->x, x + i, (size_t)n * sizeof *x);
        memset(a->x + n, 0, (size_t)(ACT16 - n) * sizeof *x);
        for (int r = 0; r < ACT16 / ACT16_RUN; r++)
            encode_run(a, r);
    }
}
#endif
