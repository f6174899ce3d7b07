/* Attention in bf16 against plain loops in f64 on the same values. The bounds are of single
   elements and follow the roundings to bf16, each at most 2^-8 of what is rounded: probabilities,
   their gradients, y, and each result. */
#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/cpu.h"
#include "autograd/kernels/gemm_bf16.h"
#include "autograd/kernels/rows.h"
#include "autograd/ops/attention.h"
#include "tests/gradcheck.h"

enum { SEQS = 12, RESULTS = 4 }; /* y, dq, dk, dv */

static const double ROUNDING = 0x1p-8, FLOAT = 1e-5; /* of f32 sums, and of exp */

struct shape {
    int D, H, Hkv, n;
    int64_t len[SEQS];
};

static int64_t tokens(const struct shape *s)
{
    int64_t N = 0;
    for (int i = 0; i < s->n; i++)
        N += s->len[i];
    return N;
}

/* Values of q, k, v, dy; what is expected of y, dq, dk, dv, and how far off they may be. */
struct truth {
    int64_t ldq, ldkv, n[RESULTS];
    uint16_t *in[4];
    float *x[4]; /* the same */
    double *want[RESULTS], *most[RESULTS];
};

static float value(uint16_t h)
{
    float x;
    rows_scalar.widen(1, &h, &x);
    return x;
}

static uint16_t *normal(uint64_t key, float std, int64_t n)
{
    float *x = gradcheck_normal(key, std, n);
    uint16_t *h = malloc((size_t)n * sizeof *h);
    rows_scalar.narrow(n, x, h);
    free(x);
    return h;
}

/* Query i of a head whose first elements are q0 and kv0: adds to want and most. p [2 T]. */
static void truth_row(struct truth *t, int64_t D, int64_t q0, int64_t kv0, int64_t i, double *p)
{
    const float *q = t->x[0] + q0 + i * t->ldq, *dy = t->x[3] + q0 + i * t->ldq;
    const float *k = t->x[1] + kv0, *v = t->x[2] + kv0;
    const double scale = 1 / sqrt((double)D);
    double top = -INFINITY, sum = 0, delta = 0, delta_off = 0;
    for (int64_t j = 0; j <= i; j++) {
        p[j] = 0;
        for (int64_t d = 0; d < D; d++)
            p[j] += scale * q[d] * k[j * t->ldkv + d];
        top = fmax(top, p[j]);
    }
    for (int64_t j = 0; j <= i; j++)
        sum += p[j] = exp(p[j] - top);
    for (int64_t d = 0; d < D; d++) {
        double y = 0, size = 0;
        for (int64_t j = 0; j <= i; j++) {
            const double part = p[j] / sum * v[j * t->ldkv + d];
            y += part;
            size += fabs(part);
        }
        const double most = ROUNDING * (size + fabs(y)) + FLOAT * size;
        t->want[0][q0 + i * t->ldq + d] = y;
        t->most[0][q0 + i * t->ldq + d] = most;
        delta += y * dy[d];
        delta_off += most * fabsf(dy[d]);
    }
    for (int64_t j = 0; j <= i; j++) {
        double dp = 0, size = 0;
        for (int64_t d = 0; d < D; d++) {
            const double part = (double)dy[d] * v[j * t->ldkv + d];
            dp += part;
            size += fabs(part);
        }
        const double pj = p[j] / sum, ds = pj * (dp - delta) * scale;
        const double off = ROUNDING * fabs(ds) + scale * pj * (delta_off + FLOAT * size);
        for (int64_t d = 0; d < D; d++) {
            const int64_t at = q0 + i * t->ldq + d, to = kv0 + j * t->ldkv + d;
            t->want[1][at] += ds * k[j * t->ldkv + d];
            t->most[1][at] += off * fabsf(k[j * t->ldkv + d]);
            t->want[2][to] += ds * q[d];
            t->most[2][to] += off * fabsf(q[d]);
            t->want[3][to] += pj * dy[d];
            t->most[3][to] += (ROUNDING + FLOAT) * pj * fabsf(dy[d]);
        }
    }
}

static void truth_init(struct truth *t, const struct shape *s, float sharp)
{
    const int64_t N = tokens(s), D = s->D;
    t->ldq = s->H * D;
    t->ldkv = s->Hkv * D;
    for (int i = 0; i < RESULTS; i++) {
        t->n[i] = N * (i < 2 ? t->ldq : t->ldkv);
        t->want[i] = calloc((size_t)t->n[i], sizeof(double));
        t->most[i] = calloc((size_t)t->n[i], sizeof(double));
        const int64_t n = N * (i % 3 ? t->ldkv : t->ldq);
        t->in[i] = normal((uint64_t)i + 1, i ? 1 : sharp, n);
        t->x[i] = malloc((size_t)n * sizeof(float));
        rows_scalar.widen(n, t->in[i], t->x[i]);
    }
    double *p = malloc((size_t)N * sizeof *p);
    int64_t at = 0;
    for (int i = 0; i < s->n; at += s->len[i++])
        for (int64_t h = 0; h < s->H; h++)
            for (int64_t k = 0; k < s->len[i]; k++)
                truth_row(t, D, at * t->ldq + h * D, at * t->ldkv + h / (s->H / s->Hkv) * D, k, p);
    free(p);
}

static void truth_free(struct truth *t)
{
    for (int i = 0; i < RESULTS; i++)
        free(t->want[i]), free(t->most[i]), free(t->in[i]), free(t->x[i]);
}

/* What one forward and backward made. */
struct made {
    uint16_t *x[RESULTS];
};

/* old: what the gradients hold beforehand, or NULL; frozen: bit i, q, k or v needs no gradient. */
static size_t run(const struct shape *s, const struct truth *t, size_t arena, const uint16_t *old,
                  int frozen, struct made *m)
{
    const int64_t N = tokens(s);
    struct attention_seq seqs[SEQS] = {0};
    struct tensor in[3];
    struct ctx ctx;
    int64_t at = 0;
    for (int i = 0; i < s->n; at += s->len[i++])
        seqs[i] = (struct attention_seq){.start = at, .len = s->len[i]};
    for (int i = 0; i < 3; i++)
        in[i] = (struct tensor){&dtype_bf16, 2,    {N, i ? t->ldkv : t->ldq},
                                t->in[i],    NULL, !(frozen >> i & 1)};
    assert_int_equal(ctx_init(&ctx, arena), 0);
    ctx.recording = true;
    struct tensor *y = op_attention(&ctx, &in[0], &in[1], &in[2], s->D, seqs, s->n);
    assert_non_null(y);
    assert_ptr_equal(y->dt, &dtype_bf16);
    y->grad = t->in[3];
    for (int i = 0; i < 3 && old; i++) {
        bool fresh;
        void *g = ctx_grad(&ctx, &in[i], &fresh);
        if (g)
            memcpy(g, old, tensor_bytes(&in[i]));
    }
    tape_backward(&ctx, NULL);
    assert_false(ctx.failed);
    const void *from[RESULTS] = {y->data, in[0].grad, in[1].grad, in[2].grad};
    for (int i = 0; i < RESULTS && m; i++) {
        assert_true((from[i] == NULL) == (i > 0 && frozen >> (i - 1) & 1));
        m->x[i] = from[i] ? malloc((size_t)t->n[i] * sizeof *m->x[i]) : NULL;
        if (from[i])
            memcpy(m->x[i], from[i], (size_t)t->n[i] * sizeof *m->x[i]);
    }
    const size_t peak = ctx.arena.peak;
    ctx_free(&ctx);
    return peak;
}

static void made_free(struct made *m)
{
    for (int i = 0; i < RESULTS; i++)
        free(m->x[i]);
}

static const char *const names[RESULTS] = {"y", "dq", "dk", "dv"};

static void holds(const struct shape *s, const struct truth *t, const struct made *m,
                  const uint16_t *old)
{
    for (int r = 0; r < RESULTS; r++)
        for (int64_t i = 0; m->x[r] && i < t->n[r]; i++) {
            const double before = old && r ? value(old[i]) : 0, want = before + t->want[r][i];
            // y's own rounding is in its bound, for delta's sake
            const double most = t->most[r][i] + (r ? ROUNDING * fabs(want) : 0) + 1e-6;
            if (!(fabs(value(m->x[r][i]) - want) <= 1.02 * most))
                fail_msg("D %d, H %d, Hkv %d, %d sequences: %s[%d] is %g instead of %g +- %g", s->D,
                         s->H, s->Hkv, s->n, names[r], (int)i, value(m->x[r][i]), want, most);
        }
}

static void same(const struct truth *t, const struct made *a, const struct made *b)
{
    for (int r = 0; r < RESULTS; r++)
        if (a->x[r] && b->x[r])
            assert_memory_equal(a->x[r], b->x[r], (size_t)t->n[r] * sizeof *a->x[r]);
}

/* Values, in exactly the memory that was foretold; the same bits from any number of threads, and
   whichever gradients are wanted; sums with what gradients held. */
static void check(const struct shape *s, float sharp)
{
    struct truth t;
    struct made one, more;
    truth_init(&t, s, sharp);
    const int threads = omp_get_max_threads();
    for (int n = 1; n <= 3; n++) {
        omp_set_num_threads(n);
        const size_t peak = run(s, &t, 0, NULL, 0, NULL);
        assert_int_equal(run(s, &t, peak, NULL, 0, n == 1 ? &one : &more), peak);
        if (n == 1) {
            holds(s, &t, &one, NULL);
            continue;
        }
        same(&t, &one, &more);
        made_free(&more);
    }
    for (int frozen = 1; frozen < 7; frozen++) {
        run(s, &t, 256 << 20, NULL, frozen, &more);
        same(&t, &one, &more);
        made_free(&more);
    }
    uint16_t *old = normal(9, 1, t.n[1]);
    run(s, &t, 256 << 20, old, 0, &more);
    holds(s, &t, &more, old);
    free(old);
    omp_set_num_threads(threads);
    made_free(&one), made_free(&more), truth_free(&t);
}

static void shapes(void **state)
{
    (void)state;
    static const struct shape all[] = {
        {64, 1, 1, 1, {1}},
        {64, 2, 2, 1, {2}},
        {32, 4, 2, 4, {31, 1, 65, 33}},
        {64, 4, 4, 2, {256, 64}},
        {80, 2, 1, 2, {70, 257}},
        {128, 2, 2, 1, {320}},
        {64, 2, 1, 2, {640, 3}},                                  // in parts
        {16, 2, 2, 9, {300, 255, 280, 257, 256, 1, 270, 2, 513}}, // as wholes
        {12, 6, 2, 2, {40, 30}},
        {5, 2, 2, 2, {35, 2}},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        check(&all[i], 1);
    check(&all[4], 8);
}

/* The paths that `shapes` means to take. */
static void parts(void **state)
{
    (void)state;
    struct attention_seq seqs[9];
    struct attention a = {.H = 2, .Hkv = 2, .n_seqs = 4, .seqs = seqs};
    for (int i = 0; i < 9; i++)
        seqs[i] = (struct attention_seq){.len = 300};
    assert_false(attention_bf16_splits(&a, false));
    a.n_seqs = 3;
    assert_true(attention_bf16_splits(&a, false));
    assert_false(attention_bf16_splits(&a, true));
    a.n_seqs = 9;
    seqs[4].len = 900;
    assert_true(attention_bf16_splits(&a, false));
}

/* Every kernel that this machine has. */
static void levels(void **state)
{
    (void)state;
    const enum cpu_level level = cpu_level();
    for (int l = CPU_SCALAR; l <= (int)level; l++) {
        cpu_set_level((enum cpu_level)l);
        gemm_bf16_choose();
        rows_init();
        check(&(struct shape){40, 2, 1, 2, {70, 257}}, 1);
    }
    cpu_set_level(level);
    gemm_bf16_choose();
    rows_init();
}

/* One tensor as q, k and v: its gradient is the sum of all three. */
static void itself(void **state)
{
    (void)state;
    enum { T = 300, D = 32 };
    const struct shape s = {D, 1, 1, 1, {T}};
    struct truth t;
    truth_init(&t, &s, 1);
    for (int i = 0; i < RESULTS; i++)
        memset(t.want[i], 0, (size_t)t.n[i] * 8), memset(t.most[i], 0, (size_t)t.n[i] * 8);
    for (int i = 1; i < 3; i++) {
        memcpy(t.in[i], t.in[0], T * D * sizeof *t.in[0]);
        memcpy(t.x[i], t.x[0], T * D * sizeof *t.x[0]);
    }
    double p[T];
    for (int64_t i = 0; i < T; i++)
        truth_row(&t, D, 0, 0, i, p);
    struct tensor x = {&dtype_bf16, 2, {T, D}, t.in[0], NULL, true};
    struct ctx ctx;
    assert_int_equal(ctx_init(&ctx, 64 << 20), 0);
    ctx.recording = true;
    const struct attention_seq seq = {.len = T};
    struct tensor *y = op_attention(&ctx, &x, &x, &x, D, &seq, 1);
    assert_non_null(y);
    y->grad = t.in[3];
    tape_backward(&ctx, NULL);
    for (int64_t i = 0; i < T * D; i++) {
        const double q = t.want[1][i], k = t.want[2][i], v = t.want[3][i];
        const double most = t.most[1][i] + t.most[2][i] + t.most[3][i];
        const double sums = fabs(q) + fabs(q + k) + fabs(q + k + v); // rounded three times
        assert_true(fabs(value(((const uint16_t *)x.grad)[i]) - (q + k + v)) <=
                    1.02 * (most + ROUNDING * sums) + 1e-6);
    }
    ctx_free(&ctx);
    truth_free(&t);
}

static void misuse(void **state)
{
    (void)state;
    uint16_t x[8] = {0};
    float values[8] = {0};
    const struct attention_cache cache = {.type = KVBLOCK_F32};
    const int32_t block = 0;
    struct tensor h = {&dtype_bf16, 2, {2, 4}, x, NULL, false}, f = h;
    f.dt = &dtype_f32;
    f.data = values;
    const struct attention_seq plain = {.len = 2},
                               cached = {.len = 2, .cache = &cache, .block = &block, .kv_len = 2};
    const struct {
        struct tensor *q, *k, *v;
        const struct attention_seq *seq;
    } cases[] = {{&h, &f, &f, &plain},
                 {&f, &h, &h, &plain},
                 {&h, &h, &f, &plain},
                 {&h, &f, &h, &plain},
                 {&h, &h, &h, &cached}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ctx ctx;
        assert_int_equal(ctx_init(&ctx, 1 << 20), 0);
        assert_null(op_attention(&ctx, cases[i].q, cases[i].k, cases[i].v, 4, cases[i].seq, 1));
        assert_non_null(strstr(ctx.text, "queries in"));
        ctx_free(&ctx);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes), cmocka_unit_test(parts),  cmocka_unit_test(levels),
        cmocka_unit_test(itself), cmocka_unit_test(misuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
