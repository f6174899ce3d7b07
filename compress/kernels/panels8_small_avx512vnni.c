/* Products of panels of eight blocks of 32. */
#if defined __x86_64__
#include "compress/kernels/panels8_small_avx512vnni.h"

/* y [T][2] plus block k's d e (sum of level a), plus its min times `all`. */
OPEN_INLINE void block(const struct small_traits *f, const struct small_panel *p, int k,
                       const struct act8 *const *a, const float (*all)[SMALL_GROUP], int T,
                       __m512 (*y)[2])
{
    __m512i sum[LOOP_ACTS][2];
    for (int t = 0; t < T; t++)
        for (int v = 0; v < 2; v++)
            sum[t][v] = open_load(p->start[k][v]);
    for (int i = k * SMALL_EACH; i < (k + 1) * SMALL_EACH; i++) {
        const __m512i w0 = open_load(p->w[i][0]), w1 = open_load(p->w[i][1]);
        for (int t = 0; t < T; t++) {
            const __m512i x = loop_four_bytes(a[t]->u + 4 * i);
            sum[t][0] = _mm512_dpbusd_epi32(sum[t][0], x, w0);
            sum[t][1] = _mm512_dpbusd_epi32(sum[t][1], x, w1);
        }
    }
    for (int v = 0; v < 2; v++) {
        const __m512 d = small_f16(p->d[k] + 16 * v);
        const __m512 min = f->min ? small_f16(p->min[k] + 16 * v) : _mm512_setzero_ps();
        for (int t = 0; t < T; t++) {
            const __m512 de = _mm512_mul_ps(d, _mm512_set1_ps(a[t]->d32[k]));
            y[t][v] = _mm512_fmadd_ps(de, _mm512_cvtepi32_ps(sum[t][v]), y[t][v]);
            if (f->min)
                y[t][v] = _mm512_fmadd_ps(min, _mm512_set1_ps(all[t][k]), y[t][v]);
        }
    }
}

OPEN_INLINE void few(const void *format, const void *panel, const struct act8 *const *a, int T,
                     bool first, float *y)
{
    const struct small_traits *f = format;
    float all[LOOP_ACTS][SMALL_GROUP];
    if (f->min)
        small_sums(a, T, all);
    for (int i = 0; i < DOTS_PARTS; i++) {
        __m512 part[LOOP_ACTS][2];
        float *const to = y + i * LOOP_WIDE;
        for (int t = 0; t < T; t++)
            for (int v = 0; v < 2; v++)
                part[t][v] = first ? _mm512_setzero_ps()
                                   : _mm512_load_ps(to + t * DOTS_PARTS * LOOP_WIDE + 16 * v);
        block(f, panel, 2 * i, a, all, T, part);
        block(f, panel, 2 * i + 1, a, all, T, part);
        for (int t = 0; t < T; t++)
            for (int v = 0; v < 2; v++)
                _mm512_store_ps(to + t * DOTS_PARTS * LOOP_WIDE + 16 * v, part[t][v]);
    }
}

OPEN_INLINE void multiply(const void *f, const void *panel, const struct loop_acts *acts)
{
    loop_by_few(few, f, panel, acts, DOTS_PARTS);
}

#define SMALL_PANELS(stem, nibbles, less, min)                                                     \
    void panels8_##stem(const struct dots_job *j)                                                  \
    {                                                                                              \
        const struct loop_way way = {DOTS_PARTS, small_pack, multiply};                            \
        struct small_panel p;                                                                      \
        loop_product(j, &way, &stem##_small, &p);                                                  \
    }
SMALL_FORMATS(SMALL_PANELS)
#endif
