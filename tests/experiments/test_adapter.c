/* Adapters as files: what was written is read again, and what does not fit is refused by name. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "experiments/adapter.h"
#include "experiments/cmd.h"
#include "tests/datasets/scratch.h"
#include "tests/experiments/capture.h"
#include "tests/experiments/tiny_model.h"

static const struct export_origin origin = {.name = "a", .stage = "qat", .config_hash = "c0ffee"};

static void with_factors(struct transformer *m, enum arch arch)
{
    const char *all = "all";
    tiny_model_with(m, arch, false);
    const struct lora_args args = {.rank = 2, .alpha = 8, .targets = {1, &all}};
    if (lora_add_targets(m, &args) || lora_attach(m, 8, STORE_FROZEN))
        fail_msg("%s", err_text());
    for (int i = 0; i < m->lora.factors.n; i++)
        for (int64_t k = 0; k < tensor_numel(&m->lora.factors.p[i].used); k++)
            m->lora.factors.p[i].latent[k] = (float)((k * 37 + i) % 101 - 50) / 64;
}

static void comes_back(void **state)
{
    const char *path = scratch_path(*state, "a.gguf");
    for (int arch = 0; arch < ARCH_N; arch++) {
        struct transformer m, back;
        with_factors(&m, (enum arch)arch);
        tiny_model_with(&back, (enum arch)arch, false);
        if (adapter_write(path, &m, &origin) || adapter_use(&back, path, 0.5))
            fail_msg("%s", err_text());
        assert_int_equal(back.lora.factors.n, m.lora.factors.n);
        for (int i = 0; i < m.lora.factors.n; i++) {
            const struct param *p = &m.lora.factors.p[i];
            const struct param *q = store_find(&back.lora.factors, p->name);
            assert_non_null(q);
            assert_true(tensor_same_shape(&p->used, &q->used));
            assert_memory_equal(p->latent, q->latent, tensor_bytes(&p->used));
        }
        for (int i = 0; i < m.lora.factors.n / 2; i++) {
            const struct low_rank *a = lora_base(&m, i)->used.plus;
            const struct low_rank *b = store_find(&back.store, lora_base(&m, i)->name)->used.plus;
            assert_true(a->scale == 4 && b->scale == 2); // alpha / rank, times 0.5
        }
        transformer_free(&m);
        transformer_free(&back);
    }
}

/* ---- files with one thing wrong ---- */

struct wrong {
    const char *type, *kind, *arch; /* NULL: as it should be */
    const char *a, *b;              /* names of tensors; NULL: left out */
    uint64_t in, rank_a, rank_b, out;
    const char *says;
};

static void write_wrong(const struct wrong *w, const char *path)
{
    static const float zero[1 << 16];
    struct gguf_write g = {0};
    const uint64_t a[] = {w->in, w->rank_a}, b[] = {w->rank_b, w->out};
    gguf_write_text(&g, "general.architecture", w->arch ? w->arch : "llama");
    gguf_write_text(&g, "general.type", w->type ? w->type : "adapter");
    gguf_write_text(&g, "adapter.type", w->kind ? w->kind : "lora");
    gguf_write_f32(&g, "adapter.lora.alpha", 4);
    if (w->a)
        gguf_write_tensor(&g, w->a, gguf_type(0), 2, a);
    if (w->b)
        gguf_write_tensor(&g, w->b, gguf_type(0), 2, b);
    if (gguf_write_open(&g, path) ||
        (w->a && gguf_write_data(&g, zero, a[0] * a[1] * sizeof *zero)) ||
        (w->b && gguf_write_data(&g, zero, b[0] * b[1] * sizeof *zero)) || gguf_write_commit(&g))
        fail_msg("%s", err_text());
}

static void is_refused(void **state)
{
    const char *path = scratch_path(*state, "a.gguf");
    struct transformer m;
    tiny_model_with(&m, ARCH_LLAMA, false);
    const struct param *q = m.blocks[0].attn_q.weight;
    const uint64_t I = (uint64_t)tensor_cols(&q->used), O = (uint64_t)tensor_rows(&q->used);
    static const char a[] = "blk.0.attn_q.weight.lora_a", b[] = "blk.0.attn_q.weight.lora_b";
    const struct wrong cases[] = {
        {.a = a, .b = b, .in = I, .rank_a = 2, .rank_b = 2, .out = O},
        {"model", NULL, NULL, a, b, I, 2, 2, O, "'general.type' is 'model', not 'adapter'"},
        {NULL, "control", NULL, a, b, I, 2, 2, O, "'adapter.type' is 'control', not 'lora'"},
        {NULL, NULL, "qwen2", a, b, I, 2, 2, O, "it is for qwen2, the model is llama"},
        {NULL, NULL, NULL, a, b, I + 32, 2, 2, O, "by the model it is"},
        {NULL, NULL, NULL, a, b, I, 2, 2, O + 1, "by the model it is"},
        {NULL, NULL, NULL, a, b, I, 2, 3, O, "by the model it is"},
        {NULL, NULL, NULL, a, b, I, 1000, 1000, O, "factors of rank 1000"},
        {NULL, NULL, NULL, a, NULL, I, 2, 2, O, "'blk.0.attn_q.weight.lora_b' is missing"},
        {NULL, NULL, NULL, "blk.1.attn_q.weight.lora_a", b, I, 2, 2, O, "lora_b' is missing"},
        {NULL, NULL, NULL, NULL, b, I, 2, 2, O, "no factors in it"},
        {NULL, NULL, NULL, a, "blk.9.attn_q.weight.lora_b", I, 2, 2, O, "no 'blk.9.attn_q.weight'"},
        {NULL, NULL, NULL, a, "blk.0.attn_q.weight.lora", I, 2, 2, O, "ends neither in"},
        {NULL, NULL, NULL, "token_embd.weight.lora_a", b, I, 2, 2, O, "factors of the embedding"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_wrong(&cases[i], path);
        const int rc = adapter_use(&m, path, 1);
        assert_int_equal(rc, cases[i].says ? -1 : 0);
        if (cases[i].says && !strstr(err_text(), cases[i].says))
            fail_msg("\"%s\" does not speak of \"%s\"", err_text(), cases[i].says);
        if (rc)
            assert_null(q->used.plus); // the model is as it was
        lora_free(&m);
    }
    transformer_free(&m);
}

static void flags(void **state)
{
    const char *path = scratch_path(*state, "a.gguf");
    struct transformer m;
    char scaled[400];
    with_factors(&m, ARCH_LLAMA);
    assert_int_equal(adapter_write(path, &m, &origin), 0);
    lora_free(&m);
    snprintf(scaled, sizeof scaled, "%s:0.25", path);
    assert_int_equal(adapter_args_use(&(struct adapter_args){.lora_scaled = scaled}, &m), 0);
    assert_true(m.lora.low[0].scale == 1);
    lora_free(&m);
    assert_int_equal(adapter_args_use(&(struct adapter_args){0}, &m), 0);
    assert_int_equal(m.lora.factors.n, 0);
    static const char *const bad[] = {"a.gguf", "a.gguf:", "a.gguf:x", "a.gguf:1x", "a.gguf:nan"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(adapter_args_use(&(struct adapter_args){.lora_scaled = bad[i]}, &m), -1);
        assert_non_null(strstr(err_text(), "FILE:SCALE"));
    }
    assert_int_equal(adapter_args_use(&(struct adapter_args){path, scaled}, &m), -1);
    assert_non_null(strstr(err_text(), "exclude each other"));
    transformer_free(&m);
}

/* Given where a model belongs, it is told from one that lacks tensors. */
static void is_no_model(void **state)
{
    char path[2000], text[2000], none[2000];
    struct transformer m;
    struct buf out = {0}, notes = {0};
    snprintf(path, sizeof path, "%s", scratch_path(*state, "x-lora.gguf"));
    snprintf(text, sizeof text, "%s", scratch_path(*state, "text.txt"));
    snprintf(none, sizeof none, "%s", scratch_path(*state, "none.h5"));
    with_factors(&m, ARCH_LLAMA);
    assert_int_equal(adapter_write(path, &m, &origin), 0);
    transformer_free(&m);
    scratch_text(text, "a text");
    const struct {
        int (*run)(int argc, char **argv);
        const char *argv[6];
    } each[] = {
        {cmd_import, {"import", path, none}},
        {cmd_perplexity, {"perplexity", "-m", path, "-f", text}},
        {cmd_generate, {"generate", "-m", path, "-p", "a"}},
        {cmd_imatrix, {"imatrix", "-m", path, "-f", text}},
        {cmd_quantize, {"quantize", "--dry-run", path, "q8_0"}},
    };
    for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
        assert_int_equal(capture_run(each[i].run, each[i].argv, &out, &notes), -1);
        if (!strstr(err_text(), "x-lora.gguf: an adapter, not a model: give it by --lora"))
            fail_msg("%s says '%s'", each[i].argv[0], err_text());
    }
    buf_free(&out);
    buf_free(&notes);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)
    const struct CMUnitTest tests[] = {TEST(comes_back), TEST(is_refused), TEST(flags),
                                       TEST(is_no_model)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
