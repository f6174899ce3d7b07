#if defined __x86_64__
#include "autograd/kernels/vec.h"
#include "compress/kernels/dots_open_avx512vnni.h"
#include "compress/kernels/panels8.h"

enum {
    WIDE = 32,   /* rows of weights of a panel: two vectors of results */
    ACTS = 6,    /* activations in work: 24 sums in registers */
    CHUNK = 510, /* activations that share a panel: whole ACTS */
    SUBS = 16,
};

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
OPEN_INLINE __m512i folded(__m512i w, const struct open_traits *f, __m256i scale, int i)
{
    const __m512i four = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    const __m512i at = _mm512_add_epi32(four, _mm512_set1_epi32(4 * i));
    const __m512i s = _mm512_permutexvar_epi16(_mm512_or_si512(at, _mm512_slli_epi32(at, 16)),
                                               _mm512_castsi256_si512(scale));
    const __m512i level = _mm512_sub_epi8(w, open_halves(f->less, f->less << f->shift));
    const __m512i even = _mm512_srai_epi16(_mm512_slli_epi16(level, 8), 8);
    const __m512i odd = _mm512_srai_epi16(level, 8), zero = _mm512_setzero_si512();
    const __m512i x = _mm512_srai_epi16(_mm512_mullo_epi16(even, s), f->shift);
    const __m512i y = _mm512_srai_epi16(_mm512_mullo_epi16(odd, s), f->shift);
    const __m512i both = _mm512_mask_blend_epi8(0xaaaaaaaaaaaaaaaaull, x, _mm512_slli_epi16(y, 8));
    return _mm512_sub_epi8(zero, both);
}

OPEN_INLINE float half_at(const char *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return _cvtsh_ss(h);
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
            w[k][i] = fold ? folded(o.w[i], f, o.scale, i)
                           : _mm512_sub_epi8(o.w[i], _mm512_set1_epi8((char)f->less));
        codes[k] = _mm512_castsi256_si512(o.scale);
        if (f->min)
            codes[k] = _mm512_inserti64x4(codes[k], o.min, 1);
        p->d[v][k] = fold ? -half_at(block + f->at) : half_at(block + f->at);
        if (f->min)
            p->dmin[v][k] = half_at(block + f->at + 2);
    }
}

static inline void transpose(__m512i r[16])
{
    vf x[16];
    for (int i = 0; i < 16; i++)
        x[i] = _mm512_castsi512_ps(r[i]);
    vf_transpose(x);
    for (int i = 0; i < 16; i++)
        r[i] = _mm512_castps_si512(x[i]);
}

OPEN_INLINE void pack(const struct dots_job *j, const struct open_traits *f, int64_t r, int64_t b,
                      struct panel *p)
{
    const int size = sub_size(f);
    for (int v = 0; v < 2; v++) {
        __m512i w[16][4], codes[16], x[16];
        open_rows(j, f, r + 16 * v, b, p, v, w, codes);
        for (int c = 0; c < 4; c++) {
            for (int k = 0; k < 16; k++)
                x[k] = w[k][c];
            transpose(x);
            for (int k = 0; k < 16; k++)
                _mm512_store_si512(p->w[16 * c + k][v], x[k]);
        }
        transpose(codes); // pairs: scales 2k, 2k + 1, then mins
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
            __m512i sum = _mm512_setzero_si512();
            for (int k = 0; k < size / 4; k++)
                sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1),
                                          open_load(p->w[s * size / 4 + k][v]));
            if (size < 256)
                sum = _mm512_mullo_epi32(sum, open_load(p->scale[s][v]));
            all = _mm512_add_epi32(all, sum);
        }
        _mm512_store_si512(p->start[v], _mm512_mullo_epi32(all, _mm512_set1_epi32(-128)));
    }
}

/* ---- products ---- */

OPEN_INLINE __m512i four_bytes(const void *p)
{
    return _mm512_set1_epi32((int)open_u32(p));
}

/* T activations a[t]: results y [T][WIDE]; `first`: nothing is there yet. */
OPEN_INLINE void block(const struct panel *p, const struct open_traits *f,
                       const struct act8 *const *a, int T, bool first, float *y)
{
    const int size = sub_size(f);
    __m512i sum[ACTS][2];
    for (int t = 0; t < T; t++)
        for (int v = 0; v < 2; v++)
            sum[t][v] = open_load(p->start[v]);
    for (int s = 0; s < GRID_BLOCK / size; s++) {
        __m512i part[ACTS][2];
        for (int t = 0; t < T; t++)
            for (int v = 0; v < 2; v++)
                part[t][v] = size == 256 ? sum[t][v] : _mm512_setzero_si512();
        for (int k = 0; k < size / 4; k++) {
            const __m512i w0 = open_load(p->w[s * size / 4 + k][0]);
            const __m512i w1 = open_load(p->w[s * size / 4 + k][1]);
            for (int t = 0; t < T; t++) {
                const __m512i x = four_bytes(a[t]->u + s * size + 4 * k);
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
    __m512i low[ACTS][2];
    for (int t = 0; t < T && f->min; t++)
        low[t][0] = low[t][1] = _mm512_setzero_si512();
    for (int k = 0; k < 8 && f->min; k++) {
        const __m512i m0 = open_load(p->min[k][0]), m1 = open_load(p->min[k][1]);
        for (int t = 0; t < T; t++) {
            const __m512i x = four_bytes(a[t]->sum + 2 * k);
            low[t][0] = _mm512_dpwssd_epi32(low[t][0], x, m0);
            low[t][1] = _mm512_dpwssd_epi32(low[t][1], x, m1);
        }
    }
    for (int t = 0; t < T; t++)
        for (int v = 0; v < 2; v++) {
            const __m512 e = _mm512_set1_ps(a[t]->d);
            float *to = y + t * WIDE + 16 * v;
            __m512 z = first ? _mm512_setzero_ps() : _mm512_load_ps(to);
            z = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_load_ps(p->d[v]), e),
                                _mm512_cvtepi32_ps(sum[t][v]), z);
            if (f->min)
                z = _mm512_fnmadd_ps(_mm512_mul_ps(_mm512_load_ps(p->dmin[v]), e),
                                     _mm512_cvtepi32_ps(low[t][v]), z);
            _mm512_store_ps(to, z);
        }
}

OPEN_INLINE void product(const struct dots_job *j, const struct open_traits *f)
{
    static _Thread_local float tile[CHUNK * WIDE] __attribute__((aligned(64)));
    const int64_t blocks = j->cols / GRID_BLOCK;
    for (int64_t i0 = 0; i0 < j->n; i0 += CHUNK) {
        const int64_t n = j->n - i0 < CHUNK ? j->n - i0 : CHUNK;
        const struct act8 *first = (const struct act8 *)j->a + i0 * blocks;
        for (int64_t r = 0; r < j->rows; r += WIDE) {
            for (int64_t b = 0; b < blocks; b++) {
                struct panel p;
                pack(j, f, r, b, &p);
                for (int64_t i = 0; i < n; i += ACTS) {
                    const struct act8 *a[ACTS];
                    const int64_t there = n - i;
                    for (int t = 0; t < ACTS; t++)
                        a[t] = first + (i + (t < there ? t : 0)) * blocks + b;
                    if (there >= ACTS)
                        block(&p, f, a, ACTS, b == 0, tile + i * WIDE);
                    else if (there > 3)
                        block(&p, f, a, 5, b == 0, tile + i * WIDE);
                    else
                        block(&p, f, a, 3, b == 0, tile + i * WIDE);
                }
            }
            const int64_t wide = j->rows - r < WIDE ? j->rows - r : WIDE;
            for (int64_t i = 0; i < n; i++)
                memcpy(j->y + (i0 + i) * j->ldy + r, tile + i * WIDE, (size_t)wide * sizeof *tile);
        }
    }
}

#define OPEN_PANELS(stem, less, shift, min, offset, big)                                           \
    void panels8_##stem(const struct dots_job *j)                                                  \
    {                                                                                              \
        product(j, &stem##_traits);                                                                \
    }
OPEN_FORMATS(OPEN_PANELS)
#endif
