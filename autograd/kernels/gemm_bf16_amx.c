/*
 * bf16 products on AMX: 32 x 32 of C in four tiles, the whole depth at once. A's tiles are read
 * where its rows lie, B's from the panels. What is less than 32 rows goes to AVX512-BF16, which
 * every CPU with AMX has.
 */
#if defined __x86_64__
#include <immintrin.h>
#define GEMM_BF16            gemm_bf16_amx
#define GEMM_NAME            "amx"
#define GEMM_TILE            amx_tile
#define GEMM_A_PACKED        false
#define DOT_PAIRS(sum, a, b) _mm512_dpbf16_ps(sum, (__m512bh)(a), (__m512bh)(b))
#define NARROW(p, x)         _mm256_storeu_si256((void *)(p), (__m256i)_mm512_cvtneps_pbh(x))

struct gemm_term;
struct gemm_out;
static void amx_tile(long M, long n0, long n, int n_terms, const struct gemm_term *term,
                     const struct gemm_out *out);

#include "autograd/kernels/gemm_bf16_vec.h"

enum { SIDE = 16, STEP = 32 }; /* rows of a tile, bf16 in one of its rows */

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

/* Tiles 0 to 3: sums; 4, 5: rows of A; 6, 7: columns of B. */
static inline void multiply(const uint16_t *a, int64_t lda, const uint16_t *b)
{
    _tile_loadd(4, a, lda * 2);
    _tile_loadd(6, b, PANEL * 4);
    _tile_loadd(7, b + 2 * SIDE, PANEL * 4);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, a + SIDE * lda, lda * 2);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
}

/* Adds a term's part of rows [i, i + 32) and one panel to the sums. */
static void add_term(const struct gemm_term *t, int64_t i, int64_t panel)
{
    const uint16_t *a = t->A + i * t->lda, *b = t->panels + panel * gemm_term_depth(t) * PANEL;
    int64_t k = 0;
    for (; k + STEP <= t->K; k += STEP)
        multiply(a + k, t->lda, b + k * PANEL);
    if (k == t->K)
        return;
    uint16_t rest[2 * SIDE][STEP] __attribute__((aligned(64)));
    memset(rest, 0, sizeof rest);
    for (int r = 0; r < 2 * SIDE; r++)
        memcpy(rest[r], a + r * t->lda + k, (size_t)(t->K - k) * sizeof rest[r][0]);
    multiply(rest[0], STEP, b + k * PANEL);
}

static void block_of_tiles(const struct cut *c, int64_t i, int n_terms,
                           const struct gemm_term *term)
{
    float sum[2 * SIDE][PANEL] __attribute__((aligned(64)));
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int t = 0; t < n_terms; t++)
        add_term(&term[t], i, c->panel);
    _tile_stored(0, sum[0], sizeof sum[0]);
    _tile_stored(1, sum[0] + SIDE, sizeof sum[0]);
    _tile_stored(2, sum[SIDE], sizeof sum[0]);
    _tile_stored(3, sum[SIDE] + SIDE, sizeof sum[0]);
    for (int r = 0; r < 2 * SIDE; r++) {
        vf s[NV] = {vf_load(sum[r]), vf_load(sum[r] + VF_N)};
        put_row(c, i + r, 0, s);
    }
}

/* The last rows, fewer than 32. */
static void last_rows(int64_t M, int64_t m0, int64_t n0, int64_t n, int n_terms,
                      const struct gemm_term *term, const struct gemm_out *out)
{
    struct gemm_term some[GEMM_TERMS];
    struct gemm_out to = *out;
    for (int t = 0; t < n_terms; t++) {
        some[t] = term[t];
        some[t].A += m0 * term[t].lda;
    }
    to.c = (char *)out->c + m0 * out->ldc * (out->bf16 ? 2 : 4);
    to.add = out->add ? out->add + m0 * out->ldc : NULL;
    tile(M - m0, n0, n, n_terms, some, &to);
}

static void amx_tile(int64_t M, int64_t n0, int64_t n, int n_terms, const struct gemm_term *term,
                     const struct gemm_out *out)
{
    int64_t whole = M / (2 * SIDE) * (2 * SIDE);
    for (int t = 0; t < n_terms; t++)
        if (term[t].K % 2)
            whole = 0; // tile() knows what to do
    if (whole) {
        _tile_loadconfig(&config);
        for (int64_t j = n0; j < n0 + n; j += PANEL) {
            const int64_t left = n0 + n - j;
            const struct cut c = {.panel = j / PANEL,
                                  .out = out,
                                  .first = true,
                                  .last = true,
                                  .n = left < PANEL ? left : PANEL};
            for (int64_t i = 0; i < whole; i += 2 * SIDE)
                block_of_tiles(&c, i, n_terms, term);
        }
        _tile_release();
    }
    if (whole < M)
        last_rows(M, whole, n0, n, n_terms, term, out);
}
#endif
