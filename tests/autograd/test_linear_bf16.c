/* Linear ops and the head's loss on bf16 against themselves on f32, from the same values, which
   bf16 holds exactly: what differs is rounding. Weights with panels and without, fresh gradients
   and such that are added to, odd sizes, several chunks and tiles; the same bits from any number of
   threads; the plan of a measuring ctx. */
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

#include "autograd/kernels/gemm_bf16.h"
#include "autograd/kernels/rows.h"
#include "autograd/ops/ops.h"
#include "tests/gradcheck.h"

enum { ARENA = 256 << 20 };

/* n linears [N,I] -> [N,O[i]], or a head of V entries (n = 0). */
struct setup {
    int n;
    int64_t N, I, O[LINEAR_MAX];
    bool bias, residual, panels, twice; /* twice: backward adds to gradients that are there */
    bool parts;                         /* the weights and biases are rows of one */
    int64_t teacher;                    /* of a head: the width of its teacher, 0: none; with I it
                                           multiplies with the same head */
};

struct result {
    float *value[16]; /* outputs, then dx, dr, dw, db */
    int64_t len[16];
    int n;
    double loss;
    size_t peak;
};

static void keep(struct result *r, const struct dtype *dt, const void *from, int64_t n)
{
    float *to = malloc((size_t)n * sizeof *to);
    if (dt == &dtype_bf16)
        rows->widen(n, from, to);
    else
        memcpy(to, from, (size_t)n * sizeof *to);
    r->value[r->n] = to;
    r->len[r->n++] = n;
}

/* Normal values that bf16 holds. */
static float *values(uint64_t key, int64_t n, float std)
{
    float *x = gradcheck_normal(key, std, n);
    uint16_t *h = malloc((size_t)n * sizeof *h);
    rows->narrow(n, x, h);
    rows->widen(n, h, x);
    free(h);
    return x;
}

static struct tensor *input(struct ctx *ctx, const struct dtype *dt, uint64_t key, int64_t n,
                            int64_t cols)
{
    struct tensor *t = ctx_matrix(ctx, dt, n, cols);
    float *x = values(key, n * cols, 1);
    if (dt == &dtype_bf16)
        rows->narrow(n * cols, x, t->data);
    else
        memcpy(t->data, x, tensor_bytes(t));
    free(x);
    t->needs_grad = true;
    return t;
}

static void give(struct ctx *ctx, struct tensor *y, uint64_t key)
{
    float *g = values(key, tensor_numel(y), 1);
    bool fresh;
    y->needs_grad = true;
    void *grad = ctx_grad(ctx, y, &fresh);
    if (y->dt == &dtype_bf16)
        rows->narrow(tensor_numel(y), g, grad);
    else
        memcpy(grad, g, tensor_bytes(y));
    free(g);
}

static void weights(struct store *s, const struct setup *c)
{
    char name[16];
    const int64_t all = c->O[0] + c->O[1] + c->O[2];
    for (int i = 0; i < (c->n && !c->parts ? c->n : 1); i++) {
        const int64_t O = c->parts ? all : c->O[i];
        snprintf(name, sizeof name, "w%d", i);
        store_add(s, name, 2, (int64_t[]){O, c->I}, 1);
        snprintf(name, sizeof name, "b%d", i);
        store_add(s, name, 1, (int64_t[]){O}, 1);
    }
    assert_int_equal(store_alloc(s, STORE_TRAINED), 0);
    for (int i = 0; i < s->n; i++) {
        const int64_t n = tensor_numel(&s->p[i].used);
        float *x = values(100 + (uint64_t)i, n, 0.2f);
        memcpy(s->p[i].latent, x, (size_t)n * sizeof *x);
        free(x);
    }
    if (c->panels)
        assert_int_equal(store_panels(s), 0);
    store_project(s);
    store_zero_grad(s);
}

/* A teacher's hidden states and head; NULL: the case has none. */
static const struct head_voice *taught(struct ctx *ctx, struct store *s, const struct setup *c,
                                       struct head_voice *voice)
{
    if (!c->teacher)
        return NULL;
    voice->hidden = input(ctx, ctx->act, 31, c->N, c->teacher);
    voice->w = &s->p[0].used;
    if (c->teacher != c->I) {
        struct tensor *w = ctx_matrix(ctx, &dtype_f32, c->O[0], c->teacher);
        float *x = values(32, tensor_numel(w), 0.2f);
        memcpy(w->data, x, tensor_bytes(w));
        free(x);
        voice->w = w;
    }
    return voice;
}

static void pass(struct ctx *ctx, struct store *s, const struct setup *c, struct result *r)
{
    struct tensor *x = input(ctx, ctx->act, 1, c->N, c->I), *out[LINEAR_MAX];
    struct tensor *res = c->residual ? input(ctx, &dtype_f32, 2, c->N, c->O[0]) : NULL;
    struct loss loss = {0};
    ctx->recording = true;
    if (c->twice)
        give(ctx, x, 7);
    if (c->n) {
        struct tensor *w[LINEAR_MAX], *b[LINEAR_MAX];
        for (int64_t i = 0, at = 0; i < c->n; at += c->O[i++]) {
            w[i] = c->parts ? ctx_part(ctx, &s->p[0].used, at, c->O[i]) : &s->p[2 * i].used;
            b[i] = !c->bias   ? NULL
                   : c->parts ? ctx_part(ctx, &s->p[1].used, at, c->O[i])
                              : &s->p[2 * i + 1].used;
            // whole panels can be cut
            if (c->parts && c->panels)
                assert_int_equal(w[i]->panels != NULL, at % PANEL == 0 && c->O[i] % PANEL == 0);
        }
        assert_int_equal(op_linear(ctx, x, c->n, w, b, res, out), 0);
        for (int i = 0; i < c->n; i++) {
            assert_ptr_equal(out[i]->dt, c->residual ? &dtype_f32 : ctx->act);
            keep(r, out[i]->dt, out[i]->data, tensor_numel(out[i]));
            give(ctx, out[i], 10 + (uint64_t)i);
        }
        tape_backward(ctx, NULL);
        assert_false(ctx->failed);
    } else {
        int32_t *target = malloc((size_t)c->N * sizeof *target);
        for (int64_t i = 0; i < c->N; i++)
            target[i] = i % 7 == 3 ? -1 : (int32_t)(i * 31 % c->O[0]);
        struct head_voice voice;
        const struct head_loss_args args = {.target = target,
                                            .weight = 1,
                                            .z_loss = 0.01f,
                                            .teacher = taught(ctx, s, c, &voice),
                                            .kl = 0.7f};
        assert_int_equal(op_head_loss(ctx, x, &s->p[0].used, &args, &loss), 0);
        free(target);
    }
    r->loss = loss.sum;
    keep(r, x->dt, x->grad, tensor_numel(x));
    if (res)
        keep(r, res->dt, res->grad, tensor_numel(res));
}

/* Runs the case in dtype act; with `twice` the parameters' gradients are of two passes. */
static struct result run(const struct setup *c, const struct dtype *act)
{
    struct ctx ctx;
    struct store s = {0};
    struct result r = {0};
    weights(&s, c);
    assert_int_equal(ctx_init(&ctx, ARENA), 0);
    ctx.act = act;
    for (int i = 0; i <= c->twice; i++) {
        for (; r.n; r.n--)
            free(r.value[r.n - 1]);
        ctx_reset(&ctx);
        pass(&ctx, &s, c, &r);
    }
    store_pullback(&s);
    for (int i = 0; i < s.n; i++)
        keep(&r, &dtype_f32, s.p[i].latent_grad, tensor_numel(&s.p[i].used));
    r.peak = ctx.arena.peak;
    ctx_free(&ctx);
    store_free(&s);
    return r;
}

static void result_free(struct result *r)
{
    while (r->n)
        free(r->value[--r->n]);
}

static double distance(const struct result *a, const struct result *b, int i)
{
    double d = 0, size = 0;
    assert_int_equal(a->len[i], b->len[i]);
    for (int64_t j = 0; j < a->len[i]; j++) {
        d += ((double)a->value[i][j] - b->value[i][j]) * ((double)a->value[i][j] - b->value[i][j]);
        size += (double)b->value[i][j] * b->value[i][j];
    }
    return size > 0 ? sqrt(d / size) : sqrt(d);
}

static const struct setup setups[] = {
    {1, 64, 64, {32}, false, false, true, false},
    {1, 7, 33, {5}, true, false, false, false}, // odd sizes
    {3, 100, 64, {96, 32, 34}, true, false, true, false},
    {2, 530, 66, {300, 40}, false, false, true, true}, // several tiles
    {1, 301, 98, {98}, false, true, true, false},
    {1, 40, 64, {64}, true, true, false, true},
    {1, 1, 64, {400}, true, false, true, false},       // cut by columns
    {2, 20, 4100, {40, 70}, true, false, true, false}, // deeper than one pass of the kernel
    {3, 70, 66, {96, 32, 64}, true, false, true, false, .parts = true},
    {3, 70, 66, {64, 40, 40}, true, false, true, true, .parts = true},
    {0, 10, 64, {50}, false, false, true, false},
    {0, 600, 32, {301}, false, false, true, true},   // two chunks
    {0, 37, 32, {5001}, false, false, false, false}, // deeper than DEEP
    {0, 33, 8, {17001}, false, false, true, false},  // large: few tiles
    {0, 600, 32, {301}, false, false, true, true, .teacher = 32},
    {0, 70, 32, {5001}, false, false, false, false, .teacher = 48},
};

static void agrees(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof setups / sizeof *setups; i++) {
        struct result f32 = run(&setups[i], &dtype_f32), bf16 = run(&setups[i], &dtype_bf16);
        assert_int_equal(f32.n, bf16.n);
        for (int k = 0; k < f32.n; k++) {
            // each element is rounded at most twice: what goes in, what comes out
            const double d = distance(&bf16, &f32, k);
            if (!(d < 2 * 0x1p-8))
                fail_msg("case %d: result %d is off by %g", (int)i, k, d);
        }
        assert_true(fabs(f32.loss - bf16.loss) <= 1e-5 * fabs(f32.loss));
        result_free(&f32), result_free(&bf16);
    }
}

static void same_bits(void **state)
{
    (void)state;
    const int threads = omp_get_max_threads();
    for (size_t i = 0; i < sizeof setups / sizeof *setups; i++) {
        omp_set_num_threads(1);
        struct result one = run(&setups[i], &dtype_bf16);
        for (int n = 2; n < 4; n++) {
            omp_set_num_threads(n);
            struct result more = run(&setups[i], &dtype_bf16);
            for (int k = 0; k < one.n; k++)
                assert_memory_equal(one.value[k], more.value[k],
                                    (size_t)one.len[k] * sizeof(float));
            assert_true(one.loss == more.loss);
            result_free(&more);
        }
        result_free(&one);
    }
    omp_set_num_threads(threads);
}

/* After a step the panels are those of the new weights. */
static void panels_follow(void **state)
{
    (void)state;
    struct store s = {0};
    const struct setup c = {1, 0, 64, {40}, false, false, true, false};
    weights(&s, &c);
    const struct param *p = &s.p[0];
    assert_non_null(p->used.panels);
    assert_null(s.p[1].used.panels); // a bias
    const size_t n = (size_t)panels_numel(64, 40);
    assert_int_equal(store_panels_bytes(&s), n * sizeof(uint16_t));
    uint16_t *forward = malloc(n * sizeof *forward);
    for (int i = 0; i < 2; i++) {
        for (int64_t j = 0; j < tensor_numel(&p->used); j++)
            p->latent[j] = (float)(j + i) / 7;
        store_project(&s);
        gemm_bf16_scalar.pack(true, p->latent, false, 64, 64, 40, 0, panel_count(40), forward);
        assert_memory_equal(p->used.panels->forward, forward, n * sizeof *forward);
    }
    free(forward);
    store_free(&s);
}

/* A measuring ctx takes what a real one does. */
static void plan_holds(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof setups / sizeof *setups; i++) {
        const struct setup *c = &setups[i];
        size_t peak[2];
        for (int k = 0; k < 2; k++) {
            struct ctx ctx;
            struct store s = {0};
            struct loss loss = {0};
            weights(&s, c);
            assert_int_equal(ctx_init(&ctx, k ? ARENA : 0), 0);
            ctx.act = &dtype_bf16;
            ctx.recording = true;
            struct tensor *x = ctx_matrix(&ctx, &dtype_bf16, c->N, c->I), *out[LINEAR_MAX];
            struct tensor *w[LINEAR_MAX];
            int32_t *target = calloc((size_t)c->N, sizeof *target);
            struct head_voice voice = {ctx_matrix(&ctx, &dtype_bf16, c->N, c->I), &s.p[0].used};
            const struct head_loss_args args = {.target = target,
                                                .weight = 1,
                                                .teacher = c->teacher ? &voice : NULL,
                                                .kl = 1};
            if (k)
                memset(voice.hidden->data, 0, tensor_bytes(voice.hidden));
            x->needs_grad = true;
            if (k)
                memset(x->data, 0, tensor_bytes(x));
            for (int64_t j = 0, at = 0; j < c->n; at += c->O[j++])
                w[j] = c->parts ? ctx_part(&ctx, &s.p[0].used, at, c->O[j]) : &s.p[2 * j].used;
            if (!c->n) {
                assert_int_equal(op_head_loss(&ctx, x, &s.p[0].used, &args, &loss), 0);
            } else {
                bool fresh;
                assert_int_equal(op_linear(&ctx, x, c->n, w, NULL, NULL, out), 0);
                for (int j = 0; j < c->n; j++)
                    if (ctx_grad(&ctx, out[j], &fresh) && k)
                        memset(out[j]->grad, 0, tensor_bytes(out[j]));
                tape_backward(&ctx, NULL);
            }
            peak[k] = ctx.arena.peak;
            free(target);
            ctx_free(&ctx);
            store_free(&s);
        }
        assert_int_equal(peak[0], peak[1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees),
        cmocka_unit_test(same_bits),
        cmocka_unit_test(panels_follow),
        cmocka_unit_test(plan_holds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
