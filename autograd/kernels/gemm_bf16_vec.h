/*
 * The bf16 products over vf. Included once by each gemm_bf16_<isa>.c, which defines GEMM_BF16, the
 * table, its GEMM_NAME, and, where the ISA multiplies pairs of bf16 by itself, DOT_PAIRS(sum, a,
 * b), and how it rounds a vector, NARROW(p, x).
 *
 * For MC rows of C at a time and every panel of B: blocks of rows pass by it, their sums in
 * registers for up to DEEP of the depth. The panel's part comes from L2, A's rows from where they
 * lie: a pair of A's elements is broadcast, as 32 bits, to all columns.
 */
#include <string.h>

#include "autograd/kernels/gemm_bf16.h"
#include "autograd/kernels/rows.h"
#include "autograd/kernels/vec.h"

#if defined __AVX512F__
enum { MR = 12, NV = 2 }; /* 24 sums and 2 vectors of B in 32 registers */
#elif defined __aarch64__
enum { MR = 8, NV = 2 };
#else
enum { MR = 4, NV = 2 };
#endif
enum { NR = NV * VF_N, MC = 256, DEEP = 4096, PARTS = GEMM_TERMS };

/* ---- pairs: a vf holds VF_N of them, the even element in the low half ---- */

static inline vf pair_load(const uint16_t *p)
{
    return vf_load((const float *)(const void *)p);
}

static inline vf pair_set(const uint16_t *p)
{
    float x; // only moved, never computed with
    memcpy(&x, p, sizeof x);
    return vf_set(x);
}

#if !defined DOT_PAIRS
static inline vf dot_pairs(vf sum, vf a, vf b)
{
    return vf_fma(vf_pair_odd(a), vf_pair_odd(b), vf_fma(vf_pair_even(a), vf_pair_even(b), sum));
}
#define DOT_PAIRS(sum, a, b) dot_pairs(sum, a, b)
#endif

/* ---- products ---- */

/* Depth [k0, k0 + k) of a term. */
struct part {
    const struct gemm_term *term;
    int64_t k0, k;
};

/* What one block of rows reads and writes: columns [j, j + n <= NR) of a panel. */
struct cut {
    const struct part *part;
    int n_parts;
    int64_t panel, h; /* the panel's number, the first of its columns */
    const struct gemm_out *out;
    float *partial;   /* [MC, PANEL] sums of earlier parts; NULL: there are none */
    bool first, last; /* of the groups of parts */
    int64_t n;
};

/* One row of a part's A, and from one pair of its elements to the next. */
static inline const uint16_t *a_row(const struct part *part, int64_t i, const bool packed)
{
    const struct gemm_term *t = part->term;
    return packed ? t->A + (i / PANEL * t->lda + part->k0) * PANEL + i % PANEL * 2
                  : t->A + i * t->lda + part->k0;
}

#if !defined NARROW /* a vector of sums to bf16, to nearest even */
#define NARROW(p, x) vf_narrow(p, x)
#endif

/* The common case: all columns, nothing to add. */
static inline __attribute__((always_inline)) void put_plain(const struct cut *c, int64_t i,
                                                            const vf *sum)
{
    const struct gemm_out *out = c->out;
    const int64_t at = i * out->ldc + c->panel * PANEL + c->h;
    for (int v = 0; v < NV; v++)
        if (out->bf16)
            NARROW((uint16_t *)out->c + at + v * VF_N, sum[v]);
        else
            vf_store((float *)out->c + at + v * VF_N, sum[v]);
}

static inline void put_row(const struct cut *c, int64_t i, int64_t block_row, vf *sum)
{
    const struct gemm_out *out = c->out;
    const int64_t at = i * out->ldc + c->panel * PANEL + c->h;
    float *partial = c->partial + block_row * PANEL + c->h;
    for (int v = 0; v < NV; v++) {
        const int64_t left = c->n - v * VF_N, j = v * VF_N;
        if (left <= 0)
            break;
        if (!c->first)
            sum[v] = sum[v] + vf_load(partial + j);
        if (!c->last) {
            vf_store(partial + j, sum[v]);
            continue;
        }
        const bool whole = left >= VF_N;
        if (out->add)
            sum[v] = sum[v] + (whole ? vf_load(out->add + at + j)
                                     : vf_load_part(out->add + at + j, left, 0));
        if (out->bias) {
            const float *b = out->bias + c->panel * PANEL + c->h + j;
            sum[v] = sum[v] + (whole ? vf_load(b) : vf_load_part(b, left, 0));
        }
        if (!out->bf16) {
            if (whole)
                vf_store((float *)out->c + at + j, sum[v]);
            else
                vf_store_part((float *)out->c + at + j, left, sum[v]);
        } else if (whole) {
            NARROW((uint16_t *)out->c + at + j, sum[v]);
        } else {
            float x[VF_N];
            vf_store(x, sum[v]);
            rows_scalar.narrow(left, x, (uint16_t *)out->c + at + j);
        }
    }
}

/* Rows [i, i + m), m <= mr, of C; rows behind m are computed from row m - 1 and dropped. */
static inline __attribute__((always_inline)) void
block(const struct cut *c, int64_t i, int64_t block_row, int64_t m, const int mr, const bool packed)
{
    vf s[MR][NV];
    for (int r = 0; r < mr; r++)
        for (int v = 0; v < NV; v++)
            s[r][v] = vf_set(0);
    for (int p = 0; p < c->n_parts; p++) {
        const struct part *part = &c->part[p];
        const struct gemm_term *t = part->term;
        const uint16_t *b =
            t->panels + (c->panel * gemm_term_depth(t) + part->k0) * PANEL + 2 * c->h;
        const uint16_t *a[MR];
        for (int r = 0; r < mr; r++)
            a[r] = a_row(part, i + (r < m ? r : m - 1), packed);
        for (int64_t k = 0; k < part->k; k += 2, b += 2 * PANEL) {
            vf y[NV];
            for (int v = 0; v < NV; v++)
                y[v] = pair_load(b + 2 * v * VF_N);
            for (int r = 0; r < mr; r++) {
                const vf x = pair_set(a[r] + (packed ? k * PANEL : k));
                for (int v = 0; v < NV; v++)
                    s[r][v] = DOT_PAIRS(s[r][v], x, y[v]);
            }
        }
    }
    const bool plain = c->first && c->last && c->n >= NR && !c->out->add && !c->out->bias;
    if (plain && m == mr)
        for (int r = 0; r < mr; r++)
            put_plain(c, i + r, s[r]);
    else
        for (int r = 0; r < m; r++)
            put_row(c, i + r, block_row + r, s[r]);
}

/* Rows [i, m) of m0's, of one part of a panel. */
static inline __attribute__((always_inline)) void sweep(const struct cut *c, int64_t m0, int64_t i,
                                                        int64_t m, const bool packed)
{
    while (m - i >= MR && m - i != MR + 4) { // (two blocks of 8 rather than 12 and 4)
        block(c, m0 + i, i, MR, MR, packed);
        i += MR;
    }
#if defined __AVX512F__
    for (; m - i > 4; i += 8)
        block(c, m0 + i, i, m - i < 8 ? m - i : 8, 8, packed);
#endif
    for (; i < m; i += 4)
        block(c, m0 + i, i, m - i < 4 ? m - i : 4, 4, packed);
}

static void sweep_rows(const struct cut *c, int64_t m0, int64_t m)
{
    sweep(c, m0, 0, m, false);
}

/* Blocks of rows end where A's panels do. */
static void sweep_packed(const struct cut *c, int64_t m0, int64_t m)
{
    for (int64_t i = 0; i < m; i += PANEL)
        sweep(c, m0, i, m - i < PANEL ? m : i + PANEL, true);
}

static void tile(int64_t M, int64_t n0, int64_t n, int n_terms, const struct gemm_term *term,
                 const struct gemm_out *out)
{
    static _Thread_local float partial[MC * PANEL] __attribute__((aligned(64)));
    for (int t = 0; t < n_terms; t++)
        if (term[t].K % 2) { // A's last pair would reach beyond its row
            gemm_bf16_scalar.tile(M, n0, n, n_terms, term, out);
            return;
        }
    for (int64_t m0 = 0; m0 < M; m0 += MC) {
        const int64_t m = M - m0 < MC ? M - m0 : MC;
        for (int64_t j = n0; j < n0 + n; j += PANEL) {
            const int64_t wide = n0 + n - j < PANEL ? n0 + n - j : PANEL;
            struct cut c = {.panel = j / PANEL, .out = out, .partial = partial, .first = true};
            int t = 0;
            for (int64_t k0 = 0; !c.last; c.first = false) {
                struct part part[PARTS];
                c.n_parts = 0;
                for (int64_t room = DEEP; t < n_terms && room > 0;) {
                    const int64_t left = term[t].K - k0, k = left < room ? left : room;
                    part[c.n_parts++] = (struct part){&term[t], k0, k};
                    room -= k;
                    k0 += k;
                    if (k == left)
                        t++, k0 = 0;
                }
                c.part = part;
                c.last = t == n_terms;
                for (c.h = 0; c.h < wide; c.h += NR) {
                    c.n = wide - c.h < NR ? wide - c.h : NR;
                    (term->a_packed ? sweep_packed : sweep_rows)(&c, m0, m);
                }
            }
        }
    }
}

/* ---- packing ---- */

/* Elements [k, k + n) of a stored row as bf16 at out [n]: zero behind `end`, or for NULL. */
static inline const uint16_t *row_part(const void *row, bool bf16, int64_t k, int64_t n,
                                       int64_t end, uint16_t *out)
{
    const int64_t there = !row || end <= k ? 0 : end - k < n ? end - k : n;
    if (bf16 && there == n)
        return (const uint16_t *)row + k;
    if (!there)
        return memset(out, 0, (size_t)n * sizeof *out);
    if (bf16)
        memcpy(out, (const uint16_t *)row + k, (size_t)there * sizeof *out);
    else if (there == n)
        for (int64_t i = 0; i < n; i += VF_N)
            vf_narrow(out + i, vf_load((const float *)row + k + i));
    else
        rows_scalar.narrow(there, (const float *)row + k, out);
    if (there < n)
        memset(out + there, 0, (size_t)(n - there) * sizeof *out);
    return out;
}

static const void *row_of(const void *B, bool bf16, int64_t ldb, int64_t row, int64_t rows_there)
{
    return row < rows_there ? (const char *)B + row * ldb * (bf16 ? 2 : 4) : NULL;
}

/* One panel of B stored [N,K]: its columns are rows in memory. */
static void pack_columns(const void *B, bool bf16, int64_t ldb, int64_t K, int64_t N, int64_t j0,
                         uint16_t *to)
{
    uint16_t some[2 * VF_N];
    for (int64_t k = 0; k < panel_depth(K); k += 2 * VF_N)
        for (int64_t j = 0; j < PANEL; j += VF_N) {
            vf r[VF_N];
            for (int c = 0; c < VF_N; c++)
                r[c] = pair_load(
                    row_part(row_of(B, bf16, ldb, j0 + j + c, N), bf16, k, 2 * VF_N, K, some));
            vf_transpose(r);
            for (int i = 0; i < VF_N; i++)
                vf_store((float *)(void *)(to + ((k / 2 + i) * PANEL + j) * 2), r[i]);
        }
}

/* One panel of B stored [K,N]. */
static void pack_rows(const void *B, bool bf16, int64_t ldb, int64_t K, int64_t N, int64_t j0,
                      uint16_t *to)
{
    uint16_t some[2][PANEL];
    for (int64_t k = 0; k < panel_depth(K); k += 2, to += 2 * PANEL) {
        const uint16_t *r[2];
        for (int i = 0; i < 2; i++)
            r[i] = row_part(row_of(B, bf16, ldb, k + i, K), bf16, j0, PANEL, N, some[i]);
        for (int64_t j = 0; j < PANEL; j += VF_N)
            vf_store((float *)(void *)(to + 2 * j),
                     vf_pair(vf_widen(r[0] + j), vf_widen(r[1] + j)));
    }
}

static void pack(bool tb, const void *B, bool bf16, int64_t ldb, int64_t K, int64_t N, int64_t p0,
                 int64_t p1, uint16_t *panels)
{
    for (int64_t p = p0; p < p1; p++) {
        uint16_t *to = panels + p * panel_depth(K) * PANEL;
        if (tb)
            pack_columns(B, bf16, ldb, K, N, p * PANEL, to);
        else
            pack_rows(B, bf16, ldb, K, N, p * PANEL, to);
    }
}

static void turn(const uint16_t *B, int64_t ldb, int64_t K, int64_t m0, int64_t m1, uint16_t *A,
                 int64_t lda)
{
    uint16_t some[2][VF_N];
    for (int64_t k = 0; k < panel_depth(K); k += 2 * VF_N)
        for (int64_t m = m0; m < m1; m += VF_N) {
            vf r[VF_N];
            for (int i = 0; i < VF_N; i++) {
                const uint16_t *x[2];
                for (int h = 0; h < 2; h++)
                    x[h] = row_part(row_of(B, true, ldb, k + 2 * i + h, K), true, m, VF_N, m1,
                                    some[h]);
                r[i] = vf_pair(vf_widen(x[0]), vf_widen(x[1]));
            }
            vf_transpose(r);
            for (int c = 0; c < VF_N && m + c < m1; c++)
                vf_store((float *)(void *)(A + (m + c) * lda + k), r[c]);
        }
}

/* PANEL x PANEL at a time: a panel's pairs along i become rows of w, then pairs along o. */
static void repack(const uint16_t *forward, int64_t O, int64_t I, int64_t p0, int64_t p1,
                   uint16_t *panels)
{
    uint16_t w[PANEL][PANEL] __attribute__((aligned(64)));
    for (int64_t p = p0; p < p1; p++) {
        uint16_t *to = panels + p * panel_depth(O) * PANEL;
        for (int64_t o = 0; o < O; o += PANEL) {
            const uint16_t *from = forward + (o * panel_depth(I) + p * PANEL * PANEL);
            for (int64_t i = 0; i < PANEL; i += 2 * VF_N)
                for (int64_t j = 0; j < PANEL; j += VF_N) {
                    vf r[VF_N];
                    for (int k = 0; k < VF_N; k++)
                        r[k] = pair_load(from + (i / 2 + k) * 2 * PANEL + 2 * j);
                    vf_transpose(r);
                    for (int k = 0; k < VF_N; k++)
                        vf_store((float *)(void *)(w[j + k] + i), r[k]);
                }
            for (int64_t k = 0; k < PANEL; k += 2, to += 2 * PANEL)
                for (int64_t j = 0; j < PANEL; j += VF_N)
                    vf_store((float *)(void *)(to + 2 * j),
                             vf_pair(vf_widen(w[k] + j), vf_widen(w[k + 1] + j)));
        }
    }
}

#if !defined GEMM_TILE
#define GEMM_TILE     tile
#define GEMM_A_PACKED true
#endif
const struct gemm_bf16 GEMM_BF16 = {GEMM_NAME, GEMM_TILE, pack, turn, repack, GEMM_A_PACKED};
