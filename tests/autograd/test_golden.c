/* Ops against PyTorch's, forward and backward: tests/golden/ops.h5. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/ops/ops.h"
#include "tests/golden.h"

static const double PART = 2e-6; /* of the norm */

enum { INPUTS = 3 };

/* A group of ops.h5, and the op that must compute the same. */
struct op_case {
    const char *group;
    const char *input[INPUTS];
    int lead; /* dimensions that count tokens; the others are a row */
    /* Builds the op from in[]: y, or NULL and the loss. */
    struct tensor *(*build)(struct ctx *ctx, struct golden *g, const char *group,
                            struct tensor *const in[], struct loss *loss);
};

static const struct golden_array *read_in(struct golden *g, const char *group, const char *name)
{
    char path[96];
    snprintf(path, sizeof path, "%s/%s", group, name);
    return golden_read(g, path);
}

static struct tensor *linear(struct ctx *ctx, struct golden *g, const char *group,
                             struct tensor *const in[], struct loss *loss)
{
    struct tensor *out[1];
    (void)g, (void)group, (void)loss;
    return op_linear(ctx, in[0], 1, in + 1, NULL, NULL, out) ? NULL : out[0];
}

static struct tensor *embedding(struct ctx *ctx, struct golden *g, const char *group,
                                struct tensor *const in[], struct loss *loss)
{
    const struct golden_array *tok = read_in(g, group, "tokens");
    (void)loss;
    return op_embedding(ctx, in[0], tok->i, tok->n);
}

static struct tensor *rmsnorm(struct ctx *ctx, struct golden *g, const char *group,
                              struct tensor *const in[], struct loss *loss)
{
    (void)loss;
    return op_rmsnorm(ctx, in[0], in[1], (float)golden_number(g, group, "eps"));
}

static struct rope table;

static struct tensor *rope(struct ctx *ctx, struct golden *g, const char *group,
                           struct tensor *const in[], struct loss *loss)
{
    char scaling[32];
    golden_text(g, group, "rope_scaling", scaling, sizeof scaling);
    const struct golden_array *x = read_in(g, group, "x"), *pos = read_in(g, group, "pos");
    const struct rope_args args = {
        .style = golden_number(g, group, "half_split") != 0 ? ROPE_HALF : ROPE_ADJACENT,
        .scaling = !strcmp(scaling, "linear")   ? ROPE_SCALING_LINEAR
                   : !strcmp(scaling, "llama3") ? ROPE_SCALING_LLAMA3
                                                : ROPE_SCALING_NONE,
        .head_dim = (int)x->dim[3],
        .n_pos = 300,
        .base = golden_number(g, group, "rope_base"),
        .factor = golden_number(g, group, "rope_factor"),
        .low_freq = golden_number(g, group, "rope_low_freq_factor"),
        .high_freq = golden_number(g, group, "rope_high_freq_factor"),
        .original_context = golden_number(g, group, "rope_original_context"),
    };
    (void)loss;
    assert_int_equal(rope_init(&table, &args), 0);
    return op_rope(ctx, in[0], &table, pos->i);
}

static struct tensor *attention(struct ctx *ctx, struct golden *g, const char *group,
                                struct tensor *const in[], struct loss *loss)
{
    struct attention_seq seqs[4] = {0};
    const struct golden_array *q = read_in(g, group, "q");
    (void)loss;
    assert_true(q->dim[0] <= 4);
    for (int b = 0; b < q->dim[0]; b++)
        seqs[b] = (struct attention_seq){.start = b * q->dim[1], .len = q->dim[1]};
    return op_attention(ctx, in[0], in[1], in[2], (int)q->dim[3], seqs, (int)q->dim[0]);
}

static struct tensor *swiglu(struct ctx *ctx, struct golden *g, const char *group,
                             struct tensor *const in[], struct loss *loss)
{
    (void)g, (void)group, (void)loss;
    return op_swiglu(ctx, in[0], in[1]);
}

/* The op starts from a hidden state: the logits, with the identity for a head. */
static struct tensor *cross_entropy(struct ctx *ctx, struct golden *g, const char *group,
                                    struct tensor *const in[], struct loss *loss)
{
    const struct golden_array *target = read_in(g, group, "targets");
    const int64_t V = tensor_cols(in[0]);
    struct tensor *w = ctx_matrix(ctx, &dtype_f32, V, V);
    for (int64_t i = 0; i < V * V; i++)
        ((float *)w->data)[i] = i % (V + 1) == 0;
    int64_t kept = 0;
    for (int64_t i = 0; i < target->n; i++)
        kept += target->i[i] >= 0;
    const struct head_loss_args args = {
        .target = target->i,
        .weight = 1 / (float)kept,
        .label_smoothing = (float)golden_number(g, group, "label_smoothing"),
        .z_loss = (float)golden_number(g, group, "z_loss"),
    };
    op_head_loss(ctx, in[0], w, &args, loss);
    assert_int_equal(loss->count, kept);
    return NULL;
}

static struct tensor *mse(struct ctx *ctx, struct golden *g, const char *group,
                          struct tensor *const in[], struct loss *loss)
{
    (void)g, (void)group;
    op_mse(ctx, in[0], in[1], 1 / (float)tensor_numel(in[0]), loss);
    return NULL;
}

static const struct op_case cases[] = {
    {"rmsnorm", {"x", "weight"}, 1, rmsnorm},
    {"rmsnorm_small", {"x", "weight"}, 1, rmsnorm},
    {"rope_adjacent", {"x"}, 2, rope},
    {"rope_half_split", {"x"}, 2, rope},
    {"rope_linear", {"x"}, 2, rope},
    {"rope_llama3", {"x"}, 2, rope},
    {"rope_half_split_llama3", {"x"}, 2, rope},
    {"attention", {"q", "k", "v"}, 2, attention},
    {"attention_one_token", {"q", "k", "v"}, 2, attention},
    {"attention_long", {"q", "k", "v"}, 2, attention},
    {"attention_sharp", {"q", "k", "v"}, 2, attention},
    {"swiglu", {"gate", "up"}, 1, swiglu},
    {"swiglu_large", {"gate", "up"}, 1, swiglu},
    {"linear", {"x", "weight"}, 1, linear},
    {"embedding", {"weight"}, 1, embedding},
    {"cross_entropy", {"logits"}, 1, cross_entropy},
    {"cross_entropy_smoothing", {"logits"}, 1, cross_entropy},
    {"cross_entropy_z_loss", {"logits"}, 1, cross_entropy},
    {"cross_entropy_all", {"logits"}, 1, cross_entropy},
    {"cross_entropy_large", {"logits"}, 1, cross_entropy},
    {"mse", {"x", "target"}, 1, mse},
};
enum { CASES = sizeof cases / sizeof *cases };

static struct tensor load(struct ctx *ctx, const struct op_case *c, const struct golden_array *a)
{
    struct tensor t = {.dt = &dtype_f32, .nd = a->nd > 1 ? 2 : 1, .needs_grad = true};
    t.dim[0] = t.dim[1] = 1;
    for (int k = 0; k < a->nd; k++)
        t.dim[a->nd > 1 && k >= c->lead] *= a->dim[k];
    const size_t bytes = (size_t)a->n * sizeof(float);
    t.data = ctx_push(ctx, bytes);
    memcpy(t.data, a->f, bytes);
    return t;
}

static void op_is_torch(void **state)
{
    const struct op_case *c = *state;
    struct golden *g = golden_open("ops");
    struct tensor t[INPUTS], *in[INPUTS] = {0};
    struct loss loss = {0};
    struct ctx ctx;
    char path[96];
    assert_int_equal(ctx_init(&ctx, 8 << 20), 0);
    ctx.recording = true;
    for (int i = 0; i < INPUTS && c->input[i]; i++) {
        t[i] = load(&ctx, c, read_in(g, c->group, c->input[i]));
        in[i] = &t[i];
    }
    struct tensor *y = c->build(&ctx, g, c->group, in, &loss);
    if (ctx.failed)
        fail_msg("%s", ctx.text);
    const float sum = (float)loss.sum;
    snprintf(path, sizeof path, "%s/y", c->group);
    golden_compare(g, path, y ? y->data : &sum, y ? tensor_numel(y) : 1, PART);
    if (y) {
        const struct golden_array *dy = read_in(g, c->group, "dy");
        y->grad = ctx_scratch(&ctx, (size_t)dy->n * sizeof(float));
        memcpy(y->grad, dy->f, (size_t)dy->n * sizeof(float));
    }
    tape_backward(&ctx, NULL);
    for (int i = 0; i < INPUTS && in[i]; i++) {
        snprintf(path, sizeof path, "%s/d%s", c->group, c->input[i]);
        golden_compare(g, path, in[i]->grad, tensor_numel(in[i]), PART);
    }
    ctx_free(&ctx);
    rope_free(&table);
    golden_close(g);
}

static void nothing_is_left_out(void **state)
{
    (void)state;
    struct golden *g = golden_open("ops");
    assert_int_equal(golden_children(g, "/"), CASES);
    golden_close(g);
}

int main(void)
{
    struct CMUnitTest tests[CASES + 1] = {[CASES] = cmocka_unit_test(nothing_is_left_out)};
    for (int i = 0; i < CASES; i++)
        tests[i] = (struct CMUnitTest){cases[i].group, op_is_torch, NULL, NULL,
                                       (void *)(uintptr_t)&cases[i]};
    return cmocka_run_group_tests_name("golden", tests, NULL, NULL);
}
