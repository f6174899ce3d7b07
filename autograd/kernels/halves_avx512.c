#if defined __x86_64__
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "autograd/base/half.h"
#include "autograd/kernels/halves.h"

#define INLINE static inline __attribute__((always_inline))

/* 16 of n halves that are left; those behind the end are 0. */
INLINE __m512 widen(const uint16_t *w, int64_t n, bool bf16)
{
    const __mmask16 some = n >= 16 ? 0xffff : n > 0 ? (__mmask16)((1 << n) - 1) : 0;
    const __m256i h = _mm256_maskz_loadu_epi16(some, w);
    return bf16 ? _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16))
                : _mm512_cvtph_ps(h);
}

/* The sum of 32 partial sums. */
INLINE float halves_sum(const __m512 s[2])
{
    const __m512 v = _mm512_add_ps(s[0], s[1]);
    const __m256 e = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    const __m128 f = _mm_add_ps(_mm256_castps256_ps128(e), _mm256_extractf128_ps(e, 1));
    const __m128 t = _mm_add_ps(f, _mm_movehl_ps(f, f));
    return _mm_cvtss_f32(_mm_add_ss(t, _mm_movehdup_ps(t)));
}

/* s += products of n of a group's columns with R rows of weights and T activations. */
INLINE void add_columns(const uint16_t *const *w, const float *const *x, int64_t n, int R, int T,
                        bool bf16, __m512 (*s)[2])
{
    for (int k = 0; k < R; k++)
        for (int h = 0; h < 2; h++) {
            const __m512 v = widen(w[k] + 16 * h, n - 16 * h, bf16);
            for (int t = 0; t < T; t++)
                s[k * T + t][h] =
                    _mm512_fmadd_ps(v, _mm512_load_ps(x[t] + 16 * h), s[k * T + t][h]);
        }
}

/* Columns of a cache line; bytes that are fetched ahead at least. What comes behind these rows in
   memory comes next: four streams of half a line each are none that the CPU recognizes. */
enum { LINE = 32, AHEAD = 8192, FEW = 8 };

INLINE void few_half(const struct halves_job *j, int64_t r, int64_t i, int R, int T, bool bf16)
{
    __m512 s[FEW][2];
    for (int k = 0; k < R * T; k++)
        s[k][0] = s[k][1] = _mm512_setzero_ps();
    const size_t ahead = (size_t)R * j->stride > AHEAD ? (size_t)R * j->stride : AHEAD;
    const char *next = j->w + (size_t)r * j->stride + ahead;
    for (int64_t c = 0; c < j->cols; c += LINE) {
        const uint16_t *w[FEW];
        const float *x[FEW];
        for (int k = 0; i == 0 && k < R; k++, next += LINE * sizeof *w[0])
            _mm_prefetch(next, _MM_HINT_T1);
        for (int k = 0; k < R; k++)
            w[k] = (const uint16_t *)(const void *)(j->w + (size_t)(r + k) * j->stride) + c;
        for (int t = 0; t < T; t++)
            x[t] = j->a[(i + t) * act16_groups(j->cols) + c / ACT16].x + c % ACT16;
        if (j->cols - c >= LINE)
            add_columns(w, x, LINE, R, T, bf16, s);
        else
            add_columns(w, x, j->cols - c, R, T, bf16, s);
    }
    for (int k = 0; k < R * T; k++)
        j->y[(i + k % T) * j->ldy + r + k / T] = halves_sum(s[k]);
}

/* s + the products of n columns, at most a group, of w. */
INLINE void add_piece(const uint16_t *w, const float *x, int64_t n, bool bf16, __m512 s[2])
{
    __m512 sum[1][2] = {{s[0], s[1]}};
    int64_t c = 0;
    for (; c + LINE <= n; c += LINE)
        add_columns((const uint16_t *[]){w + c}, (const float *[]){x + c}, LINE, 1, 1, bf16, sum);
    if (c < n)
        add_columns((const uint16_t *[]){w + c}, (const float *[]){x + c}, n - c, 1, 1, bf16, sum);
    s[0] = sum[0][0];
    s[1] = sum[0][1];
}

/* One activation: memory decides. A row from its start to its end is the one stream that the CPU
   follows at its full speed; where the activation is so long that it and the weights do not fit
   into L1 together, TALL rows share each piece of it, and what comes next is fetched ahead. */
enum { LONG = 3072, TALL = 8, PIECE = 64 };

INLINE void tall(const struct halves_job *j, int64_t r, bool bf16)
{
    __m512 s[TALL][2];
    for (int k = 0; k < TALL; k++)
        s[k][0] = s[k][1] = _mm512_setzero_ps();
    for (int64_t c = 0; c < j->cols; c += PIECE) {
        const float *x = j->a[c / ACT16].x + c % ACT16;
        for (int k = 0; k < TALL; k++) {
            const uint16_t *w = (const void *)(j->w + (size_t)(r + k) * j->stride);
            const char *next = (const char *)(w + c) + TALL * j->stride;
            for (int i = 0; i < PIECE; i += LINE)
                _mm_prefetch(next + (size_t)i * sizeof *w, _MM_HINT_T1);
            if (j->cols - c >= PIECE)
                add_piece(w + c, x, PIECE, bf16, s[k]);
            else
                add_piece(w + c, x, j->cols - c, bf16, s[k]);
        }
    }
    for (int k = 0; k < TALL; k++)
        j->y[r + k] = halves_sum(s[k]);
}

INLINE void one(const struct halves_job *j, bool bf16)
{
    int64_t r = 0;
    for (; j->cols > LONG && r + TALL <= j->rows; r += TALL)
        tall(j, r, bf16);
    for (; r < j->rows; r++) {
        const uint16_t *w = (const void *)(j->w + (size_t)r * j->stride);
        __m512 s[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
        int64_t c = 0;
        for (; c + ACT16 <= j->cols; c += ACT16)
            add_piece(w + c, j->a[c / ACT16].x, ACT16, bf16, s);
        if (c < j->cols)
            add_piece(w + c, j->a[c / ACT16].x, j->cols - c, bf16, s);
        j->y[r] = halves_sum(s);
    }
}

INLINE void all(const struct halves_job *j, bool bf16)
{
    if (j->n == 1) {
        one(j, bf16);
        return;
    }
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
