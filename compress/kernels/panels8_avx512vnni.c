#if defined __x86_64__
#include "compress/kernels/panels8_loop_avx512vnni.h"

enum { SUBS = 16 };

/* One block of 32 rows. Row 16 v + i is lane i of vector v. */
struct panel {
    int8_t w[64][2][64]; /* elements 4k ... 4k + 3 of each row */
    int32_t scale[SUBS][2][16];
    int16_t min[8][2][32]; /* of elements 32 k + (0 ... 15), 32 k + (16 ... 31) of each row */
    int32_t start[2][16];  /* what 128 added to all activations is to be corrected by */
    float d[2][16], dmin[2][16];
} __attribute__((aligned(64)));

/* Elements of a sub-block; the scales of Q2_K and Q3_K are small enough to be multiplied into the
   weights: 256. */
OPEN_INLINE int sub_size(const struct open_traits *f)
{
    return f->bytes == sizeof(struct q6_k)                                                ? 16
           : f->big || f->bytes == sizeof(struct q4_k) || f->bytes == sizeof(struct q5_k) ? 32
                                                                                          : 256;
}

/* ---- packing ---- */

/* Level times scale, negated: Q3_K's reach from -124 to 128. */
OPEN_INLINE __m512i folded(const struct open_traits *f, const struct open *o, int i)
{
    __m512i even, odd;
    loop_scaled(f, o, i, &even, &odd);
    return _mm512_sub_epi8(_mm512_setzero_si512(), loop_words(even, odd));
}

/* Sixteen rows: their bytes and their scales, row by row. */
OPEN_INLINE void open_rows(const struct dots_job *j, const struct open_traits *f, int64_t r,
                           int64_t b, struct panel *p, int v, __m512i w[16][4], __m512i codes[16])
{
    const bool fold = sub_size(f) == 256;
    for (int k = 0; k < 16; k++) {
        const int64_t row = r + k < j->rows ? r + k : j->rows - 1;
        const char *block = j->w + (size_t)row * j->stride + b * f->bytes;
        struct open o;
        f->open(block, &o);
        for (int i = 0; i < 4; i++)
            w[k][i] =
                fold ? folded(f, &o, i) : _mm512_sub_epi8(o.w[i], _mm512_set1_epi8((char)f->less));
        codes[k] = _mm512_castsi256_si512(o.scale);
        if (f->min)
            codes[k] = _mm512_inserti64x4(codes[k], o.min, 1);
        p->d[v][k] = fold ? -loop_half(block + f->at) : loop_half(block + f->at);
        if (f->min)
            p->dmin[v][k] = loop_half(block + f->at + 2);
    }
}

OPEN_INLINE void pack(const struct dots_job *j, const void *format, int64_t r, int64_t b,
                      void *panel)
{
    const struct open_traits *f = format;
    struct panel *p = panel;
    const int size = sub_size(f);
    for (int v = 0; v < 2; v++) {
        __m512i w[16][4], codes[16];
        open_rows(j, f, r + 16 * v, b, p, v, w, codes);
        loop_bytes(w, v, p->w);
        loop_transpose(codes); // pairs: scales 2k, 2k + 1, then mins
        for (int k = 0; k < 8; k++) {
            const __m512i even = _mm512_srai_epi32(_mm512_slli_epi32(codes[k], 16), 16);
            if (size == 16) {
                _mm512_store_si512(p->scale[2 * k][v], even);
                _mm512_store_si512(p->scale[2 * k + 1][v], _mm512_srai_epi32(codes[k], 16));
            } else {
                _mm512_store_si512(p->scale[k][v], even);
            }
            if (f->min)
                _mm512_store_si512(p->min[k][v], codes[8 + k]);
        }
        __m512i all = _mm512_setzero_si512();
        for (int s = 0; s < GRID_BLOCK / size; s++) {
            const __m512i scale = size < 256 ? open_load(p->scale[s][v]) : _mm512_set1_epi32(1);
            all = _mm512_add_epi32(all, loop_start(p->w + s * size / 4, v, size / 4, scale));
        }
        _mm512_store_si512(p->start[v], all);
    }
}

/* ---- products ---- */

OPEN_INLINE void few(const void *format, const void *panel, const struct act8 *const *a, int T,
                     bool first, float *y)
{
    const struct open_traits *f = format;
    const struct panel *p = panel;
    const int size = sub_size(f);
    __m512i sum[LOOP_ACTS][2];
    for (int t = 0; t < T; t++)
        for (int v = 0; v < 2; v++)
            sum[t][v] = open_load(p->start[v]);
    for (int s = 0; s < GRID_BLOCK / size; s++) {
        __m512i part[LOOP_ACTS][2];
        for (int t = 0; t < T; t++)
            for (int v = 0; v < 2; v++)
                part[t][v] = size == 256 ? sum[t][v] : _mm512_setzero_si512();
        for (int k = 0; k < size / 4; k++) {
            const __m512i w0 = open_load(p->w[s * size / 4 + k][0]);
            const __m512i w1 = open_load(p->w[s * size / 4 + k][1]);
            for (int t = 0; t < T; t++) {
                const __m512i x = loop_four_bytes(a[t]->u + s * size + 4 * k);
                part[t][0] = _mm512_dpbusd_epi32(part[t][0], x, w0);
                part[t][1] = _mm512_dpbusd_epi32(part[t][1], x, w1);
            }
        }
        for (int t = 0; t < T; t++)
            for (int v = 0; v < 2; v++)
                sum[t][v] = size == 256
                                ? part[t][v]
                                : _mm512_add_epi32(sum[t][v],
                                                   _mm512_mullo_epi32(part[t][v],
                                                                      open_load(p->scale[s][v])));
    }
    __m512i low[LOOP_ACTS][2];
    for (int t = 0; t < T && f->min; t++)
        low[t][0] = low[t][1] = _mm512_setzero_si512();
    for (int k = 0; k < 8 && f->min; k++) {
        const __m512i m0 = open_load(p->min[k][0]), m1 = open_load(p->min[k][1]);
        for (int t = 0; t < T; t++) {
            const __m512i x = loop_four_bytes(a[t]->sum + 2 * k);
            low[t][0] = _mm512_dpwssd_epi32(low[t][0], x, m0);
            low[t][1] = _mm512_dpwssd_epi32(low[t][1], x, m1);
        }
    }
    for (int t = 0; t < T; t++)
        for (int v = 0; v < 2; v++) {
            const __m512 e = _mm512_set1_ps(a[t]->d);
            float *to = y + t * LOOP_WIDE + 16 * v;
            __m512 z = first ? _mm512_setzero_ps() : _mm512_load_ps(to);
            z = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_load_ps(p->d[v]), e),
                                _mm512_cvtepi32_ps(sum[t][v]), z);
            if (f->min)
                z = _mm512_fnmadd_ps(_mm512_mul_ps(_mm512_load_ps(p->dmin[v]), e),
                                     _mm512_cvtepi32_ps(low[t][v]), z);
            _mm512_store_ps(to, z);
        }
}

OPEN_INLINE void multiply(const void *f, const void *panel, const struct loop_acts *acts)
{
    loop_by_few(few, f, panel, acts, 1);
}

#define OPEN_PANELS(stem, less, shift, min, offset, big)                                           \
    void panels8_##stem(const struct dots_job *j)                                                  \
    {                                                                                              \
        const struct loop_way way = {1, pack, multiply};                                           \
        struct panel p;                                                                            \
        loop_product(j, &way, &stem##_traits, &p);                                                 \
    }
OPEN_FORMATS(OPEN_PANELS)
#endif
