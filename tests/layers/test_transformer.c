/* The model against PyTorch's (tests/golden/llama_*.h5), and against itself: run again, measured,
   with more threads, decoded token by token. */
#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/layers/golden_model.h"

enum { ARENA = 32 << 20 };

static char *const files[] = {"llama_tiny", "llama_tied", "llama_per_layer", "llama_scaled", "gpt2",
                              "qwen2",      "qwen3"};
enum { FILES = sizeof files / sizeof *files };

/* A model, its batch and its loss. */
struct world {
    struct golden *g;
    struct transformer m;
    struct batch batch;
    struct head_loss_args loss;
};

static void world_init(struct world *w, const char *file, enum store_use use)
{
    w->g = golden_open(file);
    golden_model_init(&w->m, w->g, "weights", use);
    const struct golden_array *tok = golden_read(w->g, "tokens");
    const struct golden_array *target = golden_read(w->g, "targets");
    golden_batch_init(&w->batch, tok->dim[0], tok->dim[1], tok->i);
    int64_t kept = 0;
    for (int64_t i = 0; i < target->n; i++)
        kept += target->i[i] >= 0;
    w->loss = (struct head_loss_args){
        .target = target->i,
        .weight = 1 / (float)kept,
        .label_smoothing = (float)golden_number(w->g, "config", "label_smoothing"),
        .z_loss = (float)golden_number(w->g, "config", "z_loss"),
    };
}

static void world_free(struct world *w)
{
    golden_batch_free(&w->batch);
    transformer_free(&w->m);
    golden_close(w->g);
}

/* One training step's forward and backward. */
static bool step(struct world *w, struct ctx *ctx, struct loss *loss)
{
    ctx_reset(ctx);
    ctx->recording = true;
    if (w->m.store.grad)
        store_zero_grad(&w->m.store);
    struct tensor *hidden = transformer_forward(ctx, &w->m, &w->batch);
    if (hidden && ctx->arena.size == ARENA && !ctx->training)
        golden_compare(w->g, "hidden", hidden->data, tensor_numel(hidden), 1e-5);
    if (op_head_loss(ctx, hidden, &w->m.output->used, &w->loss, loss))
        return false;
    tape_backward(ctx, NULL);
    return !ctx->failed;
}

static void is_torch(void **state)
{
    struct world w;
    struct ctx ctx;
    world_init(&w, *state, STORE_TRAINED);
    assert_int_equal(ctx_init(&ctx, ARENA), 0);
    for (int recompute = 0; recompute <= 1; recompute++) {
        struct loss loss = {0};
        ctx.recompute = recompute;
        assert_true(step(&w, &ctx, &loss));
        const float sum = (float)loss.sum, nll = (float)(loss.nll / (double)loss.count);
        golden_compare(w.g, "loss", &sum, 1, 1e-6);
        golden_compare(w.g, "nll", &nll, 1, 1e-6);
        for (int i = 0; i < w.m.store.n; i++) {
            const struct param *p = &w.m.store.p[i];
            char path[96];
            snprintf(path, sizeof path, "grads/%s", p->name);
            golden_compare(w.g, path, p->latent_grad, tensor_numel(&p->used), 1e-4);
        }
    }
    ctx_reset(&ctx);
    ctx.recording = false;
    struct tensor *hidden = transformer_forward(&ctx, &w.m, &w.batch);
    const struct tensor *logits = transformer_logits(&ctx, &w.m, hidden, 0, w.batch.n);
    assert_non_null(logits);
    golden_compare(w.g, "logits", logits->data, tensor_numel(logits), 1e-5);
    const struct tensor *one = transformer_logits(&ctx, &w.m, hidden, 5, 1);
    const float *row = (const float *)logits->data + 5 * w.m.dims.vocab;
    for (int v = 0; v < w.m.dims.vocab; v++)
        assert_true(fabsf(((const float *)one->data)[v] - row[v]) < 1e-4f);
    assert_null(transformer_logits(&ctx, &w.m, hidden, w.batch.n, 1));
    ctx_free(&ctx);
    world_free(&w);
}

static void frequencies(void **state)
{
    struct golden *g = golden_open(*state);
    struct transformer m;
    golden_model_init(&m, g, "weights", STORE_SHAPES);
    const struct golden_array *divisor = golden_read(g, "rope_freqs");
    struct rope_args plain = m.dims.rope;
    plain.scaling = ROPE_SCALING_NONE;
    for (int i = 0; i < m.dims.head_dim / 2; i++)
        assert_true(
            fabs(rope_frequency(&plain, i) / rope_frequency(&m.dims.rope, i) / divisor->f[i] - 1) <
            1e-6);
    transformer_free(&m);
    golden_close(g);
}

/* A copy of the gradients after one step, dropout included. */
static float *gradients(struct world *w, bool recompute, size_t *peak)
{
    struct ctx ctx;
    struct loss loss = {0};
    assert_int_equal(ctx_init(&ctx, ARENA), 0);
    ctx.recompute = recompute;
    ctx.training = true;
    assert_true(step(w, &ctx, &loss));
    *peak = ctx.arena.peak;
    ctx_free(&ctx);
    float *copy = malloc(w->m.store.len * sizeof *copy);
    memcpy(copy, w->m.store.grad, w->m.store.len * sizeof *copy);
    return copy;
}

/* The same bits for kept and recomputed blocks and any number of threads. */
static void same_bits(void **state)
{
    struct world w;
    world_init(&w, *state, STORE_TRAINED);
    const int old = omp_get_max_threads();
    for (int dropout = 0; dropout <= 1; dropout++) {
        size_t peak;
        w.m.dims.dropout = 0.2 * dropout;
        omp_set_num_threads(1);
        float *first = gradients(&w, false, &peak);
        for (int k = 1; k < 6; k++) {
            omp_set_num_threads(1 + k / 2);
            float *other = gradients(&w, k & 1, &peak);
            assert_memory_equal(first, other, w.m.store.len * sizeof *first);
            free(other);
        }
        free(first);
    }
    omp_set_num_threads(old);
    world_free(&w);
}

/* A model of shapes alone, in a measuring ctx, needs to the byte what the real one needs. */
static void memory_is_foretold(void **state)
{
    struct world w, shapes;
    world_init(&w, *state, STORE_TRAINED);
    world_init(&shapes, *state, STORE_SHAPES);
    const int old = omp_get_max_threads();
    for (int k = 0; k < 8; k++) {
        struct ctx measuring;
        struct loss loss = {0};
        size_t peak;
        omp_set_num_threads(1 + (k & 1));
        w.m.dims.dropout = shapes.m.dims.dropout = k & 4 ? 0.1 : 0;
        free(gradients(&w, k & 2, &peak));
        assert_int_equal(ctx_init(&measuring, 0), 0);
        measuring.recompute = k & 2;
        measuring.training = true;
        assert_true(step(&shapes, &measuring, &loss));
        assert_int_equal(measuring.arena.peak, peak);
        ctx_free(&measuring);
    }
    omp_set_num_threads(old);
    world_free(&w);
    world_free(&shapes);
}

static void close_to(const float *got, const float *want, int64_t n)
{
    double off = 0, all = 0;
    for (int64_t i = 0; i < n; i++) {
        off += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        all += (double)want[i] * want[i];
    }
    assert_true(sqrt(off) <= 1e-5 * sqrt(all));
}

/* Sequences of different lengths, decoded together: first `prefill` tokens each (a sequence has one
   more than the one before it), then one a step. Hidden states are those of the whole. */
static void decode(struct world *w, int64_t prefill)
{
    enum { SEQS = 3 };
    const int64_t T = w->m.dims.context, C = w->m.dims.d_model;
    const struct golden_array *tok = golden_read(w->g, "tokens");
    const float *want = golden_read(w->g, "hidden")->f;
    const int n_seqs = (int)tok->dim[0];
    struct kv_pool pool;
    struct kv kv[SEQS];
    struct sequence seqs[SEQS];
    struct ctx ctx;
    assert_in_range(n_seqs, 1, SEQS);
    assert_int_equal(ctx_init(&ctx, ARENA), 0);
    assert_int_equal(kv_pool_init(&pool, &w->m.dims, KVBLOCK_F32, n_seqs * kv_blocks(T)), 0);
    for (int i = 0; i < n_seqs; i++)
        kv_open(&kv[i], &pool);
    int32_t token[3 * 64], pos[3 * 64];
    for (int64_t at = 0, more = 1; more; at++) {
        struct batch b = {.tok = token, .pos = pos, .seqs = seqs};
        more = 0;
        for (int i = 0; i < n_seqs; i++) {
            const int64_t left = T - kv[i].len, len = at ? left > 0 : prefill + i;
            if (!len)
                continue;
            seqs[b.n_seqs++] = (struct sequence){.start = b.n, .len = len, .kv = &kv[i]};
            for (int64_t j = 0; j < len; j++, b.n++) {
                token[b.n] = tok->i[i * T + kv[i].len + j];
                pos[b.n] = (int32_t)(kv[i].len + j);
            }
            more += left > len;
        }
        ctx_reset(&ctx);
        const struct tensor *hidden = transformer_forward(&ctx, &w->m, &b);
        assert_non_null(hidden);
        for (int i = 0; i < b.n_seqs; i++) {
            const int64_t whose = seqs[i].kv - kv, from = seqs[i].kv->len - seqs[i].len;
            close_to((const float *)hidden->data + seqs[i].start * C, want + (whose * T + from) * C,
                     seqs[i].len * C);
        }
    }
    // full: a block more fails, and the cache stays as it is
    const struct sequence over = {.len = KVBLOCK, .kv = &kv[0]};
    const struct batch b = {.n = KVBLOCK, .tok = token, .pos = pos, .seqs = &over, .n_seqs = 1};
    ctx_reset(&ctx);
    assert_null(transformer_forward(&ctx, &w->m, &b));
    assert_non_null(strstr(ctx.text, "KV cache"));
    assert_int_equal(kv[0].len, T);
    for (int i = 0; i < n_seqs; i++)
        kv_close(&kv[i]);
    kv_pool_free(&pool);
    ctx_free(&ctx);
}

static void decoding(void **state)
{
    struct world w;
    world_init(&w, *state, STORE_FROZEN);
    decode(&w, 1);
    decode(&w, 7);
    world_free(&w);
}

static const struct transformer_dims small = {.n_layers = 1,
                                              .d_model = 8,
                                              .vocab = 9,
                                              .head_dim = 4,
                                              .context = 6,
                                              .n_heads = {2},
                                              .n_kv_heads = {1},
                                              .d_ff = {5},
                                              .norm_eps = 1e-5,
                                              .rope = {.base = 10000}};

static void dims_are_checked(void **state)
{
    (void)state;
    struct transformer m;
    struct transformer_dims bad[13];
    enum { BAD = sizeof bad / sizeof *bad };
    for (int i = 0; i < BAD; i++)
        bad[i] = small;
    bad[0].n_layers = 0;
    bad[1].n_layers = LAYERS_MAX + 1;
    bad[2].head_dim = 5;
    bad[3].n_kv_heads[0] = 3;
    bad[4].n_kv_heads[0] = 0;
    bad[5].d_ff[0] = 0;
    bad[6].vocab = 1 << 25;
    bad[7].context = -1;
    bad[8].norm_eps = NAN;
    bad[9].rope.base = 0;
    bad[10].arch = ARCH_N;
    bad[11].rope.scaling = (enum rope_scaling)4;
    bad[12].arch = ARCH_GPT2;
    bad[12].head_dim = 0;
    for (int i = 0; i < BAD; i++) {
        assert_int_equal(transformer_check(&bad[i]), -1);
        assert_int_equal(transformer_init(&m, &bad[i], STORE_TRAINED), -1);
    }
    struct transformer_dims odd = small; // nothing turns: no base, no pairs
    odd.arch = ARCH_GPT2;
    odd.head_dim = 5;
    odd.rope.base = 0;
    assert_int_equal(transformer_init(&m, &odd, STORE_TRAINED), 0);
    transformer_free(&m);
}

/* Parameters and FLOPs of each architecture, counted by hand. */
static void counts(void **state)
{
    (void)state;
    // q and output 8 x 8, k and v 4 x 8, three (gpt2: two) of 5 x 8; scores and values; the head
    const int matrices = 2 * 64 + 2 * 32 + 3 * 40, vectors = 3 * 8;
    static const struct {
        enum arch arch;
        int matrices, rest; /* less, more than llama's */
    } each[] = {{ARCH_LLAMA, 0, 0},
                {ARCH_GPT2, 40, 3 * 8 + 16 + 8 + 5 + 8}, // biases: norms, qkv, output, up, down
                {ARCH_QWEN2, 0, 16},
                {ARCH_QWEN3, 0, 8}};
    for (int i = 0; i < ARCH_N; i++) {
        for (int tied = 0; tied <= 1; tied++) {
            struct transformer m;
            struct transformer_dims d = small;
            int64_t inner;
            double head;
            d.arch = each[i].arch;
            d.tied = tied;
            assert_int_equal(transformer_init(&m, &d, STORE_TRAINED), 0);
            const int64_t all = transformer_params(&d, &inner);
            assert_int_equal(all, store_numel(&m.store));
            assert_int_equal(inner, matrices - each[i].matrices + vectors + each[i].rest);
            assert_int_equal(all - inner, (2 - tied) * 8 * 9 + (d.arch == ARCH_GPT2 ? 6 * 8 : 0));
            assert_true(transformer_flops(&d, 3, &head) ==
                        2 * (matrices - each[i].matrices) + 4 * 8 * 3 + 2 * 8 * 9);
            assert_true(head == 2 * 8 * 9);
            assert_true((m.output == m.token_embd) == (tied == 1));
            for (int k = 0; k < m.store.n; k++) {
                const struct param *p = &m.store.p[k];
                const bool looked_up = strstr(p->name, "_embd") && p != m.output;
                assert_int_equal(p->product, p->used.nd == 2 && !looked_up);
            }
            transformer_free(&m);
        }
    }
}

static bool ends_in(const char *name, const char *end)
{
    return strlen(name) >= strlen(end) && !strcmp(name + strlen(name) - strlen(end), end);
}

/* Initial values: deviations as asked for, outputs of half blocks and positions smaller, gains 1,
   biases 0; the seed decides. */
static void initial_values(void **state)
{
    (void)state;
    for (int arch = 0; arch < ARCH_N; arch++) {
        struct transformer m;
        struct transformer_dims d = {.arch = (enum arch)arch,
                                     .n_layers = 2,
                                     .d_model = 64,
                                     .vocab = 50,
                                     .head_dim = 16,
                                     .context = 40,
                                     .n_heads = {4, 4},
                                     .n_kv_heads = {4, 4},
                                     .d_ff = {96, 96},
                                     .rope = {.base = 10000},
                                     .init_std = 0.1};
        assert_int_equal(transformer_init(&m, &d, STORE_TRAINED), 0);
        store_init(&m.store, 7);
        for (int i = 0; i < m.store.n; i++) {
            const struct param *p = &m.store.p[i];
            const int64_t n = tensor_numel(&p->used);
            const bool adds = strstr(p->name, "attn_output") || strstr(p->name, "ffn_down") ||
                              strstr(p->name, "position_embd");
            const double want = p->used.nd == 1 ? 0 : adds ? 0.05 : 0.1;
            double mean = 0, square = 0;
            for (int64_t j = 0; j < n; j++) {
                mean += p->latent[j] / (double)n;
                square += (double)p->latent[j] * p->latent[j] / (double)n;
            }
            assert_true(fabs(sqrt(fabs(square - mean * mean)) - want) <= 0.05 * want + 1e-6);
            assert_true(fabs(mean - ends_in(p->name, "norm.weight")) <= 0.01);
            assert_int_equal(p->decay, p->used.nd > 1);
        }
        transformer_free(&m);
    }
}

int main(void)
{
    static const struct {
        const char *name;
        CMUnitTestFunction fn;
    } each[] = {{"is_torch", is_torch},
                {"frequencies", frequencies},
                {"same_bits", same_bits},
                {"memory_is_foretold", memory_is_foretold},
                {"decoding", decoding}};
    enum { EACH = sizeof each / sizeof *each, ALL = EACH * FILES };
    static char names[ALL][64];
    struct CMUnitTest tests[ALL + 3] = {[ALL] = cmocka_unit_test(dims_are_checked),
                                        cmocka_unit_test(counts),
                                        cmocka_unit_test(initial_values)};
    for (int i = 0; i < ALL; i++) {
        snprintf(names[i], sizeof names[i], "%s_%s", each[i % EACH].name, files[i / EACH]);
        tests[i] = (struct CMUnitTest){names[i], each[i % EACH].fn, NULL, NULL, files[i / EACH]};
    }
    return cmocka_run_group_tests_name("transformer", tests, NULL, NULL);
}
