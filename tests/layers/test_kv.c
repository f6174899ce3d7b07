#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "autograd/base/rng.h"
#include "autograd/kernels/gemm.h"
#include "layers/transformer.h"
#include "tests/experiments/tiny_model.h"

enum { SEQS = 4, LENGTH = 40 };

static void token_of(int seq, int32_t *token)
{
    for (int i = 0; i < LENGTH; i++)
        token[i] = (int32_t)rng_below((uint64_t)seq, (uint64_t)i, 257);
}

/* hidden [n,C] of a batch, copied to out. */
static void run(struct transformer *m, const struct batch *b, float *out)
{
    struct ctx ctx;
    assert_int_equal(ctx_init(&ctx, 64 << 20), 0);
    const struct tensor *hidden = transformer_forward(&ctx, m, b);
    if (!hidden)
        fail_msg("%s", ctx.text);
    memcpy(out, hidden->data, (size_t)(b->n * m->dims.d_model) * sizeof *out);
    ctx_free(&ctx);
}

static void assert_close(const float *a, const float *b, int n)
{
    double distance = 0, norm = 0;
    for (int i = 0; i < n; i++) {
        distance += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += (double)b[i] * b[i];
    }
    if (!(sqrt(distance) <= 1e-5 * sqrt(norm)))
        fail_msg("distance %g of norm %g", sqrt(distance), sqrt(norm));
}

/* The same bits, whatever was computed with them; OpenBLAS' products depend on the rows beside. */
static void assert_same(const float *a, const float *b, int n)
{
    if (gemm_tile == gemm_blas)
        assert_close(a, b, n);
    else
        assert_memory_equal(a, b, (size_t)n * sizeof *a);
}

static void pool_or_fail(struct kv_pool *p, const struct transformer *m, enum kvblock_type type,
                         int64_t blocks)
{
    if (kv_pool_init(p, &m->dims, type, blocks))
        fail_msg("%s", err_text());
}

/* Four sequences grow by different steps, some by none, one without a cache beside them: each is
   as if it were alone and whole. */
static void ragged_sequences_do_not_meet(void **state)
{
    static const int step[][SEQS] = {
        {5, 1, 17, 0}, {1, 1, 1, 1}, {3, 0, 2, 9}, {1, 1, 0, 1}, {0, 12, 1, 4}, {7, 1, 1, 1},
    };
    static float expected[SEQS][LENGTH * 32], got[SEQS * LENGTH * 32];
    struct transformer m;
    struct kv_pool pool;
    struct kv kv[SEQS];
    int32_t token[SEQS][LENGTH], pos[SEQS * LENGTH], tok[SEQS * LENGTH];
    (void)state;
    tiny_model(&m, false, false);
    pool_or_fail(&pool, &m, KVBLOCK_F32, SEQS * kv_blocks(LENGTH));
    const int C = m.dims.d_model;
    for (int s = 0; s < SEQS; s++) {
        const struct sequence seq = {.len = LENGTH};
        token_of(s, token[s]);
        for (int i = 0; i < LENGTH; i++)
            pos[i] = i;
        run(&m, &(struct batch){LENGTH, token[s], pos, NULL, &seq, 1}, expected[s]);
        kv_open(&kv[s], &pool);
    }
    for (size_t k = 0; k < sizeof step / sizeof *step; k++) {
        struct sequence seq[SEQS + 1];
        int rows = 0, n = 0, at[SEQS];
        for (int s = 0; s < SEQS; s++) {
            at[s] = (int)kv[s].len;
            if (!step[k][s])
                continue;
            seq[n++] = (struct sequence){rows, step[k][s], &kv[s]};
            for (int i = 0; i < step[k][s]; i++, rows++) {
                tok[rows] = token[s][at[s] + i];
                pos[rows] = at[s] + i;
            }
        }
        seq[n++] = (struct sequence){rows, 6, NULL};
        for (int i = 0; i < 6; i++) {
            tok[rows + i] = token[0][i];
            pos[rows + i] = i;
        }
        run(&m, &(struct batch){rows + 6, tok, pos, NULL, seq, n}, got);
        assert_close(got + rows * C, expected[0], 6 * C);
        for (int s = 0, row = 0; s < SEQS; row += step[k][s], s++) {
            assert_close(got + row * C, expected[s] + at[s] * C, step[k][s] * C);
            assert_int_equal(kv[s].len, at[s] + step[k][s]);
        }
    }
    for (int s = 0; s < SEQS; s++)
        kv_close(&kv[s]);
    assert_int_equal(kv_pool_left(&pool), pool.n);
    kv_pool_free(&pool);
    transformer_free(&m);
}

/* Reads token [n] behind what kv holds; hidden [n,C]. False, with the reason in text, if it does
   not fit. */
static bool feed(struct transformer *m, struct kv *kv, const int32_t *token, int n, float *hidden,
                 char *text)
{
    int32_t pos[LENGTH];
    struct ctx ctx;
    const struct sequence seq = {0, n, kv};
    for (int i = 0; i < n; i++)
        pos[i] = (int32_t)kv->len + i;
    assert_int_equal(ctx_init(&ctx, 64 << 20), 0);
    const struct tensor *h =
        transformer_forward(&ctx, m, &(struct batch){n, token, pos, NULL, &seq, 1});
    if (h && hidden)
        memcpy(hidden, h->data, (size_t)(n * m->dims.d_model) * sizeof *hidden);
    if (text)
        memcpy(text, ctx.text, sizeof ctx.text);
    ctx_free(&ctx);
    return h != NULL;
}

static void a_full_cache_is_left_as_it_was(void **state)
{
    struct transformer m;
    struct kv_pool pool;
    struct kv kv, other;
    char text[sizeof(struct ctx)] = "";
    int32_t token[LENGTH];
    (void)state;
    tiny_model(&m, false, false);
    token_of(1, token);
    pool_or_fail(&pool, &m, KVBLOCK_F16, 2);
    assert_int_equal(kv_block_bytes(&m.dims, KVBLOCK_F16), (2 + 1) * KVBLOCK * (8 + 16) * 2);
    kv_open(&kv, &pool);
    kv_open(&other, &pool);
    for (int i = 0; i < 3; i++) { // memory that is free again is used first
        assert_int_equal(kv_reserve(&other, 1), 0);
        kv_close(&other);
    }
    assert_int_equal(pool.touched, 1);
    assert_true(feed(&m, &kv, token, KVBLOCK, NULL, NULL));
    assert_int_equal(pool.touched, 1);
    assert_int_equal(kv_pool_left(&pool), 1);
    assert_int_equal(kv_reserve(&other, KVBLOCK + 1), KV_FULL);
    assert_int_equal(other.n, 0);
    assert_int_equal(kv_reserve(&other, KVBLOCK), 0);
    assert_false(feed(&m, &kv, token, 1, NULL, text));
    assert_non_null(strstr(text, "2 blocks"));
    assert_int_equal(kv.len, KVBLOCK);
    assert_int_equal(kv.n, 1);
    kv_close(&other);
    assert_true(feed(&m, &kv, token, 1, NULL, NULL));
    kv_close(&kv);
    kv_pool_free(&pool);
    m.dims.head_dim = 8; // no whole group of q8_0
    assert_int_equal(kv_pool_init(&pool, &m.dims, KVBLOCK_Q8_0, 2), -1);
    assert_non_null(strstr(err_text(), "q8_0"));
    transformer_free(&m);
}

/* Forks share blocks until one of them writes: both then go on as if they were alone. */
static void forks_copy_what_they_write(void **state)
{
    enum { HEAD = KVBLOCK + 5, TAIL = LENGTH - HEAD };
    static float expected[3][LENGTH * 32], got[LENGTH * 32];
    struct transformer m;
    struct kv_pool pool;
    struct kv kv[3];
    int32_t token[3][LENGTH];
    (void)state;
    tiny_model(&m, false, false);
    const int C = m.dims.d_model;
    for (int s = 0; s < 3; s++) {
        token_of(s, token[s]);
        memcpy(token[s], token[0], HEAD * sizeof(int32_t));
        struct kv_pool alone;
        pool_or_fail(&alone, &m, KVBLOCK_F16, kv_blocks(LENGTH));
        kv_open(&kv[s], &alone);
        assert_true(feed(&m, &kv[s], token[s], LENGTH, expected[s], NULL));
        kv_close(&kv[s]);
        kv_pool_free(&alone);
    }
    pool_or_fail(&pool, &m, KVBLOCK_F16, 7);
    for (int s = 0; s < 3; s++)
        kv_open(&kv[s], &pool);
    assert_true(feed(&m, &kv[0], token[0], HEAD, NULL, NULL));
    assert_int_equal(kv_fork(&kv[1], &kv[0], HEAD), 0);
    assert_int_equal(kv_fork(&kv[2], &kv[0], HEAD), 0);
    assert_int_equal(pool.used, 2);
    assert_int_equal(pool.block[kv[0].block[1]].users, 3);
    for (int s = 2; s >= 0; s--) {
        assert_true(feed(&m, &kv[s], token[s] + HEAD, TAIL, got, NULL));
        assert_same(got, expected[s] + HEAD * C, TAIL * C);
    }
    assert_int_equal(pool.copied, 2); // the last one owns the block by then
    assert_int_equal(pool.used, 1 + 3 * 2);
    assert_int_equal(pool.block[kv[0].block[0]].users, 3);
    assert_int_equal(kv_pool_left(&pool), 0);
    for (int s = 0; s < 3; s++)
        kv_close(&kv[s]);
    assert_int_equal(pool.used, 0);
    assert_int_equal(pool.peak, 7);
    assert_int_equal(pool.touched, 7);
    kv_pool_free(&pool);
    transformer_free(&m);
}

/* Known blocks are found by all the tokens up to their end, kept while there is room, and dropped
   the longest unused first; a sequence that begins with them is as if it had read them. */
static void known_blocks_are_found_again(void **state)
{
    static float expected[LENGTH * 32], got[LENGTH * 32];
    struct transformer m;
    struct kv_pool pool;
    struct kv a, b;
    int32_t token[LENGTH], other[LENGTH];
    (void)state;
    tiny_model(&m, false, false);
    const int C = m.dims.d_model, two = 2 * KVBLOCK;
    token_of(0, token);
    memcpy(other, token, sizeof other);
    other[3] ^= 1;
    pool_or_fail(&pool, &m, KVBLOCK_F16, 4);
    kv_open(&a, &pool);
    kv_open(&b, &pool);
    assert_true(feed(&m, &a, token, LENGTH, expected, NULL));
    assert_int_equal(kv_adopt(&b, token, LENGTH), 0);
    assert_int_equal(b.len, 0);
    kv_publish(&a, token);
    assert_int_equal(kv_adopt(&b, other, LENGTH), 0);
    assert_int_equal(b.len, 0); // its second block has the same tokens, not the same past
    assert_int_equal(kv_adopt(&b, token, two), 0);
    assert_int_equal(b.len, KVBLOCK); // one token at least is left to compute
    kv_close(&b);
    assert_int_equal(kv_adopt(&b, token, LENGTH), 0);
    assert_int_equal(b.len, two);
    assert_int_equal(pool.used, 3);
    assert_int_equal(pool.adopted, 3);
    assert_true(feed(&m, &b, token + two, LENGTH - two, got, NULL));
    assert_same(got, expected + two * C, (LENGTH - two) * C);
    kv_close(&b);
    kv_close(&a);
    assert_int_equal(kv_pool_left(&pool), 4);
    // two blocks are known and idle; one that is needed is the second of the two
    assert_int_equal(kv_reserve(&a, 3 * KVBLOCK), 0);
    assert_int_equal(kv_adopt(&b, token, LENGTH), 0);
    assert_int_equal(b.len, KVBLOCK);
    kv_close(&b);
    kv_close(&a);
    // a known block that is written to again is known no more
    assert_int_equal(kv_adopt(&a, token, LENGTH), 0);
    assert_int_equal(kv_fork(&b, &a, KVBLOCK - 2), 0);
    kv_close(&a);
    assert_true(feed(&m, &b, other, 2, NULL, NULL));
    assert_int_equal(pool.copied, 0);
    kv_close(&b);
    assert_int_equal(kv_adopt(&b, token, LENGTH), 0);
    assert_int_equal(b.len, 0);
    kv_pool_free(&pool);
    transformer_free(&m);
}

/* The second block of one text behind the first of another is no known one. */
static void blocks_are_known_by_their_past(void **state)
{
    struct transformer m;
    struct kv_pool pool;
    struct kv a, b, c;
    int32_t token[3][LENGTH];
    (void)state;
    tiny_model(&m, false, false);
    token_of(0, token[0]);
    token_of(1, token[1]);
    memcpy(token[2], token[1], sizeof token[2]);
    memcpy(token[2] + KVBLOCK, token[0] + KVBLOCK, KVBLOCK * sizeof(int32_t));
    pool_or_fail(&pool, &m, KVBLOCK_F16, 9);
    kv_open(&a, &pool);
    kv_open(&b, &pool);
    kv_open(&c, &pool);
    assert_true(feed(&m, &a, token[0], LENGTH, NULL, NULL));
    assert_true(feed(&m, &b, token[1], LENGTH, NULL, NULL));
    kv_publish(&a, token[0]);
    kv_publish(&b, token[1]);
    assert_int_equal(kv_adopt(&c, token[2], LENGTH), 0);
    assert_int_equal(c.len, KVBLOCK);
    assert_int_equal(c.block[0], b.block[0]);
    kv_close(&a);
    kv_close(&b);
    kv_close(&c);
    kv_pool_free(&pool);
    transformer_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ragged_sequences_do_not_meet),
        cmocka_unit_test(a_full_cache_is_left_as_it_was),
        cmocka_unit_test(forks_copy_what_they_write),
        cmocka_unit_test(known_blocks_are_found_again),
        cmocka_unit_test(blocks_are_known_by_their_past),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
