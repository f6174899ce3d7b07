/* What training saw is what ships: checkpoints of models in blocks, and files made from them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "autograd/base/rng.h"
#include "experiments/blocks.h"
#include "experiments/checkpoint.h"
#include "experiments/export.h"
#include "experiments/model_gguf.h"
#include "tests/datasets/scratch.h"

/* Rows of 256, and of d_ff: 288 fits no K-quant. */
static void make(struct transformer *m, enum arch arch, bool tied, int d_ff, enum store_use use)
{
    const struct transformer_dims dims = {.arch = arch,
                                          .n_layers = 1,
                                          .d_model = 256,
                                          .vocab = 257,
                                          .head_dim = 64,
                                          .context = 32,
                                          .n_heads = {4},
                                          .n_kv_heads = {arch == ARCH_GPT2 ? 4 : 1},
                                          .d_ff = {d_ff},
                                          .tied = tied,
                                          .norm_eps = 1e-5,
                                          .rope = {.base = 10000},
                                          .init_std = 0.05};
    if (transformer_init(m, &dims, use))
        fail_msg("%s", err_text());
    store_init(&m->store, 7);
}

/* imatrix, in the folder: NULL, none. */
static void begin(struct blocks *b, const char *mix, const char *folder, const char *imatrix,
                  struct transformer *m)
{
    const struct config_qat c = {.type = mix, .ste = STE_CLIPPED, .mix.imatrix = imatrix};
    if (blocks_open(b, &c, false, folder, m) || blocks_begin(b, m))
        fail_msg("%s: %s", mix, err_text());
}

/* Of all matrices but the embedding: later columns are worth more. */
static void write_importance(const struct transformer *m, const char *path)
{
    struct imatrix im = {0};
    for (int i = 0; i < m->store.n; i++) {
        const struct param *p = &m->store.p[i];
        if (p->used.nd < 2 || p == m->token_embd || p == m->position_embd)
            continue;
        struct imatrix_entry *e = imatrix_add(&im, p->name, tensor_cols(&p->used));
        assert_non_null(e);
        e->count[0] = 2;
        for (int64_t c = 0; c < e->cols; c++)
            e->sum[c] = (float)(1 + c * c % 97 + c);
    }
    if (imatrix_finish(&im) || imatrix_write(&im, path))
        fail_msg("%s", err_text());
    imatrix_free(&im);
}

static void save(const char *path, const struct transformer *m, const struct blocks *b)
{
    struct buf json = {0};
    struct tokenizer *t = tokenizer_new_byte();
    assert_int_equal(tokenizer_write(t, &json), 0);
    const struct checkpoint_state state = {.step = 3, .last_valid = NAN};
    const struct checkpoint_source source = {.stage = "qat",
                                             .config = "name: t\n",
                                             .config_hash = "00",
                                             .corpus_hash = "00",
                                             .tokenizer = json.p,
                                             .qat = &b->qat,
                                             .mix = b->recipe.mix->name};
    if (checkpoint_save(path, m, &state, &source))
        fail_msg("%s", err_text());
    buf_free(&json);
    tokenizer_free(t);
}

static void assert_used(const struct transformer *m, const struct transformer *back,
                        const char *what)
{
    for (int i = 0; i < m->store.n; i++) {
        const struct param *p = &m->store.p[i], *q = store_find(&back->store, p->name);
        assert_non_null(q);
        if (memcmp(p->used.data, q->used.data, tensor_bytes(&p->used)) != 0)
            fail_msg("%s: %s is not what training saw", what, p->name);
    }
}

/* The checkpoint gives `used` to who uses the model, and blocks to the file, which decodes to it.
 */
static void exact(const char *h5, const char *gguf, const char *mix, struct transformer *m,
                  struct blocks *b)
{
    struct transformer used, file;
    struct tokenizer *t, *t2 = NULL;
    struct checkpoint c;
    struct export_plan p;
    const struct export_args args = {.origin = {.name = "m", .stage = "qat", .config_hash = "00"}};
    save(h5, m, b);
    if (checkpoint_use(h5, &used, &t))
        fail_msg("%s", err_text());
    assert_used(m, &used, mix);
    assert_int_equal(checkpoint_open(&c, h5), 0);
    assert_string_equal(c.mix.p, b->recipe.mix->name);
    if (checkpoint_use_blocks(&c, &used) || export_plan(&p, &used, &b->recipe, false) ||
        export_write(&p, t, &args, gguf) || model_gguf_load(gguf, &file, &t2))
        fail_msg("%s: %s", mix, err_text());
    assert_used(m, &file, mix);
    export_plan_free(&p);
    checkpoint_close(&c);
    transformer_free(&used);
    transformer_free(&file);
    tokenizer_free(t);
    tokenizer_free(t2);
}

static void every_mix_ships_what_it_trained(void **state)
{
    const struct recipe_mix *mix;
    const char *h5 = scratch_path(*state, "m.h5"), *gguf = scratch_path(*state, "m.gguf");
    const char *im = scratch_path(*state, "im.gguf");
    for (int i = 0; (mix = recipe_mix_at(i)); i++)
        for (int k = 0; k < 3 && mix->base->block > 1; k++) {
            struct transformer m;
            struct blocks b;
            const bool asks = !strcmp(mix->name, "Q2_K_S");
            make(&m, k == 2 ? ARCH_GPT2 : ARCH_LLAMA, k != 0, k == 1 ? 288 : 256, STORE_TRAINED);
            if (asks)
                write_importance(&m, im);
            begin(&b, mix->name, ".", asks ? im : NULL, &m);
            for (size_t j = 0; j < m.store.len; j++) // off the fit
                m.store.latent[j] *= 1 + 0.05f * (float)(j % 5);
            store_project(&m.store);
            exact(h5, gguf, mix->name, &m, &b);
            blocks_close(&b);
            transformer_free(&m);
        }
}

/* Scales are fitted by importance where there is one, and as ever where there is none. */
static void importance_weighs_the_fit(void **state)
{
    struct transformer m;
    struct blocks b;
    int weighed = 0;
    make(&m, ARCH_LLAMA, false, 256, STORE_TRAINED);
    write_importance(&m, scratch_path(*state, "im.gguf"));
    begin(&b, "q3_k_m", scratch_folder(*state), "im.gguf", &m);
    for (int i = 0; i < b.qat.n; i++) {
        const struct qat_weight *w = &b.qat.weight[i];
        struct tensor t = w->blocks;
        const size_t row = tensor_row_bytes(&t);
        float mean[256];
        assert_int_equal(tensor_cols(&t), 256);
        for (int c = 0; c < 256; c++)
            mean[c] = (float)(1 + c * c % 97 + c) / 2;
        t.data = malloc(tensor_bytes(&t));
        const float *x = w->p->latent;
        t.dt->encode(&t, 0, x, w->p == m.token_embd ? NULL : mean);
        assert_memory_equal(t.data, w->blocks.data, row);
        t.dt->encode(&t, 0, x, NULL);
        weighed += memcmp(t.data, w->blocks.data, row) != 0;
        free(t.data);
    }
    assert_int_equal(weighed, b.qat.n - 1); // all but the embedding
    blocks_close(&b);
    transformer_free(&m);
}

/* What goes on from a checkpoint has its latents and its blocks, and not other ones. */
static void training_goes_on_in_the_same_blocks(void **state)
{
    const char *h5 = scratch_path(*state, "m.h5");
    struct transformer m, back;
    struct blocks b, again;
    struct checkpoint c;
    make(&m, ARCH_LLAMA, false, 512, STORE_TRAINED);
    begin(&b, "q3_k_m", ".", NULL, &m);
    for (size_t j = 0; j < m.store.len; j++)
        m.store.latent[j] *= 1 + 0.05f * (float)(j % 5);
    store_project(&m.store);
    save(h5, &m, &b);
    assert_int_equal(checkpoint_open(&c, h5), 0);
    make(&back, ARCH_LLAMA, false, 512, STORE_TRAINED);
    assert_int_equal(checkpoint_load(&c, &back, CHECKPOINT_TRAINING), 0);
    assert_memory_equal(m.store.latent, back.store.latent, m.store.len * sizeof(float));
    const struct config_qat same = {.type = "q3_k_m"}, other = {.type = "q3_k_s"};
    assert_int_equal(blocks_open(&again, &other, false, ".", &back), 0);
    assert_int_equal(checkpoint_load_blocks(&c, &back, &again.qat), -1);
    assert_non_null(strstr(err_text(), "is not in blocks of q3_k"));
    blocks_close(&again);
    assert_int_equal(blocks_open(&again, &same, false, ".", &back), 0);
    assert_int_equal(checkpoint_load_blocks(&c, &back, &again.qat), 0);
    assert_used(&m, &back, "resumed");
    for (int i = 0; i < b.qat.n; i++)
        assert_memory_equal(b.qat.weight[i].blocks.data, again.qat.weight[i].blocks.data,
                            tensor_bytes(&b.qat.weight[i].blocks));
    checkpoint_close(&c);
    blocks_close(&b);
    blocks_close(&again);
    transformer_free(&m);
    transformer_free(&back);
}

/* ---- steps ---- */

enum { T = 32, BATCH = 2 * T };

/* Forward of random tokens: hidden states into h [BATCH,C]; or, where that is NULL, backward as
   well, gradients into the store: the loss. */
static double step(struct transformer *m, const struct dtype *act, float *h)
{
    int32_t tok[BATCH], pos[BATCH], target[BATCH];
    const struct sequence seqs[] = {{.start = 0, .len = T}, {.start = T, .len = T}};
    const struct batch batch = {.n = BATCH, .tok = tok, .pos = pos, .seqs = seqs, .n_seqs = 2};
    const struct head_loss_args args = {.target = target, .weight = 1};
    struct loss loss = {0};
    struct ctx ctx;
    for (int i = 0; i < BATCH; i++) {
        tok[i] = i * 37 % 257;
        target[i] = (i + 1) * 37 % 257;
        pos[i] = i % T;
    }
    assert_int_equal(ctx_init(&ctx, 64 << 20), 0);
    ctx.act = act;
    ctx.recording = ctx.training = !h;
    store_zero_grad(&m->store);
    struct tensor *hidden = transformer_forward(&ctx, m, &batch);
    if (hidden && h)
        memcpy(h, hidden->data, tensor_bytes(hidden));
    else if (!op_head_loss(&ctx, hidden, &m->output->used, &args, &loss))
        tape_backward(&ctx, NULL);
    if (ctx.failed)
        fail_msg("%s", ctx.text);
    if (!h)
        store_pullback(&m->store);
    ctx_free(&ctx);
    return loss.nll / (double)loss.count;
}

/* Training on panels made straight from blocks is training on what the blocks decode to. */
static void packed_trains_the_same(void **state)
{
    (void)state;
    for (int k = 0; k < 3; k++) {
        struct transformer m[2];
        struct blocks b[2];
        double loss[2];
        for (int i = 0; i < 2; i++) {
            const struct config_qat c = {.type = k == 1 ? "q4_0" : "q3_k_m", .ste = STE_CLIPPED};
            make(&m[i], k == 2 ? ARCH_GPT2 : ARCH_LLAMA, k != 0, 256, STORE_TRAINED);
            assert_int_equal(store_panels(&m[i].store), 0);
            if (blocks_open(&b[i], &c, i, ".", &m[i]) || blocks_begin(&b[i], &m[i]))
                fail_msg("%s", err_text());
            loss[i] = step(&m[i], &dtype_bf16, NULL);
        }
        assert_true(fabs(loss[0] - loss[1]) <= 0 && loss[0] > 1);
        for (int i = 0; i < m[0].store.n; i++) {
            const struct param *p = &m[0].store.p[i], *q = &m[1].store.p[i];
            if (memcmp(p->latent_grad, q->latent_grad, tensor_grad_bytes(&p->used)) != 0)
                fail_msg("the gradient of %s is another one", p->name);
            assert_true(p->used.nd < 2 || q->used.data != q->latent ||
                        !qat_find(&b[1].qat, q->name));
        }
        for (int i = 0; i < 2; i++) {
            blocks_close(&b[i]);
            transformer_free(&m[i]);
        }
    }
}

/* y [BATCH,256] = x times the matrix ffn_up, of 256 rows, in the way that the model has it. */
static void multiply(struct transformer *m, float *y)
{
    struct ctx ctx;
    struct tensor *w = &store_find(&m->store, "blk.0.ffn_up.weight")->used, *out;
    assert_int_equal(ctx_init(&ctx, 16 << 20), 0);
    struct tensor *x = ctx_matrix(&ctx, &dtype_f32, BATCH, 256);
    rng_normal(5, 1, x->data, BATCH * 256);
    assert_int_equal(op_linear(&ctx, x, 1, &w, NULL, NULL, &out), 0);
    memcpy(y, out->data, tensor_bytes(out));
    ctx_free(&ctx);
}

static double rms(const float *a, const float *b)
{
    double sum = 0;
    for (int i = 0; i < BATCH * 256; i++)
        sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return sqrt(sum / (BATCH * 256));
}

/* With rounded activations training computes what inference on the blocks does: a product but for
   the order of its sums, a model but for the few bytes that differ behind those. */
static void activations_are_inferences(void **state)
{
    (void)state;
    static const char *const mixes[] = {"q4_k_m", "q3_k_m", "q8_0", "q4_0", "iq4_nl"};
    for (int k = 0; k < 5; k++) {
        static float h[3][BATCH * 256], y[3][BATCH * 256];
        for (int i = 0; i < 3; i++) { // in f32 on what blocks decode to, with rounding; on blocks
            const struct config_qat c = {.type = mixes[k], .activations = i == 1};
            struct transformer m;
            struct blocks b;
            make(&m, k % 2 ? ARCH_GPT2 : ARCH_LLAMA, k == 4, 256, STORE_TRAINED);
            if (blocks_open(&b, &c, i == 2, ".", &m) || blocks_begin(&b, &m))
                fail_msg("%s", err_text());
            step(&m, &dtype_f32, h[i]);
            multiply(&m, y[i]);
            blocks_close(&b);
            transformer_free(&m);
        }
        if (!(rms(y[0], y[2]) > 1e-4 && rms(y[1], y[2]) < 1e-3 * rms(y[0], y[2])))
            fail_msg("%s: a product is %g from inference, %g without rounding", mixes[k],
                     rms(y[1], y[2]), rms(y[0], y[2]));
        if (!(rms(h[1], h[2]) < 0.3 * rms(h[0], h[2])))
            fail_msg("%s: a model is %g from inference, %g without rounding", mixes[k],
                     rms(h[1], h[2]), rms(h[0], h[2]));
    }
}

/* Embedding and head are in the types of the mix; one matrix that is both has the head's. */
static void embedding_and_head_have_their_types(void **state)
{
    (void)state;
    for (int tied = 0; tied < 2; tied++) {
        struct transformer m;
        struct blocks b;
        make(&m, ARCH_LLAMA, tied, 512, STORE_FROZEN);
        assert_int_equal(blocks_open(&b, &(struct config_qat){.type = "q4_k_m"}, false, ".", &m),
                         0);
        assert_string_equal(qat_find(&b.qat, "token_embd.weight")->blocks.dt->name,
                            tied ? "q6_k" : "q4_k");
        assert_string_equal(qat_find(&b.qat, "blk.0.attn_v.weight")->blocks.dt->name, "q6_k");
        assert_null(qat_find(&b.qat, "output_norm.weight"));
        if (tied)
            assert_null(qat_find(&b.qat, "output.weight"));
        else
            assert_string_equal(qat_find(&b.qat, "output.weight")->blocks.dt->name, "q6_k");
        blocks_close(&b);
        transformer_free(&m);
    }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)
    const struct CMUnitTest tests[] = {
        TEST(every_mix_ships_what_it_trained),     TEST(importance_weighs_the_fit),
        TEST(training_goes_on_in_the_same_blocks), TEST(packed_trains_the_same),
        TEST(activations_are_inferences),          TEST(embedding_and_head_have_their_types),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
