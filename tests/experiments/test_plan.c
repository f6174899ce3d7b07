/* The memory plan is what a run uses, to the byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "experiments/plan.h"

enum { L = 3, C = 48, V = 70, T = 24, B = 3 };

static struct transformer_dims dims_of(double dropout, bool tied)
{
    struct transformer_dims d = {.n_layers = L,
                                 .d_model = C,
                                 .vocab = V,
                                 .head_dim = 8,
                                 .context = T,
                                 .tied = tied,
                                 .norm_eps = 1e-5,
                                 .dropout = dropout,
                                 .rope = {.base = 10000}};
    for (int l = 0; l < L; l++) {
        d.n_heads[l] = 4 + 2 * l;
        d.n_kv_heads[l] = 2;
        d.d_ff[l] = 64 + 16 * l;
    }
    return d;
}

/* How the windows of a batch are cut into sequences. */
enum cutting { WHOLE, TOKENS, ONE_WHOLE, UNEVEN, CUTTINGS };

static int length(enum cutting how, int window, int at)
{
    if (how == WHOLE || (how == ONE_WHOLE && !window))
        return T;
    return how == UNEVEN ? (at * 7 + window) % 5 + 1 < T - at ? (at * 7 + window) % 5 + 1 : T - at
                         : 1;
}

static const struct lora_args *with_lora; // of the real model; NULL: all is trained

/* The peak of a real micro-batch. */
static size_t real_peak(const struct transformer_dims *d, enum cutting how, bool bf16, bool train,
                        bool recompute, const struct transformer_dims *taught)
{
    static int32_t tok[B * T], pos[B * T];
    static uint64_t row[B * T];
    static struct sequence seqs[B * T];
    struct transformer m, teacher = {0};
    struct ctx ctx;
    struct loss loss = {0};
    struct head_voice voice = {0};
    for (int i = 0; i < B * T; i++) {
        tok[i] = i * 13 % V;
        pos[i] = i % T;
        row[i] = (uint64_t)i;
    }
    int n = 0;
    for (int w = 0; w < B; w++)
        for (int at = 0; at < T; at += (int)seqs[n++].len)
            seqs[n] = (struct sequence){.start = w * T + at, .len = length(how, w, at)};
    const struct batch b = {B * T, tok, pos, row, seqs, n};
    assert_int_equal(transformer_init(&m, d, with_lora ? STORE_FROZEN : STORE_TRAINED), 0);
    if (with_lora) {
        assert_int_equal(lora_add_targets(&m, with_lora), 0);
        assert_int_equal(lora_attach(&m, with_lora->alpha, STORE_TRAINED), 0);
        store_init(&m.lora.factors, 1);
    }
    if (bf16)
        assert_int_equal(store_panels(&m.store), 0);
    store_init(&m.store, 1);
    assert_int_equal(ctx_init(&ctx, 1 << 28), 0);
    ctx.act = bf16 ? &dtype_bf16 : &dtype_f32;
    if (taught) {
        assert_int_equal(transformer_init(&teacher, taught, STORE_FROZEN), 0);
        if (bf16)
            assert_int_equal(store_panels(&teacher.store), 0);
        store_init(&teacher.store, 2);
        voice.hidden = transformer_forward(&ctx, &teacher, &b);
        voice.w = &teacher.output->used;
    }
    const struct head_loss_args args = {.target = tok,
                                        .weight = 0.5f,
                                        .teacher = taught ? &voice : NULL,
                                        .kl = 0.5f};
    ctx.recording = train;
    ctx.training = train && d->dropout > 0;
    ctx.recompute = recompute;
    assert_int_equal(op_head_loss(&ctx, transformer_forward(&ctx, &m, &b), &m.output->used, &args,
                                  &loss),
                     0);
    if (train)
        tape_backward(&ctx, NULL);
    assert_false(ctx.failed);
    const size_t peak = ctx.arena.peak;
    ctx_free(&ctx);
    transformer_free(&m);
    transformer_free(&teacher);
    return peak;
}

/* Factors over a frozen model, whose blocks have panels in bf16 and are decoded in f32. */
static void plan_equals_run_of_factors(void **state)
{
    const char *targets[] = {"attn_q", "attn_v", "ffn_down"};
    const struct lora_args lora = {.rank = 3, .alpha = 6, .targets = {3, targets}};
    (void)state;
    for (int i = 0; i < 8; i++) {
        const bool recompute = i & 1, tied = i & 2, bf16 = i & 4;
        const struct transformer_dims d = dims_of(0, tied);
        const struct plan_args a = {
            .n_seqs = B, .T = T, .parts = 1, .recompute = recompute, .bf16 = bf16, .lora = &lora};
        struct plan_args all = a;
        all.lora = NULL;
        with_lora = &lora;
        const size_t real = real_peak(&d, WHOLE, bf16, true, recompute, NULL);
        const size_t eval = real_peak(&d, WHOLE, bf16, false, recompute, NULL);
        with_lora = NULL;
        assert_int_equal(plan_train(&d, &a), real);
        assert_int_equal(plan_eval(&d, &a), eval);
        assert_true(eval >= plan_eval(&d, &all));
    }
}

static void plan_equals_run(void **state)
{
    (void)state;
    for (int i = 0; i < 16; i++) {
        const bool recompute = i & 1, tied = i & 2, drops = i & 4, bf16 = i & 8;
        const struct transformer_dims d = dims_of(drops ? 0.1 : 0, tied);
        const struct plan_args a = {
            .n_seqs = B, .T = T, .parts = 1, .recompute = recompute, .bf16 = bf16};
        assert_int_equal(plan_train(&d, &a), real_peak(&d, WHOLE, bf16, true, recompute, NULL));
        assert_int_equal(plan_eval(&d, &a), real_peak(&d, WHOLE, bf16, false, recompute, NULL));
    }
}

/* Its hidden states stay; the rest of its pass is not added to the student's. */
static void a_teacher_counts(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        const bool recompute = i & 1, bf16 = i & 2;
        const struct transformer_dims d = dims_of(0, false);
        struct transformer_dims wide = dims_of(0, true);
        wide.d_model = 2 * C;
        const struct plan_args a = {.n_seqs = B,
                                    .T = T,
                                    .parts = 1,
                                    .recompute = recompute,
                                    .bf16 = bf16,
                                    .teacher = &wide};
        const size_t peak = plan_train(&d, &a);
        assert_int_equal(peak, real_peak(&d, WHOLE, bf16, true, recompute, &wide));
        assert_true(peak > real_peak(&d, WHOLE, bf16, true, recompute, NULL));
        assert_int_equal(plan_eval(&d, &a), real_peak(&d, WHOLE, bf16, false, recompute, NULL));
    }
}

/* Documents may cut the windows anywhere: the plan is enough for all, and not much more. */
static void plan_covers_documents(void **state)
{
    (void)state;
    for (int i = 0; i < 8; i++) {
        const bool recompute = i & 1, train = i & 2, bf16 = i & 4;
        const struct transformer_dims d = dims_of(0, false);
        const struct plan_args a = {
            .n_seqs = B, .T = T, .parts = T, .recompute = recompute, .bf16 = bf16};
        const size_t planned = train ? plan_train(&d, &a) : plan_eval(&d, &a);
        size_t most = 0;
        for (int how = WHOLE; how < CUTTINGS; how++) {
            const size_t real = real_peak(&d, (enum cutting)how, bf16, train, recompute, NULL);
            most = real > most ? real : most;
        }
        assert_true(planned >= most);
        assert_true(planned <= most + most / 4);
    }
}

static void recompute_needs_less(void **state)
{
    (void)state;
    struct transformer_dims d = dims_of(0, false);
    d.n_layers = 12;
    for (int l = 0; l < 12; l++) {
        d.n_heads[l] = 4;
        d.n_kv_heads[l] = 2;
        d.d_ff[l] = 144;
    }
    struct plan_args a = {.n_seqs = 16, .T = T, .parts = 1};
    const size_t kept = plan_train(&d, &a);
    a.recompute = true;
    // a quarter of what blocks make, a third of which nobody keeps
    const size_t deep = plan_train(&d, &a);
    assert_true(deep * 8 <= kept * 3);
    // a block more costs its result, in f32, and a little for its segment
    d.n_layers = 1;
    assert_true(deep - plan_train(&d, &a) <= 11 * ((size_t)16 * T * (size_t)d.d_model * 4 + 1024));
    d.n_layers = 12;
    assert_true(plan_eval(&d, &a) < plan_train(&d, &a));
}

static void model_bytes(void **state)
{
    (void)state;
    const struct transformer_dims d = dims_of(0, false);
    struct transformer m;
    int64_t rest;
    assert_int_equal(transformer_init(&m, &d, STORE_FROZEN), 0);
    assert_int_equal(transformer_params(&d, &rest), store_numel(&m.store));
    assert_int_equal(rest, store_numel(&m.store) - 2 * C * V);
    struct plan_step step = {.dims = &d, .batch = B, .pass = {.n_seqs = B, .T = T, .parts = 1}};
    const size_t slab = m.store.len * sizeof(float);
    struct plan_memory p;
    assert_int_equal(plan_memory(&step, &p), 0);
    assert_int_equal(p.weights, slab);
    assert_int_equal(p.grads, slab);
    assert_int_equal(p.states, 2 * slab);
    assert_int_equal(p.tables, 2 * T * 4 * sizeof(float));
    assert_int_equal(p.average, 0);
    assert_int_equal(p.sum, 4 * slab + p.tables);
    step.optimizer = OPTIMIZER_LION;
    step.ema = true;
    assert_int_equal(plan_memory(&step, &p), 0);
    assert_int_equal(p.states, slab);
    assert_int_equal(p.average, slab);
    // the largest matrix of a block twice, and two squares of its shorter side
    const size_t most = 2 * (64 + 16 * (L - 1)) * C + 2 * C * C;
    step.optimizer = OPTIMIZER_MUON;
    assert_int_equal(plan_memory(&step, &p), 0);
    assert_int_equal(p.states, 2 * slab + 4 * most);
    transformer_free(&m);
}

static void bad_shapes_are_refused(void **state)
{
    (void)state;
    struct transformer_dims bad = dims_of(0, false);
    bad.head_dim = 7;
    assert_int_equal(plan_train(&bad, &(struct plan_args){.n_seqs = B, .T = T, .parts = 1}), 0);
    assert_int_equal(plan_eval(&bad, &(struct plan_args){.n_seqs = B, .T = T, .parts = 1}), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plan_equals_run),        cmocka_unit_test(plan_equals_run_of_factors),
        cmocka_unit_test(a_teacher_counts),       cmocka_unit_test(plan_covers_documents),
        cmocka_unit_test(recompute_needs_less),   cmocka_unit_test(model_bytes),
        cmocka_unit_test(bad_shapes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
