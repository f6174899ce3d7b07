/* Chains between latent and used: a mask, a square, a factor that has a gradient of its own, a link
   that keeps its result. */
#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/mem.h"
#include "autograd/kernels/gemm_bf16.h"
#include "tests/autograd/small_store.h"

struct factor {
    float value, grad;
};

static int freed;

static void mask_project(const struct reparam *r, int64_t row, int64_t n, const float *x, float *y)
{
    for (int64_t i = 0; i < n * r->cols; i++)
        y[i] = (row * r->cols + i) % 3 == 1 ? 0 : x[i];
}

static void mask_pullback(const struct reparam *r, int64_t row, int64_t n, const float *x, float *g)
{
    (void)x;
    for (int64_t i = 0; i < n * r->cols; i++)
        if ((row * r->cols + i) % 3 == 1)
            g[i] = 0;
}

static void square_project(const struct reparam *r, int64_t row, int64_t n, const float *x,
                           float *y)
{
    (void)row;
    for (int64_t i = 0; i < n * r->cols; i++)
        y[i] = x[i] * x[i] + x[i];
}

static void square_pullback(const struct reparam *r, int64_t row, int64_t n, const float *x,
                            float *g)
{
    (void)row;
    for (int64_t i = 0; i < n * r->cols; i++)
        g[i] *= 2 * x[i] + 1;
}

static void factor_project(const struct reparam *r, int64_t row, int64_t n, const float *x,
                           float *y)
{
    const struct factor *f = r->state;
    (void)row;
    for (int64_t i = 0; i < n * r->cols; i++)
        y[i] = f->value * x[i];
}

static void factor_pullback(const struct reparam *r, int64_t row, int64_t n, const float *x,
                            float *g)
{
    struct factor *f = r->state;
    (void)row;
    for (int64_t i = 0; i < n * r->cols; i++) {
        f->grad += g[i] * x[i];
        g[i] *= f->value;
    }
}

static void count(struct reparam *r)
{
    (void)r;
    freed++;
}

static const struct reparam_op mask = {"mask", mask_project, mask_pullback, count};
static const struct reparam_op square = {"square", square_project, square_pullback, NULL};
static const struct reparam_op factor = {"factor", factor_project, factor_pullback, count};

static void put(struct param *p, const struct reparam_op *op, void *own)
{
    struct reparam *r = mem_new(1, sizeof *r);
    *r = (struct reparam){.op = op, .state = own};
    assert_int_equal(param_chain(p, r), 0);
}

/* sum of w * used, w = 1, 2, 3, ... */
static double objective(struct store *s)
{
    double sum = 0;
    store_project(s);
    for (int i = 0; i < s->n; i++)
        for (int64_t j = 0; j < tensor_numel(&s->p[i].used); j++)
            sum += (double)(j + 1) * ((const float *)s->p[i].used.data)[j];
    return sum;
}

static double slope(struct store *s, float *x)
{
    const float old = *x, h = 1.0f / 64;
    *x = old + h;
    const double up = objective(s);
    *x = old - h;
    const double down = objective(s);
    *x = old;
    return (up - down) / (2 * h);
}

/* Latents pass links in order; gradients come back in the other, each with its own input. */
static void chains(void **state)
{
    struct store s;
    struct factor first = {1.5f, 0}, last = {-0.5f, 0};
    (void)state;
    freed = 0;
    small_store(&s, STORE_TRAINED);
    store_init(&s, 3);
    struct param *p = &s.p[0];
    put(p, &factor, &first);
    assert_ptr_not_equal(p->used.data, p->latent);
    put(p, &square, NULL);
    put(p, &mask, NULL);
    put(p, &factor, &last);
    assert_int_equal((uintptr_t)p->used.data % 64, 0);
    store_project(&s);
    for (int i = 0; i < 35; i++) {
        const float x = 1.5f * p->latent[i], y = i % 3 == 1 ? 0 : -0.5f * (x * x + x);
        assert_true(fabsf(((float *)p->used.data)[i] - y) < 1e-6f);
    }
    for (int i = 0; i < s.n; i++)
        for (int64_t j = 0; j < tensor_numel(&s.p[i].used); j++)
            ((float *)s.p[i].used.grad)[j] = (float)(j + 1);
    store_pullback(&s);
    for (int i = 0; i < s.n; i++)
        for (int64_t j = 0; j < tensor_numel(&s.p[i].used); j++) {
            const double d = slope(&s, &s.p[i].latent[j]);
            assert_true(fabs(s.p[i].latent_grad[j] - d) < 1e-4 * (1 + fabs(d)));
        }
    assert_true(fabs(first.grad - slope(&s, &first.value)) < 1e-3 * fabs((double)first.grad));
    assert_true(fabs(last.grad - slope(&s, &last.value)) < 1e-3 * fabs((double)last.grad));
    assert_true(((float *)s.p[2].used.data) == s.p[2].latent); // the others are as they were
    store_init(&s, 3);                                         // projects
    assert_true(((float *)p->used.data)[1] == 0 && ((float *)p->used.data)[0] != 0);
    store_free(&s);
    assert_int_equal(freed, 3);
}

/* More rows than a thread takes at a time: each link sees every row once, with its number. */
static void rows_of_a_chain(void **state)
{
    enum { ROWS = 133, COLS = 6 };
    struct store s = {0};
    (void)state;
    small_store_add(&s, "tall", ROWS, COLS, 1);
    assert_int_equal(store_alloc(&s, STORE_TRAINED), 0);
    store_init(&s, 5);
    struct param *p = &s.p[0];
    put(p, &square, NULL);
    put(p, &mask, NULL);
    assert_int_equal(store_panels(&s), 0);
    store_project(&s);
    for (int64_t i = 0; i < ROWS * COLS; i++) {
        const float x = p->latent[i], y = i % 3 == 1 ? 0 : x * x + x;
        assert_true(((float *)p->used.data)[i] == y);
        ((float *)p->used.grad)[i] = 1;
    }
    uint16_t *want = calloc((size_t)panels_numel(COLS, ROWS), sizeof *want);
    gemm_bf16->pack(true, p->used.data, false, COLS, COLS, ROWS, 0, panel_count(ROWS), want);
    assert_memory_equal(p->panels->forward, want, (size_t)panels_numel(COLS, ROWS) * sizeof *want);
    free(want);
    store_pullback(&s);
    for (int64_t i = 0; i < ROWS * COLS; i++)
        assert_true(p->latent_grad[i] == (i % 3 == 1 ? 0 : 2 * p->latent[i] + 1));
    store_free(&s);
}

static void narrow_project(const struct reparam *r, int64_t row, int64_t n, const float *x,
                           float *y)
{
    struct tensor *t = r->state;
    for (int64_t i = 0; i < n; i++) {
        t->dt->round(t, row + i, x + i * r->cols);
        if (y)
            t->dt->decode(t, row + i, y + i * r->cols);
    }
}

static const struct reparam_op narrow = {"narrow", narrow_project, NULL, NULL};

/* A link that keeps its result: that is `used`, panels are made from it on its way, and what the
   gradients' slab holds between parameters stays 0. A second link makes `used` f32 again. */
static void a_value_is_used(void **state)
{
    enum { ROWS = 67, COLS = 6 };
    uint16_t halves[2][ROWS * COLS];
    struct tensor value[2];
    struct store s = {0};
    (void)state;
    small_store_add(&s, "small", 1, COLS, 1); // behind it is room for a line
    for (int i = 0; i < 2; i++) {
        small_store_add(&s, i ? "looked.up" : "multiplied", ROWS, COLS, 1);
        value[i] =
            (struct tensor){.dt = &dtype_f16, .nd = 2, .dim = {ROWS, COLS}, .data = halves[i]};
    }
    s.p[2].product = false;
    assert_int_equal(store_alloc(&s, STORE_TRAINED), 0);
    assert_int_equal(store_panels(&s), 0);
    struct param *p = &s.p[1];
    for (int i = 0; i < 2; i++) {
        struct reparam *r = mem_new(1, sizeof *r);
        *r = (struct reparam){.op = &narrow, .state = &value[i], .value = &value[i]};
        assert_int_equal(param_chain(&p[i], r), 0);
        assert_ptr_equal(p[i].used.data, halves[i]);
        assert_ptr_equal(p[i].used.dt, &dtype_f16);
        assert_int_equal(tensor_grad_bytes(&p[i].used), ROWS * COLS * sizeof(float));
    }
    const int threads = omp_get_max_threads();
    omp_set_num_threads(1); // whose rows pass through the slab's first lines
    store_init(&s, 5);      // projects
    omp_set_num_threads(threads);
    float *y = calloc(ROWS * COLS, sizeof *y), own;
    for (int i = 0; i < 2; i++)
        for (int64_t k = 0; k < ROWS * COLS; k++) {
            const struct tensor one = {.dt = &dtype_f16,
                                       .nd = 1,
                                       .dim = {1},
                                       .data = halves[i] + k};
            dtype_f16.decode(&one, 0, &own);
            assert_true(fabsf(own - p[i].latent[k]) <= 0x1p-11f * fabsf(own));
            y[k] = i ? y[k] : own;
        }
    uint16_t *want = calloc((size_t)panels_numel(COLS, ROWS), sizeof *want);
    gemm_bf16->pack(true, y, false, COLS, COLS, ROWS, 0, panel_count(ROWS), want);
    assert_memory_equal(p[0].panels->forward, want,
                        (size_t)panels_numel(COLS, ROWS) * sizeof *want);
    for (const float *g = s.p[0].latent_grad + COLS; g < p[0].latent_grad; g++)
        assert_true(fabsf(*g) <= 0);
    put(&p[0], &square, NULL);
    store_project(&s);
    assert_ptr_equal(p[0].used.dt, &dtype_f32);
    for (int64_t k = 0; k < ROWS * COLS; k++)
        assert_true(((float *)p[0].used.data)[k] == y[k] * y[k] + y[k]);
    free(want);
    free(y);
    store_free(&s);
}

static void chain_without_memory(void **state)
{
    struct store s;
    struct reparam *r = mem_new(1, sizeof *r);
    (void)state;
    r->op = &mask;
    small_store(&s, STORE_TRAINED);
    mem_fail_at(1);
    assert_int_equal(param_chain(&s.p[0], r), -1);
    mem_fail_at(0);
    assert_true(s.p[0].used.data == s.p[0].latent && !s.p[0].chain);
    assert_non_null(strstr(err_text(), "matrix"));
    free(r); // still the caller's
    store_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chains),
        cmocka_unit_test(rows_of_a_chain),
        cmocka_unit_test(a_value_is_used),
        cmocka_unit_test(chain_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
