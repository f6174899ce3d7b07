/* Ops around the products on bf16 against themselves on f32. On inputs that are bf16 numbers both
   compute the same f32 values, so what the first makes is what the second makes, rounded once: bit
   for bit. A gradient that is added to is rounded at each addition: a bound. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <omp.h>

#include "autograd/base/rng.h"
#include "autograd/kernels/rows.h"
#include "autograd/ops/ops.h"

// rows of the table leave out what is zero
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

enum { IN = 3, ROWS = 19, HEAD = 6, POSITIONS = 23 };

/* The type of each input and of the output: s stays f32, h is bf16. */
struct act_case {
    const char *name;
    const char *in, *out; /* "hs": of IN inputs; "" for no output: a loss */
    struct tensor *(*build)(struct ctx *ctx, struct tensor *in[], struct loss *loss);
    int vectors; /* the last so many inputs are vectors */
    bool heads;  /* ... of a head's width */
};

static struct rope rope[2];
static int32_t pos[ROWS], tok[ROWS];
static uint64_t row_id[ROWS];

static struct tensor *rmsnorm(struct ctx *ctx, struct tensor *in[], struct loss *loss)
{
    (void)loss;
    return op_rmsnorm(ctx, in[0], in[1], 1e-3f);
}

static struct tensor *layernorm(struct ctx *ctx, struct tensor *in[], struct loss *loss)
{
    (void)loss;
    return op_layernorm(ctx, in[0], in[1], in[2], 1e-3f);
}

static struct tensor *gelu(struct ctx *ctx, struct tensor *in[], struct loss *loss)
{
    (void)loss;
    return op_gelu(ctx, in[0]);
}

static struct tensor *swiglu(struct ctx *ctx, struct tensor *in[], struct loss *loss)
{
    (void)loss;
    return op_swiglu(ctx, in[0], in[1]);
}

static struct tensor *rope_adjacent(struct ctx *ctx, struct tensor *in[], struct loss *loss)
{
    (void)loss;
    return op_rope(ctx, in[0], &rope[0], pos);
}

static struct tensor *rope_half(struct ctx *ctx, struct tensor *in[], struct loss *loss)
{
    (void)loss;
    return op_rope(ctx, in[0], &rope[1], pos);
}

static struct tensor *add(struct ctx *ctx, struct tensor *in[], struct loss *loss)
{
    (void)loss;
    return op_add(ctx, in[0], in[1]);
}

static struct tensor *scale(struct ctx *ctx, struct tensor *in[], struct loss *loss)
{
    (void)loss;
    return op_scale(ctx, in[0], -1.7f);
}

static struct tensor *dropout(struct ctx *ctx, struct tensor *in[], struct loss *loss)
{
    (void)loss;
    return op_dropout(ctx, in[0], 0.3f, 5, row_id);
}

static struct tensor *embedding(struct ctx *ctx, struct tensor *in[], struct loss *loss)
{
    (void)loss;
    return op_embedding(ctx, in[0], tok, ROWS);
}

static struct tensor *mse(struct ctx *ctx, struct tensor *in[], struct loss *loss)
{
    return op_mse(ctx, in[0], in[1], 0.3f, loss) ? NULL : in[0];
}

static const struct act_case cases[] = {
    {"rmsnorm of f32", "ss", "h", rmsnorm, .vectors = 1},
    {"rmsnorm of bf16", "hs", "h", rmsnorm, .vectors = 1},
    {"rmsnorm of heads of bf16", "hs", "h", rmsnorm, .vectors = 1, .heads = true},
    {"layernorm of f32", "sss", "h", layernorm, .vectors = 2},
    {"layernorm of bf16", "hss", "h", layernorm, .vectors = 2},
    {"gelu", "h", "h", gelu},
    {"swiglu", "hh", "h", swiglu},
    {"rope, adjacent", "h", "h", rope_adjacent},
    {"rope, half", "h", "h", rope_half},
    {"add, f32 and bf16", "sh", "s", add},
    {"add, bf16 and f32", "hs", "s", add},
    {"add, bf16", "hh", "h", add},
    {"scale", "h", "h", scale},
    {"dropout", "h", "h", dropout},
    {"embedding", "s", "s", embedding},
    {"mse, bf16", "hh", "", mse},
    {"mse, bf16 and f32", "hs", "", mse},
    {"mse, f32 and bf16", "sh", "", mse},
};

/* ---- one run ---- */

struct run {
    const struct act_case *c;
    bool narrow; /* with the types of the case, or all in f32 */
    int64_t cols;
    int times, frozen; /* the op is built so often; input that needs no gradient, or -1 */
};

struct result {
    float *out, *grad[IN]; /* widened; NULL: none */
    int64_t n_out, n[IN];
    double loss;
    size_t peak;
};

static const struct dtype *type_of(const struct run *r, char letter)
{
    return r->narrow && letter == 'h' ? &dtype_bf16 : &dtype_f32;
}

/* Draws that are bf16 numbers, times f, into p of dtype dt. */
static void draw(uint64_t key, float f, const struct dtype *dt, int64_t n, void *p)
{
    float *x = malloc((size_t)n * sizeof *x);
    uint16_t *h = malloc((size_t)n * sizeof *h);
    rng_normal(key, 1, x, (size_t)n);
    rows->narrow(n, x, h);
    rows->widen(n, h, x);
    rows->scale(n, f, x, x);
    if (dt == &dtype_f32)
        memcpy(p, x, (size_t)n * sizeof *x);
    else
        rows->narrow(n, x, p);
    free(x), free(h);
}

/* A copy in f32. */
static float *widened(const struct dtype *dt, int64_t n, const void *p)
{
    float *x = malloc((size_t)n * sizeof *x);
    if (dt == &dtype_f32)
        memcpy(x, p, (size_t)n * sizeof *x);
    else
        rows->widen(n, p, x);
    return x;
}

static void build(const struct run *r, struct ctx *ctx, struct tensor *in[], struct result *o)
{
    struct loss loss = {0};
    for (int k = 0; k < r->times; k++) {
        struct tensor *y = r->c->build(ctx, in, &loss);
        assert_non_null(y);
        if (!*r->c->out)
            continue;
        assert_ptr_equal(y->dt, type_of(r, *r->c->out));
        y->grad = ctx_scratch(ctx, tensor_bytes(y));
        if (ctx->measuring)
            continue;
        draw(99, (float)(k + 1), y->dt, tensor_numel(y), y->grad); // 3 in all, 2 come first
        if (k == 0) {
            o->n_out = tensor_numel(y);
            o->out = widened(y->dt, o->n_out, y->data);
        }
    }
    o->loss = loss.sum;
}

static struct result run(const struct run *r, bool measuring)
{
    struct ctx ctx;
    struct tensor t[IN], *in[IN] = {0};
    struct result o = {0};
    assert_int_equal(ctx_init(&ctx, measuring ? 0 : 1 << 20), 0);
    ctx.recording = ctx.training = true;
    ctx.act = r->narrow ? &dtype_bf16 : &dtype_f32;
    const int count = (int)strlen(r->c->in);
    for (int i = 0; i < count; i++) {
        const bool vector = i >= count - r->c->vectors;
        t[i] =
            (struct tensor){.dt = type_of(r, r->c->in[i]), .nd = 2, .needs_grad = i != r->frozen};
        t[i].dim[0] = vector ? 1 : ROWS;
        t[i].dim[1] = vector && r->c->heads ? HEAD : r->cols;
        o.n[i] = tensor_numel(&t[i]);
        t[i].data = malloc(tensor_bytes(&t[i]));
        draw(10 + (uint64_t)i, 1, t[i].dt, o.n[i], t[i].data);
        in[i] = &t[i];
    }
    build(r, &ctx, in, &o);
    tape_backward(&ctx, NULL);
    assert_false(ctx.failed);
    for (int i = 0; i < count; i++) {
        assert_true(!t[i].grad == (i == r->frozen));
        if (t[i].grad && !measuring)
            o.grad[i] = widened(t[i].dt, o.n[i], t[i].grad);
        free(t[i].data);
    }
    o.peak = ctx.arena.peak;
    ctx_free(&ctx);
    return o;
}

static void result_free(struct result *o)
{
    free(o->out);
    for (int i = 0; i < IN; i++)
        free(o->grad[i]);
}

/* ---- the checks ---- */

static void same_bits(const char *name, const char *what, int64_t n, const float *a, const float *b)
{
    assert_true(!a == !b);
    for (int64_t i = 0; i < n && a; i++)
        if (memcmp(&a[i], &b[i], sizeof *a))
            fail_msg("%s: %s[%d] is %.9g instead of %.9g", name, what, (int)i, (double)a[i],
                     (double)b[i]);
}

/* got: what `type` holds of want, which is in f32. */
static void same_rounded(const char *name, const char *what, char type, int64_t n, const float *got,
                         float *want)
{
    if (type == 'h' && want) {
        uint16_t *h = malloc((size_t)n * sizeof *h);
        rows->narrow(n, want, h);
        rows->widen(n, h, want);
        free(h);
    }
    same_bits(name, what, n, got, want);
}

/* Two additions, 2 d and then d, of want = 3 d: a rounding of 2 d, one of the sum. */
static void near_sum(const char *name, int64_t n, const float *got, const float *want)
{
    for (int64_t i = 0; i < n && want; i++) {
        const double most = 0x1p-8 * (2.0 / 3 + 1 + 0x1p-8) * fabs((double)want[i]);
        if (!(fabs((double)got[i] - want[i]) <= most))
            fail_msg("%s: sum of gradients[%d] is %.9g instead of %.9g", name, (int)i,
                     (double)got[i], (double)want[i]);
    }
}

static void as_in_f32(const struct act_case *c, int64_t cols, int times, int frozen)
{
    struct run r = {c, true, cols, times, frozen};
    struct result got = run(&r, false);
    r.narrow = false;
    struct result want = run(&r, false);
    assert_true(got.loss == want.loss);
    assert_int_equal(got.n_out, want.n_out);
    same_rounded(c->name, "y", *c->out, got.n_out, got.out, want.out);
    for (int i = 0; i < (int)strlen(c->in); i++) {
        if (times == 1 || c->in[i] == 's')
            same_rounded(c->name, "gradient", c->in[i], got.n[i], got.grad[i], want.grad[i]);
        else
            near_sum(c->name, got.n[i], got.grad[i], want.grad[i]);
    }
    result_free(&got), result_free(&want);
}

static void threads_and_peak(const struct act_case *c, int64_t cols, int times)
{
    const int threads = omp_get_max_threads();
    const struct run r = {c, true, cols, times, -1};
    struct result first = {0};
    for (int n = 1; n <= 3; n++) {
        omp_set_num_threads(n);
        struct result o = run(&r, false), plan = run(&r, true);
        assert_int_equal(o.peak, plan.peak);
        if (n > 1) {
            same_bits(c->name, "y of several threads", o.n_out, o.out, first.out);
            for (int i = 0; i < IN; i++)
                same_bits(c->name, "gradient of several threads", o.n[i], o.grad[i], first.grad[i]);
        }
        result_free(&plan);
        if (n == 1)
            first = o;
        else
            result_free(&o);
    }
    result_free(&first);
    omp_set_num_threads(threads);
}

static void check_case(void **state)
{
    const struct act_case *c = *state;
    static const int64_t cols[] = {HEAD, 5 * HEAD, 64 * HEAD + HEAD};
    for (size_t k = 0; k < sizeof cols / sizeof *cols; k++)
        for (int times = 1; times <= 2; times++) {
            for (int frozen = -1; frozen < (int)strlen(c->in); frozen++)
                if (frozen < 0 || strlen(c->in) > 1)
                    as_in_f32(c, cols[k], times, frozen);
            threads_and_peak(c, cols[k], times);
        }
}

/* Types that do not go together are refused. */
static void mixed_types(void **state)
{
    (void)state;
    struct ctx ctx;
    assert_int_equal(ctx_init(&ctx, 1 << 16), 0);
    struct tensor *a = ctx_matrix(&ctx, &dtype_f32, 2, 3), *b = ctx_matrix(&ctx, &dtype_bf16, 2, 3);
    assert_null(op_swiglu(&ctx, a, b));
    assert_non_null(strstr(ctx.text, "dtype"));
    ctx_free(&ctx);
}

int main(void)
{
    enum { CASES = sizeof cases / sizeof *cases };
    struct CMUnitTest tests[CASES + 1];
    for (int i = 0; i < ROWS; i++) {
        pos[i] = i * 7 % POSITIONS;
        tok[i] = i * 5 % 11;
        row_id[i] = (uint64_t)i * 3 + 1;
    }
    for (int i = 0; i < 2; i++) {
        const struct rope_args args = {.style = i ? ROPE_HALF : ROPE_ADJACENT,
                                       .head_dim = HEAD,
                                       .n_pos = POSITIONS,
                                       .base = 100};
        if (rope_init(&rope[i], &args))
            return 1;
    }
    for (size_t i = 0; i < CASES; i++)
        tests[i] = (struct CMUnitTest){cases[i].name, check_case, NULL, NULL,
                                       (void *)(uintptr_t)&cases[i]};
    tests[CASES] = (struct CMUnitTest){"mixed types", mixed_types, NULL, NULL, NULL};
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    rope_free(&rope[0]), rope_free(&rope[1]);
    return failed;
}
