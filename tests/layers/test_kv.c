#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/rng.h"
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

/* Four sequences grow by different steps, some by none, one without a cache beside them: each is
   as if it were alone and whole. */
static void ragged_sequences_do_not_meet(void **state)
{
    static const int step[][SEQS] = {
        {5, 1, 17, 0}, {1, 1, 1, 1}, {3, 0, 2, 9}, {1, 1, 0, 1}, {0, 12, 1, 4}, {7, 1, 1, 1},
    };
    static float expected[SEQS][LENGTH * 32], got[SEQS * LENGTH * 32];
    struct transformer m;
    struct kv kv[SEQS];
    int32_t token[SEQS][LENGTH], pos[SEQS * LENGTH], tok[SEQS * LENGTH];
    (void)state;
    tiny_model(&m, false, false);
    const int C = m.dims.d_model;
    for (int s = 0; s < SEQS; s++) {
        const struct sequence seq = {.len = LENGTH};
        token_of(s, token[s]);
        for (int i = 0; i < LENGTH; i++)
            pos[i] = i;
        run(&m, &(struct batch){LENGTH, token[s], pos, NULL, &seq, 1}, expected[s]);
        assert_int_equal(kv_init(&kv[s], &m.dims, 20 + s), 0);
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
        kv_free(&kv[s]);
    transformer_free(&m);
}

static void a_full_cache_is_left_as_it_was(void **state)
{
    struct transformer m;
    struct kv kv;
    struct ctx ctx;
    int32_t token[LENGTH], pos[LENGTH];
    (void)state;
    tiny_model(&m, false, false);
    token_of(1, token);
    for (int i = 0; i < LENGTH; i++)
        pos[i] = i;
    assert_int_equal(kv_init(&kv, &m.dims, 8), 0);
    assert_int_equal(kv_bytes(&m.dims, 8), 2 * 8 * (2 + 1) * 8 * sizeof(float));
    assert_int_equal(ctx_init(&ctx, 64 << 20), 0);
    struct sequence seq = {0, 8, &kv};
    assert_non_null(transformer_forward(&ctx, &m, &(struct batch){8, token, pos, NULL, &seq, 1}));
    ctx_reset(&ctx);
    seq.len = 1;
    pos[0] = 8;
    assert_null(transformer_forward(&ctx, &m, &(struct batch){1, token, pos, NULL, &seq, 1}));
    assert_non_null(strstr(ctx.text, "8 tokens"));
    assert_int_equal(kv.len, 8);
    ctx_free(&ctx);
    kv_free(&kv);
    transformer_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ragged_sequences_do_not_meet),
        cmocka_unit_test(a_full_cache_is_left_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
