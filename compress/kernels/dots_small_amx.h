/*
 * Prompts in formats of 32 on AMX: the panels of AVX512-VNNI, a block of 32 rows times 32 elements
 * at a time, in tiles half as deep as those of K-quants, as every block's sums become floats. While
 * tiles multiply the next two blocks, vectors scale the sums of the last two. For dots_amx.c.
 */
#ifndef ATTAR_COMPRESS_KERNELS_DOTS_SMALL_AMX_H
#define ATTAR_COMPRESS_KERNELS_DOTS_SMALL_AMX_H

#include "compress/kernels/panels8_small_avx512vnni.h"

/* Tiles 0 to 3 are sums, 4 and 5 activations, 6 and 7 weights. */
static const struct tile_config small_config = {
    .palette = 1,
    .bytes = {64, 64, 64, 64, ACT8_RUN, ACT8_RUN, 64, 64},
    .rows = {SIDE, SIDE, SIDE, SIDE, SIDE, SIDE, SMALL_EACH, SMALL_EACH},
};

/* ACTS activations' products with a block of 32 rows. */
OPEN_INLINE void small_tiles(const struct small_panel *p, int k, const struct act8 *a, int64_t lda,
                             int32_t sum[ACTS][2][SIDE])
{
    const int8_t *q = a->q + k * ACT8_RUN, *w = p->w[k * SMALL_EACH][0];
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(4, q, lda);
    _tile_loadd(6, w, sizeof p->w[0]);
    _tile_loadd(7, w + sizeof p->w[0][0], sizeof p->w[0]);
    _tile_dpbssd(0, 4, 6);
    _tile_dpbssd(1, 4, 7);
    _tile_loadd(5, q + SIDE * lda, lda);
    _tile_dpbssd(2, 5, 6);
    _tile_dpbssd(3, 5, 7);
    _tile_stored(0, sum[0][0], sizeof sum[0]);
    _tile_stored(1, sum[0][1], sizeof sum[0]);
    _tile_stored(2, sum[SIDE][0], sizeof sum[0]);
    _tile_stored(3, sum[SIDE][1], sizeof sum[0]);
}

/* What the vectors of a part need: two blocks' scales and mins. */
struct small_scales {
    __m512 d[2][2], min[2][2];
};

OPEN_INLINE void small_part(const struct small_panel *p, const struct small_traits *f, int i,
                            struct small_scales *s)
{
    for (int b = 0; b < 2; b++)
        for (int v = 0; v < 2; v++) {
            s->d[b][v] = small_f16(p->d[2 * i + b] + SIDE * v);
            if (f->min)
                s->min[b][v] = small_f16(p->min[2 * i + b] + SIDE * v);
        }
}

/* Part i of activation a, whose sums of both blocks are there: to [LOOP_WIDE] */
OPEN_INLINE void small_put(const struct small_traits *f, const struct small_scales *s, int i,
                           const struct act8 *a, const float *all, const int32_t *const sum[2],
                           bool first, float *to)
{
    for (int v = 0; v < 2; v++) {
        __m512 z = first ? _mm512_setzero_ps() : _mm512_load_ps(to + SIDE * v);
        for (int b = 0; b < 2; b++) {
            const __m512 de = _mm512_mul_ps(s->d[b][v], _mm512_set1_ps(a->d32[2 * i + b]));
            z = _mm512_fmadd_ps(de, _mm512_cvtepi32_ps(open_load(sum[b] + SIDE * v)), z);
            if (f->min)
                z = _mm512_fmadd_ps(s->min[b][v], _mm512_set1_ps(all[2 * i + b]), z);
        }
        _mm512_store_ps(to + SIDE * v, z);
    }
}

/* ACTS activations; the first `skip` of them have been added already. */
OPEN_INLINE void small_block(const struct small_traits *f, const struct small_panel *p,
                             const struct loop_acts *acts, int64_t from, int64_t skip)
{
    const int64_t lda = acts->stride * (int64_t)sizeof *acts->a;
    const struct act8 *a = acts->a + from * acts->stride;
    int32_t sum[2][2][ACTS][2][SIDE] __attribute__((aligned(64)));
    float all[ACTS][SMALL_GROUP];
    for (int64_t t = skip; t < ACTS && f->min; t++) {
        const struct act8 *const one = a + t * acts->stride;
        small_sums(&one, 1, all + t);
    }
    for (int b = 0; b < 2; b++)
        small_tiles(p, b, a, lda, sum[0][b]);
    for (int i = 0; i < DOTS_PARTS; i++) {
        struct small_scales s;
        small_part(p, f, i, &s);
        for (int b = 0; b < 2 && i + 1 < DOTS_PARTS; b++)
            small_tiles(p, 2 * i + 2 + b, a, lda, sum[(i + 1) % 2][b]);
        for (int64_t t = skip; t < ACTS; t++) {
            const int32_t *const both[2] = {sum[i % 2][0][t][0], sum[i % 2][1][t][0]};
            small_put(f, &s, i, a + t * acts->stride, all[t], both, acts->first,
                      acts->y + ((from + t) * DOTS_PARTS + i) * LOOP_WIDE);
        }
    }
}

/* At least ACTS. */
OPEN_INLINE void small_multiply(const void *format, const void *panel, const struct loop_acts *acts)
{
    __asm__ volatile("" ::: "memory"); // gcc 12 does not say that _tile_loadd reads the panel
    for (int64_t i = 0; i < acts->n; i += ACTS) {
        const int64_t from = i < acts->n - ACTS ? i : acts->n - ACTS;
        small_block(format, panel, acts, from, i - from);
    }
}

OPEN_INLINE void small_product(const struct dots_job *j, const struct small_traits *f)
{
    static const struct loop_way way = {DOTS_PARTS, small_pack, small_multiply};
    struct small_panel p;
    if (j->n < ACTS) {
        dots_avx512vnni.fn[j->format](j);
        return;
    }
    _tile_loadconfig(&small_config);
    loop_product(j, &way, f, &p);
    _tile_release();
}

#endif
