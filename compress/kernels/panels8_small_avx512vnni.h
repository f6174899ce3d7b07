/*
 * Panels of eight blocks of 32, whose sums become floats block by block: what they hold on AVX-512,
 * which AMX multiplies as well.
 */
#ifndef ATTAR_COMPRESS_KERNELS_PANELS8_SMALL_AVX512VNNI_H
#define ATTAR_COMPRESS_KERNELS_PANELS8_SMALL_AVX512VNNI_H

#include "compress/kernels/dots_small_avx512vnni.h"
#include "compress/kernels/panels8_loop_avx512vnni.h"

enum { SMALL_EACH = 32 / 4 }; /* vectors of a block of 16 rows */

/* Row 16 v + i is lane i of vector v. */
struct small_panel {
    int8_t w[64][2][64];                  /* levels 4k ... 4k + 3 of each row */
    int32_t start[SMALL_GROUP][2][16];    /* loop_start() of a block */
    uint16_t d[SMALL_GROUP][LOOP_WIDE];   /* f16 */
    uint16_t min[SMALL_GROUP][LOOP_WIDE]; /* f16, to be added */
} __attribute__((aligned(64)));

/* Eight blocks; behind the row's end levels of what is there, and scales of 0. */
OPEN_INLINE void small_open_row(const struct small_traits *f, const char *row, int64_t blocks,
                                int i, struct small_panel *p, __m512i w[4])
{
    const char *at[SMALL_GROUP];
    for (int k = 0; k < SMALL_GROUP; k++) {
        at[k] = row + (k < blocks ? k : 0) * f->bytes;
        p->d[k][i] = p->min[k][i] = 0;
        if (k < blocks)
            memcpy(&p->d[k][i], at[k], sizeof p->d[k][i]);
        if (k < blocks && f->min)
            memcpy(&p->min[k][i], at[k] + sizeof p->d[k][i], sizeof p->min[k][i]);
    }
    for (int k = 0; k < 4; k++)
        w[k] = _mm512_sub_epi8(f->two(at[2 * k], at[2 * k + 1]), _mm512_set1_epi8((char)f->less));
}

OPEN_INLINE void small_pack(const struct dots_job *j, const void *format, int64_t r, int64_t b,
                            void *panel)
{
    const struct small_traits *f = format;
    const int64_t blocks = j->cols / 32 - b * SMALL_GROUP;
    struct small_panel *p = panel;
    for (int v = 0; v < 2; v++) {
        __m512i w[16][4];
        for (int k = 0; k < 16; k++) {
            const int64_t row = r + 16 * v + k, last = j->rows - 1;
            small_open_row(f,
                           j->w + (size_t)(row < last ? row : last) * j->stride +
                               b * SMALL_GROUP * f->bytes,
                           blocks, 16 * v + k, p, w[k]);
        }
        loop_bytes(w, v, p->w);
        for (int k = 0; k < SMALL_GROUP; k++)
            _mm512_store_si512(p->start[k][v], loop_start(p->w + k * SMALL_EACH, v, SMALL_EACH,
                                                          _mm512_set1_epi32(1)));
    }
}

OPEN_INLINE __m512 small_f16(const uint16_t *h)
{
    return _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)h));
}

/* The scales of T activations times their sums. */
OPEN_INLINE void small_sums(const struct act8 *const *a, int T, float (*sum)[SMALL_GROUP])
{
    for (int t = 0; t < T; t++) {
        const __m256i all = _mm256_cvtepi16_epi32(_mm_load_si128((const __m128i *)a[t]->sum32));
        _mm256_storeu_ps(sum[t],
                         _mm256_mul_ps(_mm256_loadu_ps(a[t]->d32), _mm256_cvtepi32_ps(all)));
    }
}

#endif
