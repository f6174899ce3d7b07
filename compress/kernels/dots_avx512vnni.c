#if defined __x86_64__
#include <math.h>

#include "compress/kernels/dots.h"
#include "compress/kernels/dots_four_avx512vnni.h"
#include "compress/kernels/dots_open_avx512vnni.h"
#include "compress/kernels/dots_small_avx512vnni.h"
#include "compress/kernels/panels8.h"

/* ---- activations ---- */

static inline __m512 load_part(const float *x, int64_t n)
{
    if (n >= 16)
        return _mm512_loadu_ps(x);
    return _mm512_maskz_loadu_ps((__mmask16)(n > 0 ? (1 << n) - 1 : 0), x);
}

static void encode_group(int64_t n, const float *x, struct act8 *a)
{
    __m512i top = _mm512_setzero_si512();
    __m512 v[16];
    for (int i = 0; i < 16; i++) {
        v[i] = load_part(x + 16 * i, n - 16 * i);
        top = _mm512_max_epu32(top, _mm512_and_si512(_mm512_castps_si512(v[i]),
                                                     _mm512_set1_epi32(0x7fffffff)));
    }
    const uint32_t bits = _mm512_reduce_max_epu32(top);
    const float most = half_from(bits);
    const bool finite = bits < 0x7f800000, some = finite && most >= 0x1p-100f;
    a->d = !finite ? NAN : some ? most / 127 : 0;
    const __m512 inverse = _mm512_set1_ps(some ? 127 / most : 0);
    const __mmask16 keep = some ? 0xffff : 0;
    for (int i = 0; i < 16; i++) {
        const __m512i q = _mm512_maskz_cvtps_epi32(keep, _mm512_mul_ps(v[i], inverse));
        const __m128i b = _mm512_cvtepi32_epi8(q);
        _mm_store_si128((__m128i *)(a->q + 16 * i), b);
        _mm_store_si128((__m128i *)(a->u + 16 * i), _mm_xor_si128(b, _mm_set1_epi8((char)128)));
        a->sum[i] = (int16_t)_mm512_reduce_add_epi32(q);
        if (i % 2)
            a->sum32[i / 2] = (int16_t)(a->sum[i - 1] + a->sum[i]);
    }
}

static void encode(int64_t cols, const float *x, struct act8 *a)
{
    for (int64_t i = 0; i < cols; i += ACT8, a++)
        encode_group(cols - i < ACT8 ? cols - i : ACT8, x + i, a);
}

/* Sums, or largest, of the elements of each of eight vectors. */
OPEN_INLINE __m256i fold(__m256i a, __m256i b, bool add)
{
    return add ? _mm256_add_epi32(a, b) : _mm256_max_epu32(a, b);
}

OPEN_INLINE __m256i eight(const __m256i *v, bool add)
{
    __m256i four[2];
    for (int i = 0; i < 2; i++, v += 4) {
        const __m256i a =
            fold(_mm256_unpacklo_epi32(v[0], v[1]), _mm256_unpackhi_epi32(v[0], v[1]), add);
        const __m256i b =
            fold(_mm256_unpacklo_epi32(v[2], v[3]), _mm256_unpackhi_epi32(v[2], v[3]), add);
        four[i] = fold(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b), add);
    }
    return fold(_mm256_permute2x128_si256(four[0], four[1], 0x20),
                _mm256_permute2x128_si256(four[0], four[1], 0x31), add);
}

/* The scales of a group of n elements in runs, their inverses, and which runs are not 0. */
static __mmask8 scales_32(int64_t n, const float *x, __m512 v[16], float *d, float *inverse)
{
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    __m256i top[ACT8_RUNS];
    for (int k = 0; k < ACT8_RUNS; k++) {
        v[2 * k] = load_part(x + 32 * k, n - 32 * k);
        v[2 * k + 1] = load_part(x + 32 * k + 16, n - 32 * k - 16);
        const __m512i t =
            _mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(v[2 * k]), magnitude),
                             _mm512_and_si512(_mm512_castps_si512(v[2 * k + 1]), magnitude));
        top[k] = _mm256_max_epu32(_mm512_castsi512_si256(t), _mm512_extracti64x4_epi64(t, 1));
    }
    const __m256i bits = eight(top, false);
    const __m256 most = _mm256_castsi256_ps(bits), all = _mm256_set1_ps(127);
    const __mmask8 finite = _mm256_cmplt_epu32_mask(bits, _mm256_set1_epi32(0x7f800000));
    const __mmask8 some =
        _mm256_mask_cmp_ps_mask(finite, most, _mm256_set1_ps(0x1p-100f), _CMP_GE_OQ);
    const __m256 scale = _mm256_maskz_div_ps(some, most, all);
    _mm256_storeu_ps(d, _mm256_mask_blend_ps(finite, _mm256_set1_ps(NAN), scale));
    _mm256_storeu_ps(inverse, _mm256_maskz_div_ps(some, all, most));
    return some;
}

static void encode_group_32(int64_t n, const float *x, struct act8 *a)
{
    __m512 v[16];
    float inverse[ACT8_RUNS];
    const __mmask8 some = scales_32(n, x, v, a->d32, inverse);
    __m256i sum[ACT8_RUNS];
    for (int k = 0; k < ACT8_RUNS; k++) {
        const __mmask16 keep = some >> k & 1 ? 0xffff : 0;
        const __m512 by = _mm512_set1_ps(inverse[k]);
        __m128i q[2];
        for (int i = 0; i < 2; i++)
            q[i] = _mm512_cvtepi32_epi8(
                _mm512_maskz_cvtps_epi32(keep, _mm512_mul_ps(v[2 * k + i], by)));
        const __m256i b = _mm256_inserti128_si256(_mm256_castsi128_si256(q[0]), q[1], 1);
        _mm256_storeu_si256((__m256i *)(a->q + 32 * k), b);
        _mm256_storeu_si256((__m256i *)(a->u + 32 * k),
                            _mm256_xor_si256(b, _mm256_set1_epi8((char)128)));
        sum[k] = _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(1), b);
    }
    _mm_store_si128((__m128i *)a->sum32, _mm256_cvtepi32_epi16(eight(sum, true)));
    a->d = 0;
}

static void encode_32(int64_t cols, const float *x, struct act8 *a)
{
    for (int64_t i = 0; i < cols; i += ACT8, a++)
        encode_group_32(cols - i < ACT8 ? cols - i : ACT8, x + i, a);
}

/* ---- a few rows of weights with a few of activations: R * T results in fours ---- */

enum { MOST = 8, AHEAD = 8192 }; /* results in work; bytes that are fetched ahead at least */

struct place {
    const char *row[4];
    const struct act8 *a[MOST];
    int64_t blocks;
    const char *next; /* what comes behind the rows, in memory and in time */
};

/* Sums of the elements of each of four vectors. */
OPEN_INLINE __m256i pair_sums(__m256i a, __m256i b)
{
    return _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
}

OPEN_INLINE __m128i four_sums_256(const __m256i *v)
{
    const __m256i a = pair_sums(v[0], v[1]), b = pair_sums(v[2], v[3]);
    const __m256i s = _mm256_add_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
    return _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
}

OPEN_INLINE __m128i four_sums(const __m512i *v)
{
    const __m512i s = open_sums(v);
    const __m256i t = _mm256_add_epi32(_mm512_castsi512_si256(s), _mm512_extracti64x4_epi64(s, 1));
    return _mm_add_epi32(_mm256_castsi256_si128(t), _mm256_extracti128_si256(t, 1));
}

/* Scales of 16 elements each. big: for elements 64 i + j at 32-bit lane j / 4. Else for sums of
   four products of elements 128 i + j and 128 i + 64 + j, packed into 16 bits. */
OPEN_INLINE __m512i spread(__m256i scale, int i, bool big)
{
    const __m512i four = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    if (big)
        return _mm512_permutexvar_epi32(_mm512_add_epi32(four, _mm512_set1_epi32(4 * i)),
                                        _mm512_cvtepi16_epi32(scale));
    const __m512i pairs =
        _mm512_setr_epi32(0, 0, 4, 4, 1, 1, 5, 5, 2, 2, 6, 6, 3, 3, 7, 7); // of words
    const __m512i at = _mm512_add_epi32(pairs, _mm512_set1_epi32(8 * i));
    return _mm512_permutexvar_epi16(_mm512_or_si512(at, _mm512_slli_epi32(at, 16)),
                                    _mm512_castsi256_si512(scale));
}

/* A block's sums of scale w a, over the lanes; scale: 4 of them if big, else 2. */
OPEN_INLINE __m512i products(const struct open_traits *f, const __m512i w[4], const struct act8 *a,
                             const __m512i scale[4])
{
    __m512i p[4], s = _mm512_setzero_si512();
    for (int i = 0; i < 4; i++)
        p[i] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), w[i], open_load(a->q + 64 * i));
    for (int i = 0; i < 4 && f->big; i++)
        s = _mm512_add_epi32(s, _mm512_mullo_epi32(p[i], scale[i]));
    for (int i = 0; i < 2 && !f->big; i++)
        s = _mm512_dpwssd_epi32(s, _mm512_packs_epi32(p[2 * i], p[2 * i + 1]), scale[i]);
    return s;
}

/* The block's d and dmin of R rows, each for T results: f32 in two vectors of four. */
OPEN_INLINE void scales_of(const char *const *block, const struct open_traits *f, int R, int T,
                           int first, __m128 *d, __m128 *dmin)
{
    uint32_t h[4];
    for (int i = 0; i < 4; i++) {
        const char *at = block[(first + i) / T % R] + f->at;
        uint16_t one;
        memcpy(&one, at, sizeof one);
        h[i] = f->min ? open_u32(at) : one;
    }
    const __m128i all = _mm_setr_epi32((int)h[0], (int)h[1], (int)h[2], (int)h[3]);
    const __m256 x = _mm256_cvtph_ps(all);
    const __m128 lo = _mm256_castps256_ps128(x), hi = _mm256_extractf128_ps(x, 1);
    *d = _mm_shuffle_ps(lo, hi, 0x88);
    *dmin = _mm_shuffle_ps(lo, hi, 0xdd);
}

/* Results i = r T + t of rows r < R and activations t < T. */
OPEN_INLINE void few(const struct place *p, const struct open_traits *f, int R, int T, __m128 *y)
{
    for (int i = 0; i < R * T / 4; i++)
        y[i] = _mm_setzero_ps();
    const char *next = p->next;
    for (int64_t b = 0; b < p->blocks; b++) {
        __m512i sum[MOST];
        for (int i = 0; T == 1 && i < R * f->bytes; i += 64)
            _mm_prefetch(next + i, _MM_HINT_T1);
        next += R * f->bytes;
        __m256i min[MOST];
        const char *block[4];
        for (int r = 0; r < R; r++) {
            struct open o;
            block[r] = p->row[r] + b * f->bytes;
            f->open(block[r], &o);
            __m512i scale[4];
            for (int i = 0; i < (f->big ? 4 : 2); i++)
                scale[i] = spread(o.scale, i, f->big);
            for (int t = 0; t < T; t++) {
                const struct act8 *a = p->a[t] + b;
                __m512i s = products(f, o.w, a, scale);
                const __m256i sums = _mm256_load_si256((const __m256i *)a->sum);
                if (f->offset)
                    s = _mm512_sub_epi32(s,
                                         _mm512_zextsi256_si512(_mm256_madd_epi16(o.offset, sums)));
                sum[r * T + t] = s;
                if (f->min)
                    min[r * T + t] = _mm256_madd_epi16(o.min, sums);
            }
        }
        for (int i = 0; i < R * T; i += 4) {
            __m128 d, dmin;
            scales_of(block, f, R, T, i, &d, &dmin);
            const __m128 e = T == 1 ? _mm_set1_ps(p->a[0][b].d)
                                    : _mm_setr_ps(p->a[i % T][b].d, p->a[(i + 1) % T][b].d,
                                                  p->a[(i + 2) % T][b].d, p->a[(i + 3) % T][b].d);
            const __m128i s = _mm_srai_epi32(four_sums(sum + i), f->shift);
            y[i / 4] = _mm_fmadd_ps(_mm_mul_ps(d, e), _mm_cvtepi32_ps(s), y[i / 4]);
            if (f->min)
                y[i / 4] = _mm_fnmadd_ps(_mm_mul_ps(dmin, e),
                                         _mm_cvtepi32_ps(four_sums_256(min + i)), y[i / 4]);
        }
    }
}

/* ---- one activation ---- */

/* Four rows; x: the activation's elements in order. */
OPEN_INLINE __m128 four(const struct place *p, const struct four_traits *f,
                        const int8_t (*x)[4][64])
{
    __m128 y = _mm_setzero_ps();
    const char *next = p->next;
    const struct act8 *a = p->a[0];
    for (int64_t b = 0; b < p->blocks; b++, a++, next += 4 * f->bytes) {
        const char *const block[4] = {p->row[0] + b * f->bytes, p->row[1] + b * f->bytes,
                                      p->row[2] + b * f->bytes, p->row[3] + b * f->bytes};
        for (int i = 0; i < 4 * f->bytes; i += 64)
            _mm_prefetch(next + i, _MM_HINT_T1);
        struct four o;
        __m512i sum[4];
        f->scales(block, &o);
        for (int r = 0; r < 4; r++) {
            __m512i w[4];
            f->codes(block[r], w);
            sum[r] = four_dot(&o, f, r, w, x[b]);
        }
        const __m128 e = _mm_set1_ps(a->d);
        const __m128i min = four_mins(&o, f, a);
        __m128i s = four_sums(sum);
        if (f->less)
            s = _mm_sub_epi32(s, _mm_mullo_epi32(min, _mm_set1_epi32(f->less)));
        s = _mm_srai_epi32(s, f->shift);
        y = _mm_fmadd_ps(_mm_mul_ps(o.d, e), _mm_cvtepi32_ps(s), y);
        if (!f->less)
            y = _mm_fnmadd_ps(_mm_mul_ps(o.dmin, e), _mm_cvtepi32_ps(min), y);
    }
    return y;
}

/* By the format's own way if it has one. */
OPEN_INLINE void one(const struct dots_job *j, const struct open_traits *f,
                     const struct four_traits *fast)
{
    static _Thread_local int8_t x[FOUR_MOST][4][64] __attribute__((aligned(64)));
    const size_t four_rows = 4 * j->stride, ahead = four_rows > AHEAD ? four_rows : AHEAD;
    struct place p = {.a = {j->a}, .blocks = j->cols / GRID_BLOCK};
    const bool own = fast && p.blocks <= FOUR_MOST;
    if (own)
        four_order(fast, j->a, p.blocks, x);
    for (int64_t r = 0; r < j->rows; r += 4) {
        const int64_t last = j->rows - r - 1; // rows that are not there are computed twice
        const char *w = j->w + (size_t)r * j->stride;
        __m128 y;
        p.next = w + ahead;
        for (int k = 0; k < 4; k++)
            p.row[k] = w + (size_t)(k < last ? k : last) * j->stride;
        if (own)
            y = four(&p, fast, x);
        else
            few(&p, f, 4, 1, &y);
        _mm_mask_storeu_ps(j->y + r, last < 3 ? (__mmask8)((2 << last) - 1) : 0xf, y);
    }
}

/* ---- the table ---- */

/* R rows from r on and T activations from i on; those that are not there are computed twice. */
OPEN_INLINE void some(const struct dots_job *j, const struct open_traits *f, int64_t r, int64_t i,
                      int R, int T)
{
    struct place p = {.blocks = j->cols / GRID_BLOCK};
    const int64_t rows = j->rows - r < R ? j->rows - r : R, n = j->n - i < T ? j->n - i : T;
    p.next = j->w + (size_t)(r + R) * j->stride;
    if (AHEAD > (size_t)R * j->stride)
        p.next = j->w + (size_t)r * j->stride + AHEAD;
    for (int k = 0; k < R; k++)
        p.row[k] = j->w + (size_t)(r + (k < rows ? k : rows - 1)) * j->stride;
    for (int k = 0; k < T; k++)
        p.a[k] = (const struct act8 *)j->a + (i + (k < n ? k : n - 1)) * p.blocks;
    __m128 y[MOST / 4];
    few(&p, f, R, T, y);
    float v[MOST];
    for (int k = 0; k < R * T; k += 4)
        _mm_storeu_ps(v + k, y[k / 4]);
    for (int64_t t = 0; t < n; t++)
        for (int64_t k = 0; k < rows; k++)
            j->y[(i + t) * j->ldy + r + k] = v[k * T + t];
}

OPEN_INLINE void product(const struct dots_job *j, const struct open_traits *f,
                         const struct four_traits *fast)
{
    if (j->n == 1) {
        one(j, f, fast);
        return;
    }
    for (int64_t r = 0; r < j->rows; r += 4) {
        int64_t i = 0;
        for (; j->n - i > 4; i += 8)
            for (int64_t k = r; k < r + 4 && k < j->rows; k++)
                some(j, f, k, i, 1, 8);
        for (; j->n - i > 2; i += 4)
            for (int64_t k = r; k < r + 4 && k < j->rows; k++)
                some(j, f, k, i, 1, 4);
        if (j->n - i > 1)
            for (int64_t k = r; k < r + 4 && k < j->rows; k += 2)
                some(j, f, k, i, 2, 2);
        else if (j->n - i == 1)
            some(j, f, r, i, 4, 1);
    }
}

#define q2_k_fast   &q2_k_four
#define q3_k_fast   &q3_k_four
#define q4_k_fast   &q4_k_four
#define q5_k_fast   &q5_k_four
#define q6_k_fast   NULL
#define iq4_xs_fast NULL
#define tq1_0_fast  NULL
#define tq2_0_fast  NULL
#define OPEN_PRODUCT(stem, less, shift, min, offset, big)                                          \
    static void product_##stem(const struct dots_job *j)                                           \
    {                                                                                              \
        if (j->n >= PANELS8_MIN)                                                                   \
            panels8_##stem(j);                                                                     \
        else                                                                                       \
            product(j, &stem##_traits, stem##_fast);                                               \
    }
OPEN_FORMATS(OPEN_PRODUCT)

#define OPEN_ENTRY(stem, less, shift, min, offset, big) [DOTS_##stem] = product_##stem,
#define SMALL_ENTRY(stem, nibbles, less, min)           [DOTS_##stem] = dots_small_##stem,
const struct dots dots_avx512vnni = {"avx512_vnni",
                                     &dots_avx2,
                                     encode,
                                     encode_32,
                                     {OPEN_FORMATS(OPEN_ENTRY) SMALL_FORMATS(SMALL_ENTRY)}};
#endif
