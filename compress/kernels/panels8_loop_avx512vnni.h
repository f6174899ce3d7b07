/*
 * What the panels of AVX-512 share, whatever a panel holds and multiplies: chunks of activations,
 * 32 rows of weights at a time, block by block of 256.
 */
#ifndef ATTAR_COMPRESS_KERNELS_PANELS8_LOOP_AVX512VNNI_H
#define ATTAR_COMPRESS_KERNELS_PANELS8_LOOP_AVX512VNNI_H

#include "autograd/kernels/vec.h"
#include "compress/kernels/dots_open_avx512vnni.h"
#include "compress/kernels/panels8.h"

enum {
    LOOP_WIDE = 32,   /* rows of weights of a panel: two vectors of results */
    LOOP_ACTS = 6,    /* activations in work: 24 sums in registers */
    LOOP_CHUNK = 512, /* activations that share a panel at most */
};

/* One block of n activations: that of activation t is a[t * stride]. */
struct loop_acts {
    const struct act8 *a;
    int64_t stride, n;
    bool first; /* nothing is in y yet */
    float *y;   /* [n][parts][LOOP_WIDE] */
};

/* f: of the format. */
struct loop_way {
    int parts; /* of each result: 1, or those of dots.h */
    void (*pack)(const struct dots_job *j, const void *f, int64_t r, int64_t b, void *panel);
    void (*multiply)(const void *f, const void *panel, const struct loop_acts *acts);
};

/* T activations a[t]: y [T][parts][LOOP_WIDE] */
typedef void loop_few(const void *f, const void *panel, const struct act8 *const *a, int T,
                      bool first, float *y);

OPEN_INLINE __m512i loop_four_bytes(const void *p)
{
    return _mm512_set1_epi32((int)open_u32(p));
}

OPEN_INLINE float loop_half(const char *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return _cvtsh_ss(h);
}

/* Levels of o.w[i] times scale, as words: those of even elements and of odd ones. */
OPEN_INLINE void loop_scaled(const struct open_traits *f, const struct open *o, int i,
                             __m512i *even, __m512i *odd)
{
    const __m512i four = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    const __m512i at = _mm512_add_epi32(four, _mm512_set1_epi32(4 * i));
    const __m512i s = _mm512_permutexvar_epi16(_mm512_or_si512(at, _mm512_slli_epi32(at, 16)),
                                               _mm512_castsi256_si512(o->scale));
    const __m512i level = _mm512_sub_epi8(o->w[i], open_halves(f->less, f->less << f->shift));
    const __m512i e = _mm512_srai_epi16(_mm512_slli_epi16(level, 8), 8);
    *even = _mm512_srai_epi16(_mm512_mullo_epi16(e, s), f->shift);
    *odd = _mm512_srai_epi16(_mm512_mullo_epi16(_mm512_srai_epi16(level, 8), s), f->shift);
}

/* Their low bytes, in order. */
OPEN_INLINE __m512i loop_words(__m512i even, __m512i odd)
{
    return _mm512_mask_blend_epi8(0xaaaaaaaaaaaaaaaaull, even, _mm512_slli_epi16(odd, 8));
}

OPEN_INLINE void loop_transpose(__m512i r[16])
{
    vf x[16];
    for (int i = 0; i < 16; i++)
        x[i] = _mm512_castsi512_ps(r[i]);
    vf_transpose(x);
    for (int i = 0; i < 16; i++)
        r[i] = _mm512_castps_si512(x[i]);
}

/* Bytes w [16 rows][256] as elements 4k ... 4k + 3 of each row: to[k][v]. */
OPEN_INLINE void loop_bytes(__m512i w[16][4], int v, int8_t (*to)[2][64])
{
    for (int c = 0; c < 4; c++) {
        __m512i x[16];
        for (int k = 0; k < 16; k++)
            x[k] = w[k][c];
        loop_transpose(x);
        for (int k = 0; k < 16; k++)
            _mm512_store_si512(to[16 * c + k][v], x[k]);
    }
}

/* Sums of n times 4 elements of 16 rows, times -128: what 128 added to all activations is to be
   corrected by. */
OPEN_INLINE __m512i loop_start(int8_t (*w)[2][64], int v, int n, __m512i scale)
{
    __m512i sum = _mm512_setzero_si512();
    for (int k = 0; k < n; k++)
        sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1), open_load(w[k][v]));
    return _mm512_mullo_epi32(_mm512_mullo_epi32(sum, scale), _mm512_set1_epi32(-128));
}

/* LOOP_ACTS activations at a time; the last ones in smaller numbers. */
OPEN_INLINE void loop_by_few(loop_few *few, const void *f, const void *panel,
                             const struct loop_acts *acts, int parts)
{
    for (int64_t i = 0; i < acts->n; i += LOOP_ACTS) {
        const struct act8 *a[LOOP_ACTS];
        const int64_t there = acts->n - i;
        for (int t = 0; t < LOOP_ACTS; t++)
            a[t] = acts->a + (i + (t < there ? t : 0)) * acts->stride;
        float *y = acts->y + i * parts * LOOP_WIDE;
        if (there >= LOOP_ACTS)
            few(f, panel, a, LOOP_ACTS, acts->first, y);
        else if (there > 3)
            few(f, panel, a, 5, acts->first, y);
        else
            few(f, panel, a, 3, acts->first, y);
    }
}

/* A result of its parts. */
OPEN_INLINE void loop_total(int parts, const float *tile, float *y)
{
    for (int i = 0; i < LOOP_WIDE; i += 16) {
        __m512 s = _mm512_load_ps(tile + i);
        if (parts == DOTS_PARTS) {
            const float *p = tile + i;
            s = _mm512_add_ps(_mm512_add_ps(s, _mm512_load_ps(p + LOOP_WIDE)),
                              _mm512_add_ps(_mm512_load_ps(p + 2 * LOOP_WIDE),
                                            _mm512_load_ps(p + 3 * LOOP_WIDE)));
        }
        _mm512_storeu_ps(y + i, s);
    }
}

/* panel: room for one */
OPEN_INLINE void loop_product(const struct dots_job *j, const struct loop_way *way, const void *f,
                              void *panel)
{
    static _Thread_local float tile[(LOOP_CHUNK + LOOP_ACTS) * DOTS_PARTS * LOOP_WIDE]
        __attribute__((aligned(64)));
    const int64_t blocks = act8_groups(j->cols), each = way->parts * LOOP_WIDE;
    const int64_t chunks = (j->n + LOOP_CHUNK - 1) / LOOP_CHUNK,
                  chunk = (j->n + chunks - 1) / chunks;
    for (int64_t i = 0; i < j->n; i += chunk) {
        const int64_t n = j->n - i < chunk ? j->n - i : chunk;
        for (int64_t r = 0; r < j->rows; r += LOOP_WIDE) {
            for (int64_t b = 0; b < blocks; b++) {
                const struct loop_acts acts = {(const struct act8 *)j->a + i * blocks + b, blocks,
                                               n, b == 0, tile};
                way->pack(j, f, r, b, panel);
                way->multiply(f, panel, &acts);
            }
            const int64_t wide = j->rows - r < LOOP_WIDE ? j->rows - r : LOOP_WIDE;
            for (int64_t t = 0; t < n; t++) {
                float y[LOOP_WIDE];
                loop_total(way->parts, tile + t * each, y);
                memcpy(j->y + (i + t) * j->ldy + r, y, (size_t)wide * sizeof *y);
            }
        }
    }
}

#endif
