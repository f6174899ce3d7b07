#if defined __x86_64__
/*
 * Many activations: 32 rows of a group of 256 weights become a panel of 14-bit integers, pairs of
 * columns side by side, and all activations pass by it.
 */
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "autograd/base/half.h"
#include "autograd/kernels/halves.h"
#include "autograd/kernels/vec.h"

#define INLINE static inline __attribute__((always_inline))

enum { WIDE = 32, ACTS = 6, CHUNK = 510, RUNS = ACT16 / ACT16_RUN, PAIRS = ACT16_RUN / 2 };

struct panel {
    int16_t w[ACT16 / 2][2][32]; /* columns 2k, 2k + 1 of rows 16 v + (0 ... 15) */
    float d[RUNS][2][16];
} __attribute__((aligned(64)));

/* 16 of n halves that are left; those behind the end are 0. */
INLINE __m512 widen(const uint16_t *w, int64_t n, bool bf16)
{
    const __mmask16 some = n >= 16 ? 0xffff : n > 0 ? (__mmask16)((1 << n) - 1) : 0;
    const __m256i h = _mm256_maskz_loadu_epi16(some, w);
    return bf16 ? _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16))
                : _mm512_cvtph_ps(h);
}

/* A run of a row's weights: q, and its scale. */
INLINE __m512i run_of(const uint16_t *w, int64_t n, bool bf16, float *d)
{
    const __m512 x = widen(w, n, bf16), y = widen(w + 16, n - 16, bf16);
    const __m512i mag = _mm512_set1_epi32(0x7fffffff);
    const __m512i a = _mm512_and_si512(_mm512_castps_si512(x), mag);
    const __m512i b = _mm512_and_si512(_mm512_castps_si512(y), mag);
    const uint32_t top = _mm512_reduce_max_epu32(_mm512_max_epu32(a, b));
    const float most = half_from(top);
    const bool finite = top < 0x7f800000, some = finite && most >= 0x1p-100f;
    *d = !finite ? NAN : some ? most / ACT16_TOP : 0;
    const __m512 inverse = _mm512_set1_ps(some ? ACT16_TOP / most : 0);
    const __mmask16 keep = some ? 0xffff : 0;
    const __m512i p = _mm512_maskz_cvtps_epi32(keep, _mm512_mul_ps(x, inverse));
    const __m512i q = _mm512_maskz_cvtps_epi32(keep, _mm512_mul_ps(y, inverse));
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi32_epi16(p)),
                              _mm512_cvtepi32_epi16(q), 1);
}

INLINE void pack(const struct halves_job *j, int64_t r, int64_t c0, struct panel *p)
{
    for (int v = 0; v < 2; v++)
        for (int s = 0; s < RUNS; s++) {
            const int64_t c = c0 + s * ACT16_RUN;
            vf x[16];
            for (int k = 0; k < 16; k++) {
                const int64_t row = r + 16 * v + k < j->rows ? r + 16 * v + k : j->rows - 1;
                const uint16_t *w = (const void *)(j->w + (size_t)row * j->stride);
                x[k] = _mm512_castsi512_ps(
                    run_of(w + (c < j->cols ? c : 0), j->cols - c, j->bf16, &p->d[s][v][k]));
            }
            vf_transpose(x);
            for (int k = 0; k < PAIRS; k++)
                _mm512_store_si512(p->w[s * PAIRS + k][v], _mm512_castps_si512(x[k]));
        }
}

/* T activations: results y [T][WIDE]; `first`: nothing is there yet. */
INLINE void block(const struct panel *p, const struct act16 *const *a, int T, bool first, float *y)
{
    __m512 sum[ACTS][2];
    for (int t = 0; t < T; t++)
        for (int v = 0; v < 2; v++)
            sum[t][v] = first ? _mm512_setzero_ps() : _mm512_load_ps(y + t * WIDE + 16 * v);
    for (int s = 0; s < RUNS; s++) {
        __m512i part[ACTS][2];
        for (int t = 0; t < T; t++)
            part[t][0] = part[t][1] = _mm512_setzero_si512();
        for (int k = s * PAIRS; k < (s + 1) * PAIRS; k++) {
            const __m512i w0 = _mm512_load_si512(p->w[k][0]), w1 = _mm512_load_si512(p->w[k][1]);
            for (int t = 0; t < T; t++) {
                int pair;
                memcpy(&pair, a[t]->q + 2 * k, sizeof pair);
                const __m512i x = _mm512_set1_epi32(pair);
                part[t][0] = _mm512_dpwssd_epi32(part[t][0], x, w0);
                part[t][1] = _mm512_dpwssd_epi32(part[t][1], x, w1);
            }
        }
        for (int t = 0; t < T; t++)
            for (int v = 0; v < 2; v++) {
                const __m512 d =
                    _mm512_mul_ps(_mm512_load_ps(p->d[s][v]), _mm512_set1_ps(a[t]->d[s]));
                sum[t][v] = _mm512_fmadd_ps(d, _mm512_cvtepi32_ps(part[t][v]), sum[t][v]);
            }
    }
    for (int t = 0; t < T; t++)
        for (int v = 0; v < 2; v++)
            _mm512_store_ps(y + t * WIDE + 16 * v, sum[t][v]);
}

static void many(const struct halves_job *j)
{
    static _Thread_local float tile[CHUNK * WIDE] __attribute__((aligned(64)));
    const int64_t groups = act16_groups(j->cols);
    for (int64_t i0 = 0; i0 < j->n; i0 += CHUNK) {
        const int64_t n = j->n - i0 < CHUNK ? j->n - i0 : CHUNK;
        const struct act16 *first = j->a + i0 * groups;
        for (int64_t r = 0; r < j->rows; r += WIDE) {
            for (int64_t g = 0; g < groups; g++) {
                struct panel p;
                pack(j, r, g * ACT16, &p);
                for (int64_t i = 0; i < n; i += ACTS) {
                    const struct act16 *a[ACTS];
                    const int64_t there = n - i;
                    for (int t = 0; t < ACTS; t++)
                        a[t] = first + (i + (t < there ? t : 0)) * groups + g;
                    if (there > 3)
                        block(&p, a, ACTS, g == 0, tile + i * WIDE);
                    else
                        block(&p, a, 3, g == 0, tile + i * WIDE);
                }
            }
            const int64_t wide = j->rows - r < WIDE ? j->rows - r : WIDE;
            for (int64_t i = 0; i < n; i++)
                memcpy(j->y + (i0 + i) * j->ldy + r, tile + i * WIDE, (size_t)wide * sizeof *tile);
        }
    }
}

void halves_avx512vnni(const struct halves_job *j)
{
    if (j->n >= HALVES_MANY)
        many(j);
    else
        halves_avx512(j);
}
#endif
