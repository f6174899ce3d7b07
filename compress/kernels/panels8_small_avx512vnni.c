/* Panels of eight blocks of 32, whose sums become floats block by block. */
#if defined __x86_64__
#include "compress/kernels/dots_small_avx512vnni.h"
#include "compress/kernels/panels8_loop_avx512vnni.h"

enum { EACH = 32 / 4 }; /* vectors of a block of 16 rows */

/* Row 16 v + i is lane i of vector v. */
struct panel {
    int8_t w[64][2][64];                  /* levels 4k ... 4k + 3 of each row */
    int32_t start[SMALL_GROUP][2][16];    /* loop_start() of a block */
    uint16_t d[SMALL_GROUP][LOOP_WIDE];   /* f16 */
    uint16_t min[SMALL_GROUP][LOOP_WIDE]; /* f16, to be added */
} __attribute__((aligned(64)));

/* ---- packing ---- */

/* Eight blocks; behind the row's end levels of what is there, and scales of 0. */
OPEN_INLINE void open_row(const struct small_traits *f, const char *row, int64_t blocks, int i,
                          struct panel *p, __m512i w[4])
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

OPEN_INLINE void pack(const struct dots_job *j, const void *format, int64_t r, int64_t b,
                      void *panel)
{
    const struct small_traits *f = format;
    const int64_t blocks = j->cols / 32 - b * SMALL_GROUP;
    struct panel *p = panel;
    for (int v = 0; v < 2; v++) {
        __m512i w[16][4];
        for (int k = 0; k < 16; k++) {
            const int64_t row = r + 16 * v + k, last = j->rows - 1;
            open_row(f,
                     j->w + (size_t)(row < last ? row : last) * j->stride +
                         b * SMALL_GROUP * f->bytes,
                     blocks, 16 * v + k, p, w[k]);
        }
        loop_bytes(w, v, p->w);
        for (int k = 0; k < SMALL_GROUP; k++)
            _mm512_store_si512(p->start[k][v],
                               loop_start(p->w + k * EACH, v, EACH, _mm512_set1_epi32(1)));
    }
}

/* ---- products ---- */

OPEN_INLINE __m512 halves(const uint16_t *h)
{
    return _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)h));
}

/* The scales of T activations times their sums. */
OPEN_INLINE void sums_of(const struct act8 *const *a, int T, float (*sum)[SMALL_GROUP])
{
    for (int t = 0; t < T; t++) {
        const __m256i all = _mm256_cvtepi16_epi32(_mm_load_si128((const __m128i *)a[t]->sum32));
        _mm256_storeu_ps(sum[t],
                         _mm256_mul_ps(_mm256_loadu_ps(a[t]->d32), _mm256_cvtepi32_ps(all)));
    }
}

/* y [T][2] plus block k's d e (sum of level a), plus its min times `all`. */
OPEN_INLINE void block(const struct small_traits *f, const struct panel *p, int k,
                       const struct act8 *const *a, const float (*all)[SMALL_GROUP], int T,
                       __m512 (*y)[2])
{
    __m512i sum[LOOP_ACTS][2];
    for (int t = 0; t < T; t++)
        for (int v = 0; v < 2; v++)
            sum[t][v] = open_load(p->start[k][v]);
    for (int i = k * EACH; i < (k + 1) * EACH; i++) {
        const __m512i w0 = open_load(p->w[i][0]), w1 = open_load(p->w[i][1]);
        for (int t = 0; t < T; t++) {
            const __m512i x = loop_four_bytes(a[t]->u + 4 * i);
            sum[t][0] = _mm512_dpbusd_epi32(sum[t][0], x, w0);
            sum[t][1] = _mm512_dpbusd_epi32(sum[t][1], x, w1);
        }
    }
    for (int v = 0; v < 2; v++) {
        const __m512 d = halves(p->d[k] + 16 * v);
        const __m512 min = f->min ? halves(p->min[k] + 16 * v) : _mm512_setzero_ps();
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
        sums_of(a, T, all);
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
        const struct loop_way way = {DOTS_PARTS, pack, multiply};                                  \
        struct panel p;                                                                            \
        loop_product(j, &way, &stem##_small, &p);                                                  \
    }
SMALL_FORMATS(SMALL_PANELS)
#endif
