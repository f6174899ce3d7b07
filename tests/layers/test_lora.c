/* Factors over a model: which there are, what they compute, and that their gradients are those that
   follow from the merged weights'. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "tests/gradcheck.h"
#include "tests/layers/golden_model.h"

enum { V = 40, C = 32, T = 12, ARENA = 32 << 20 };

static int32_t tok[T], pos[T], target[T];
static const struct sequence seq = {.len = T};
static const struct batch batch = {.n = T, .tok = tok, .pos = pos, .seqs = &seq, .n_seqs = 1};

static struct transformer_dims dims_of(enum arch arch)
{
    struct transformer_dims d = {.arch = arch,
                                 .n_layers = 2,
                                 .d_model = C,
                                 .vocab = V,
                                 .head_dim = 8,
                                 .context = T,
                                 .norm_eps = 1e-5,
                                 .init_std = 0.2,
                                 .tied = arch == ARCH_GPT2,
                                 .rope = {.base = 10000}};
    for (int l = 0; l < d.n_layers; l++) {
        d.n_heads[l] = 4;
        d.n_kv_heads[l] = arch == ARCH_GPT2 ? 4 : 2;
        d.d_ff[l] = 48;
    }
    for (int i = 0; i < T; i++) {
        tok[i] = i * 7 % V;
        pos[i] = i;
        target[i] = (i * 11 + 3) % V;
    }
    return d;
}

static void model(struct transformer *m, enum arch arch, enum store_use use)
{
    const struct transformer_dims d = dims_of(arch);
    if (transformer_init(m, &d, use))
        fail_msg("%s", err_text());
    store_init(&m->store, 3);
}

static int add(struct transformer *m, int64_t rank, int n, const char **names)
{
    const struct lora_args args = {.rank = rank, .alpha = 6, .targets = {n, names}};
    return lora_add_targets(m, &args);
}

/* All of them, with values that are not zero. */
static void factors(struct transformer *m, enum store_use use)
{
    const char *all = "all";
    if (add(m, 3, 1, &all) || lora_attach(m, 6, use))
        fail_msg("%s", err_text());
    for (int i = 0; i < m->lora.factors.n; i++) {
        const struct param *p = &m->lora.factors.p[i];
        float *x = gradcheck_normal((uint64_t)i, 0.1f, tensor_numel(&p->used));
        memcpy(p->latent, x, tensor_bytes(&p->used));
        free(x);
    }
}

/* Hidden states and loss, and gradients while the ctx records. */
static void run(struct ctx *ctx, struct transformer *m, float hidden[T * C], double *sum)
{
    const struct head_loss_args args = {.target = target, .weight = 1};
    struct loss loss = {0};
    ctx_reset(ctx);
    const struct tensor *h = transformer_forward(ctx, m, &batch);
    assert_non_null(h);
    memcpy(hidden, h->data, T * C * sizeof *hidden);
    if (op_head_loss(ctx, (struct tensor *)(uintptr_t)h, &m->output->used, &args, &loss))
        fail_msg("%s", ctx->text);
    if (ctx->recording)
        tape_backward(ctx, NULL);
    assert_false(ctx->failed);
    *sum = loss.sum;
}

static double apart(const float *a, const float *b)
{
    double want[T * C];
    for (int i = 0; i < T * C; i++)
        want[i] = b[i];
    return gradcheck_distance(T * C, a, want);
}

/* Fresh ones change nothing, others what merging them does. */
static void they_are_what_merging_makes(void **state)
{
    static float plain[T * C], fresh[T * C], with[T * C], merged[T * C];
    struct ctx ctx;
    double loss;
    (void)state;
    assert_int_equal(ctx_init(&ctx, ARENA), 0);
    for (int arch = 0; arch < ARCH_N; arch++) {
        struct transformer m;
        const char *all = "all";
        model(&m, (enum arch)arch, STORE_FROZEN);
        run(&ctx, &m, plain, &loss);
        assert_int_equal(add(&m, 3, 1, &all) | lora_attach(&m, 6, STORE_FROZEN), 0);
        store_init(&m.lora.factors, 1);
        run(&ctx, &m, fresh, &loss);
        assert_memory_equal(plain, fresh, sizeof plain);
        lora_free(&m);
        factors(&m, STORE_FROZEN);
        run(&ctx, &m, with, &loss);
        assert_true(apart(with, plain) > 0.05);
        assert_int_equal(lora_merge(&m), 0);
        assert_int_equal(m.lora.factors.n, 0);
        run(&ctx, &m, merged, &loss);
        if (!(apart(with, merged) < 1e-5))
            fail_msg("%s: factors and merged weights are %g apart", arch_rows[arch].name,
                     apart(with, merged));
        transformer_free(&m);
    }
    ctx_free(&ctx);
}

/* want [rows,cols] = scale a^T-or-not b, plainly: of a factor's gradient. */
static void expect(const struct param *p, const double *want)
{
    const double off = gradcheck_distance(tensor_numel(&p->used), p->latent_grad, want);
    if (!(off < 1e-4))
        fail_msg("gradient of %s is off by %g", p->name, off);
}

/* dA = s B^T dW, dB = s dW A^T, with dW of the merged model; and the base gets none. */
static void gradients_follow_from_the_weights(void **state)
{
    static float hidden[T * C], other[T * C];
    (void)state;
    for (int arch = 0; arch < ARCH_N; arch++) {
        struct transformer m, merged;
        struct ctx ctx;
        double loss, same;
        model(&m, (enum arch)arch, STORE_FROZEN);
        model(&merged, (enum arch)arch, STORE_TRAINED);
        factors(&m, STORE_TRAINED);
        factors(&merged, STORE_FROZEN);
        assert_int_equal(lora_merge(&merged), 0);
        for (int i = 0; i < merged.store.n; i++)
            merged.store.p[i].used.needs_grad = true;
        assert_int_equal(ctx_init(&ctx, ARENA), 0);
        ctx.recording = true;
        store_zero_grad(&m.lora.factors);
        run(&ctx, &m, hidden, &loss);
        store_pullback(&m.lora.factors);
        store_zero_grad(&merged.store);
        run(&ctx, &merged, other, &same);
        store_pullback(&merged.store);
        assert_true(fabs(loss - same) < 1e-4 * fabs(same));
        assert_null(m.store.grad);
        for (int i = 0; i < m.store.n; i++)
            assert_null(m.store.p[i].used.grad);
        for (int i = 0; i < m.lora.factors.n / 2; i++) {
            const struct param *a = &m.lora.factors.p[2 * i], *b = a + 1, *base = lora_base(&m, i);
            const float *dw = store_find(&merged.store, base->name)->latent_grad;
            const int64_t O = tensor_rows(&base->used), I = tensor_cols(&base->used), r = 3;
            double *da = calloc((size_t)(r * I), sizeof *da),
                   *db = calloc((size_t)(O * r), sizeof *db);
            for (int64_t o = 0; o < O; o++)
                for (int64_t k = 0; k < r; k++)
                    for (int64_t j = 0; j < I; j++) {
                        da[k * I + j] += 2.0 * b->latent[o * r + k] * dw[o * I + j];
                        db[o * r + k] += 2.0 * dw[o * I + j] * a->latent[k * I + j];
                    }
            expect(a, da);
            expect(b, db);
            free(da);
            free(db);
        }
        ctx_free(&ctx);
        transformer_free(&m);
        transformer_free(&merged);
    }
}

static void only_what_is_named(void **state)
{
    struct transformer m;
    (void)state;
    const char *two[] = {"attn_q", "ffn_down"}, *odd[] = {"attn_q", "attn_qkv"};
    model(&m, ARCH_LLAMA, STORE_FROZEN);
    assert_int_equal(add(&m, 4, 2, two), 0);
    assert_int_equal(lora_attach(&m, 6, STORE_TRAINED), 0);
    assert_int_equal(m.lora.factors.n, 8);
    assert_string_equal(m.lora.factors.p[2].name, "blk.1.attn_q.weight.lora_a");
    assert_string_equal(m.lora.factors.p[7].name, "blk.1.ffn_down.weight.lora_b");
    assert_int_equal(m.lora.factors.p[7].used.dim[0], C);
    assert_int_equal(m.lora.factors.p[7].used.dim[1], 4);
    assert_int_equal(m.lora.factors.p[6].used.dim[1], 48);
    assert_true(m.lora.low[0].scale == 1.5f);
    for (int i = 0; i < m.store.n; i++) {
        const bool is =
            strstr(m.store.p[i].name, "attn_q.") || strstr(m.store.p[i].name, "ffn_down");
        assert_true((m.store.p[i].used.plus != NULL) == is);
    }
    transformer_free(&m);
    model(&m, ARCH_LLAMA, STORE_FROZEN);
    assert_int_equal(add(&m, 4, 2, odd), -1);
    assert_non_null(strstr(err_text(), "no matrix 'attn_qkv' in the blocks of llama"));
    transformer_free(&m);
    model(&m, ARCH_LLAMA, STORE_FROZEN);
    assert_int_equal(add(&m, 17, 2, (const char *[]){"attn_k", "attn_q"}), -1); // 16 kv rows
    assert_non_null(strstr(err_text(), "factors of rank 17"));
    assert_int_equal(lora_add(&m, m.token_embd, 2), -1);
    assert_non_null(strstr(err_text(), "nothing is multiplied with it"));
    transformer_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(they_are_what_merging_makes),
        cmocka_unit_test(gradients_follow_from_the_weights),
        cmocka_unit_test(only_what_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
