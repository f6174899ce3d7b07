/*
 * Prompts on AMX: panels of 32 rows as on AVX512-VNNI, which does the rest, but with the scales of
 * sub-blocks multiplied into the weights, so that sums of 256 stay in the tiles. Where level times
 * scale takes more than a byte it is 128 high + low: two planes of bytes, the sums exact as ever.
 */
#if defined __x86_64__
#include "compress/kernels/panels8_loop_avx512vnni.h"

enum {
    SIDE = 16,       /* rows of a tile: activations, or four elements of 16 rows of weights */
    STEP = 64,       /* elements of an activation in a tile */
    ACTS = 2 * SIDE, /* activations in work */
};

/* One block of 32 rows. Row 16 v + i is lane i of vector v. */
struct panel {
    int8_t w[2][GRID_BLOCK / 4][2][4 * SIDE]; /* planes: elements 4k ... 4k + 3 of each row */
    int16_t min[8][2][32]; /* of elements 32 k + (0 ... 15), 32 k + (16 ... 31) of each row */
    float d[2][SIDE], dmin[2][SIDE];
} __attribute__((aligned(64)));

/* Q2_K's, Q3_K's and the ternary formats' scales are small. */
OPEN_INLINE bool two_planes(const struct open_traits *f)
{
    return f->bytes != sizeof(struct q2_k) && f->bytes != sizeof(struct q3_k) &&
           f->bytes != sizeof(struct tq1_0) && f->bytes != sizeof(struct tq2_0);
}

/* ---- packing ---- */

/* x = 128 high + low, low in [-64, 63] */
OPEN_INLINE __m512i high_of(__m512i x)
{
    return _mm512_srai_epi16(_mm512_add_epi16(x, _mm512_set1_epi16(64)), 7);
}

OPEN_INLINE __m512i low_of(__m512i x)
{
    return _mm512_sub_epi16(x, _mm512_slli_epi16(high_of(x), 7));
}

/* Row i: its bytes; negated if there is one plane, as Q3_K's reach from -124 to 128. */
OPEN_INLINE void open_row(const char *block, const struct open_traits *f, int i, struct panel *p,
                          __m512i low[4], __m512i high[4], __m512i *min)
{
    const float d = loop_half(block + f->at);
    struct open o;
    f->open(block, &o);
    for (int k = 0; k < 4; k++) {
        __m512i even, odd;
        loop_scaled(f, &o, k, &even, &odd);
        if (two_planes(f)) {
            low[k] = loop_words(low_of(even), low_of(odd));
            high[k] = loop_words(high_of(even), high_of(odd));
        } else {
            low[k] = _mm512_sub_epi8(_mm512_setzero_si512(), loop_words(even, odd));
        }
    }
    p->d[i / SIDE][i % SIDE] = two_planes(f) ? d : -d;
    if (!f->min)
        return;
    p->dmin[i / SIDE][i % SIDE] = loop_half(block + f->at + 2);
    *min = _mm512_zextsi256_si512(o.min);
}

OPEN_INLINE void pack(const struct dots_job *j, const void *format, int64_t r, int64_t b,
                      void *panel)
{
    const struct open_traits *f = format;
    struct panel *p = panel;
    for (int v = 0; v < 2; v++) {
        __m512i low[SIDE][4], high[SIDE][4], min[SIDE];
        for (int k = 0; k < SIDE; k++) {
            const int64_t row = r + SIDE * v + k, last = j->rows - 1;
            open_row(j->w + (size_t)(row < last ? row : last) * j->stride + b * f->bytes, f,
                     SIDE * v + k, p, low[k], high[k], &min[k]);
        }
        loop_bytes(low, v, p->w[0]);
        if (two_planes(f))
            loop_bytes(high, v, p->w[1]);
        if (!f->min)
            continue;
        loop_transpose(min);
        for (int k = 0; k < 8; k++)
            _mm512_store_si512(p->min[k][v], min[k]);
    }
}

/* ---- products ---- */

/* What the CPU reads for _tile_loadconfig: palette 1, each tile 16 rows of 64 bytes. */
struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
};

/* Constant: gcc 12 says of _tile_loadconfig that it reads the first 8 bytes, and drops stores to
   the others of a local one. */
static const struct tile_config config = {
    .palette = 1,
    .bytes = {64, 64, 64, 64, 64, 64, 64, 64},
    .rows = {SIDE, SIDE, SIDE, SIDE, SIDE, SIDE, SIDE, SIDE},
};

/* ACTS activations with 16 rows of weights, twice: tiles 0 to 3 are sums, 4, 5 activations. */
OPEN_INLINE void tiles(const int8_t *a, int64_t lda, const int8_t *w0, const int8_t *w1,
                       int32_t sum[ACTS][2][SIDE])
{
    enum { LDW = 2 * 4 * SIDE, ROWS = STEP / 4 };
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int k = 0; k < GRID_BLOCK / STEP; k++) {
        _tile_loadd(4, a + k * STEP, lda);
        _tile_loadd(6, w0 + k * ROWS * LDW, LDW);
        _tile_loadd(7, w1 + k * ROWS * LDW, LDW);
        _tile_dpbssd(0, 4, 6);
        _tile_dpbssd(1, 4, 7);
        _tile_loadd(5, a + SIDE * lda + k * STEP, lda);
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
    }
    _tile_stored(0, sum[0][0], sizeof sum[0]);
    _tile_stored(1, sum[0][1], sizeof sum[0]);
    _tile_stored(2, sum[SIDE][0], sizeof sum[0]);
    _tile_stored(3, sum[SIDE][1], sizeof sum[0]);
}

/* 16 rows' sums of min times the sums of activations. */
OPEN_INLINE __m512i mins(const struct panel *p, int v, const struct act8 *a)
{
    __m512i sum = _mm512_setzero_si512();
    for (int k = 0; k < 8; k++)
        sum = _mm512_dpwssd_epi32(sum, loop_four_bytes(a->sum + 2 * k), open_load(p->min[k][v]));
    return sum;
}

OPEN_INLINE void put(const struct open_traits *f, const struct panel *p, int v,
                     const struct act8 *a, __m512i sum, bool first, float *to)
{
    const __m512 e = _mm512_set1_ps(a->d);
    __m512 z = first ? _mm512_setzero_ps() : _mm512_load_ps(to);
    z = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_load_ps(p->d[v]), e), _mm512_cvtepi32_ps(sum), z);
    if (f->min)
        z = _mm512_fnmadd_ps(_mm512_mul_ps(_mm512_load_ps(p->dmin[v]), e),
                             _mm512_cvtepi32_ps(mins(p, v, a)), z);
    _mm512_store_ps(to, z);
}

/* At least ACTS. The last ones may be multiplied twice; they are added once. */
OPEN_INLINE void multiply(const void *format, const void *panel, const struct loop_acts *acts)
{
    const struct open_traits *f = format;
    const struct panel *p = panel;
    __asm__ volatile("" ::: "memory"); // gcc 12 does not say that _tile_loadd reads the panel
    const int64_t lda = acts->stride * (int64_t)sizeof *acts->a;
    for (int64_t i = 0; i < acts->n; i += ACTS) {
        const int64_t from = i < acts->n - ACTS ? i : acts->n - ACTS;
        const struct act8 *a = acts->a + from * acts->stride;
        int32_t sum[2][ACTS][2][SIDE] __attribute__((aligned(64)));
        if (two_planes(f))
            for (int v = 0; v < 2; v++)
                tiles(a->q, lda, p->w[0][0][v], p->w[1][0][v], sum[v]);
        else
            tiles(a->q, lda, p->w[0][0][0], p->w[0][0][1], sum[0]);
        for (int64_t t = i - from; t < ACTS; t++)
            for (int v = 0; v < 2; v++) {
                const __m512i low = open_load(two_planes(f) ? sum[v][t][0] : sum[0][t][v]);
                const __m512i all =
                    two_planes(f)
                        ? _mm512_add_epi32(low, _mm512_slli_epi32(open_load(sum[v][t][1]), 7))
                        : low;
                put(f, p, v, a + t * acts->stride, all, acts->first,
                    acts->y + (from + t) * LOOP_WIDE + SIDE * v);
            }
    }
}

#include "compress/kernels/dots_small_amx.h"

/* ---- the table ---- */

OPEN_INLINE void product(const struct dots_job *j, const struct open_traits *f)
{
    static const struct loop_way way = {1, pack, multiply};
    struct panel p;
    if (j->n < ACTS) {
        dots_avx512vnni.fn[j->format](j);
        return;
    }
    _tile_loadconfig(&config);
    loop_product(j, &way, f, &p);
    _tile_release();
}

static void encode(int64_t cols, const float *x, struct act8 *a)
{
    dots_avx512vnni.encode(cols, x, a);
}

static void encode_32(int64_t cols, const float *x, struct act8 *a)
{
    dots_avx512vnni.encode_32(cols, x, a);
}

#define OPEN_PRODUCT(stem, less, shift, min, offset, big)                                          \
    static void product_##stem(const struct dots_job *j)                                           \
    {                                                                                              \
        product(j, &stem##_traits);                                                                \
    }
OPEN_FORMATS(OPEN_PRODUCT)

#define SMALL_PRODUCT(stem, nibbles, less, min)                                                    \
    static void product_##stem(const struct dots_job *j)                                           \
    {                                                                                              \
        small_product(j, &stem##_small);                                                           \
    }
SMALL_FORMATS(SMALL_PRODUCT)

#define OPEN_ENTRY(stem, less, shift, min, offset, big) [DOTS_##stem] = product_##stem,
#define SMALL_ENTRY(stem, nibbles, less, min)           [DOTS_##stem] = product_##stem,
const struct dots dots_amx = {"amx",
                              &dots_avx512vnni,
                              encode,
                              encode_32,
                              {OPEN_FORMATS(OPEN_ENTRY) SMALL_FORMATS(SMALL_ENTRY)}};
#endif
