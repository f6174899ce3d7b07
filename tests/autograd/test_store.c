#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/autograd.h"
#include "autograd/base/mem.h"
#include "autograd/kernels/gemm_bf16.h"

static void add(struct store *s, const char *name, int64_t rows, int64_t cols, float std)
{
    const int64_t dim[] = {rows ? rows : cols, cols};
    assert_int_equal(store_add(s, name, rows ? 2 : 1, dim, std), 0);
}

static void three(struct store *s, enum store_use use)
{
    *s = (struct store){0};
    add(s, "matrix", 5, 7, 0.5f);
    add(s, "gain", 0, 3, 0);
    add(s, "other", 2, 16, 2);
    assert_int_equal(store_alloc(s, use), 0);
}

static void slabs(void **state)
{
    struct store s;
    (void)state;
    three(&s, STORE_TRAINED);
    assert_int_equal(s.len, 48 + 16 + 32);
    assert_int_equal(store_numel(&s), 35 + 3 + 32);
    assert_ptr_equal(s.p[0].latent, s.latent);
    assert_ptr_equal(s.p[1].latent, s.latent + 48);
    assert_ptr_equal(s.p[2].latent, s.latent + 64);
    for (int i = 0; i < s.n; i++) {
        const struct param *p = &s.p[i];
        assert_int_equal((uintptr_t)p->latent % 64, 0);
        assert_ptr_equal(p->latent_grad, s.grad + (p->latent - s.latent));
        assert_true(p->used.data == p->latent && p->used.grad == p->latent_grad);
        assert_true(p->used.needs_grad && !p->chain);
        assert_int_equal(p->decay, i != 1);
        assert_ptr_equal(store_find(&s, p->name), p);
    }
    assert_null(store_find(&s, "matri"));
    for (size_t i = 0; i < s.len; i++) {
        assert_true(s.latent[i] == 0 && s.grad[i] == 0);
        s.grad[i] = 1;
    }
    store_zero_grad(&s);
    store_pullback(&s); // nothing was added
    for (int i = 0; i < s.n; i++)
        for (int64_t j = 0; j < tensor_numel(&s.p[i].used); j++)
            assert_true(s.p[i].latent_grad[j] == 0);
    store_free(&s);
    assert_true(!s.p && !s.latent && !s.n);
    store_free(&s); // nothing is left to free
}

static void uses(void **state)
{
    struct store s;
    (void)state;
    three(&s, STORE_FROZEN);
    assert_non_null(s.latent);
    assert_null(s.grad);
    for (int i = 0; i < s.n; i++)
        assert_true(!s.p[i].used.needs_grad && !s.p[i].used.grad && !s.p[i].latent_grad);
    store_free(&s);
    three(&s, STORE_SHAPES);
    assert_true(!s.latent && !s.grad);
    for (int i = 0; i < s.n; i++)
        assert_true(s.p[i].used.needs_grad && s.p[i].used.grad);
    store_free(&s);
}

static void mistakes(void **state)
{
    struct store s = {0};
    char name[PARAM_NAME + 1];
    (void)state;
    memset(name, 'x', sizeof name);
    name[PARAM_NAME] = 0;
    assert_int_equal(store_add(&s, name, 1, (int64_t[]){3}, 1), -1);
    assert_non_null(strstr(err_text(), "longer than 63"));
    name[PARAM_NAME - 1] = 0;
    assert_int_equal(store_add(&s, name, 1, (int64_t[]){3}, 1), 0);
    assert_int_equal(store_add(&s, name, 1, (int64_t[]){3}, 1), -1);
    assert_non_null(strstr(err_text(), "twice"));
    static const int64_t bad[][2] = {{0, 3},
                                     {3, -1},
                                     {(int64_t)1 << 40, (int64_t)1 << 40},
                                     {(int64_t)1 << 30, 1 << 30}};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(store_add(&s, "bad", 2, bad[i], 1), -1);
        assert_non_null(strstr(err_text(), "bad"));
    }
    mem_fail_at(1);
    struct store t = {0};
    assert_int_equal(store_add(&t, "a", 1, (int64_t[]){3}, 1), -1);
    mem_fail_at(0);
    assert_int_equal(s.n, 1);
    for (int k = 1; k <= 2; k++) {
        mem_fail_at(k);
        assert_int_equal(store_alloc(&s, STORE_TRAINED), -1);
        assert_non_null(strstr(err_text(), "parameters"));
        store_free(&s);
        add(&s, "a", 1, 5, 1);
    }
    store_free(&s);
}

/* Values depend on the seed and the name alone, not on what else there is. */
static void initial_values(void **state)
{
    struct store a, b = {0};
    (void)state;
    three(&a, STORE_TRAINED);
    add(&b, "first", 9, 9, 1);
    add(&b, "other", 2, 16, 2);
    add(&b, "matrix", 5, 7, 0.5f);
    assert_int_equal(store_alloc(&b, STORE_FROZEN), 0);
    store_init(&a, 7);
    store_init(&b, 7);
    assert_memory_equal(store_find(&a, "matrix")->latent, store_find(&b, "matrix")->latent, 35 * 4);
    assert_memory_equal(store_find(&a, "other")->latent, store_find(&b, "other")->latent, 32 * 4);
    assert_memory_not_equal(store_find(&b, "first")->latent, store_find(&b, "other")->latent,
                            32 * 4);
    for (int i = 0; i < 3; i++)
        assert_true(store_find(&a, "gain")->latent[i] == 1);
    store_init(&b, 8);
    assert_memory_not_equal(store_find(&a, "other")->latent, store_find(&b, "other")->latent,
                            32 * 4);
    for (size_t i = 35; i < 48; i++)
        assert_true(a.latent[i] == 0); // between parameters
    store_free(&a);
    store_free(&b);
}

static void optimizer_states(void **state)
{
    struct store s;
    (void)state;
    three(&s, STORE_TRAINED);
    float *m = store_state(&s, "adam.m");
    for (size_t i = 0; i < s.len; i++)
        assert_true(m[i] == 0);
    m[3] = 5;
    mem_fail_at(1);
    assert_null(store_state(&s, "adam.v"));
    assert_non_null(strstr(err_text(), "adam.v"));
    mem_fail_at(0);
    assert_int_equal(s.n_states, 1);
    assert_ptr_not_equal(store_state(&s, "adam.v"), m);
    assert_ptr_equal(store_state(&s, "adam.m"), m);
    assert_true(m[3] == 5 && s.n_states == 2);
    store_free(&s);
}

static void optimizer_scratch(void **state)
{
    struct store s;
    (void)state;
    three(&s, STORE_TRAINED);
    mem_fail_at(1);
    assert_int_equal(store_scratch(&s, 100), -1);
    mem_fail_at(0);
    assert_int_equal(store_scratch(&s, 100), 0);
    const float *first = s.scratch;
    s.scratch[99] = 3;
    assert_int_equal(store_scratch(&s, 100), 0);
    assert_int_equal(store_scratch(&s, 0), 0);
    assert_true(s.scratch == first && s.scratch[99] == 3 && s.n_scratch == 100);
    assert_int_equal(store_scratch(&s, 5000), 0);
    s.scratch[4999] = 1;
    assert_int_equal(s.n_states, 0); // it is not saved
    store_free(&s);
}

/* ---- chains: a mask, a square, a factor that has a gradient of its own ---- */

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
    three(&s, STORE_TRAINED);
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
    add(&s, "tall", ROWS, COLS, 1);
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
    add(&s, "small", 1, COLS, 1); // behind it is room for a line
    for (int i = 0; i < 2; i++) {
        add(&s, i ? "looked.up" : "multiplied", ROWS, COLS, 1);
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
    store_init(&s, 5); // projects
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
    three(&s, STORE_TRAINED);
    mem_fail_at(1);
    assert_int_equal(param_chain(&s.p[0], r), -1);
    mem_fail_at(0);
    assert_true(s.p[0].used.data == s.p[0].latent && !s.p[0].chain);
    assert_non_null(strstr(err_text(), "matrix"));
    free(r); // still the caller's
    store_free(&s);
}

static int closed;

static void close_it(void *file)
{
    assert_string_equal(file, "the file");
    closed++;
}

static void parameters_lie_in_a_file(void **state)
{
    (void)state;
    static float matrix[35] = {1, 2, 3};
    static uint16_t half[64] = {0x3c00, 0x4000, 0xc200}; // 1, 2, -3
    static char name[] = "the file";
    struct store s;
    three(&s, STORE_MAPPED);
    assert_null(s.latent);
    for (int i = 0; i < s.n; i++)
        assert_true(!s.p[i].used.needs_grad && !s.p[i].used.grad && !s.p[i].latent);
    s.file = name;
    s.close = close_it;
    struct param *vector = NULL;
    for (int i = 0; i < s.n; i++) {
        if (s.p[i].used.nd > 1)
            assert_int_equal(store_map(&s.p[i], &dtype_f32, matrix), 0);
        else
            vector = &s.p[i];
    }
    assert_ptr_equal(s.p[0].used.data, matrix);
    mem_fail_at(1);
    assert_int_equal(store_map(vector, &dtype_f16, half), -1);
    mem_fail_at(0);
    assert_int_equal(store_map(vector, &dtype_f16, half), 0);
    const float *x = vector->used.data;
    assert_ptr_equal(vector->used.dt, &dtype_f32);
    assert_true(x[0] == 1 && x[1] == 2 && x[2] == -3);
    // a copy does without the file
    mem_fail_at(1);
    assert_int_equal(store_copy(&s), -1);
    mem_fail_at(0);
    assert_ptr_equal(s.p[0].used.data, matrix);
    assert_int_equal(store_copy(&s), 0);
    assert_int_equal(closed, 1);
    memset(matrix, 0xff, sizeof matrix);
    for (int i = 0; i < s.n; i++) {
        const float *y = s.p[i].used.data;
        if (&s.p[i] != vector)
            assert_true(y[0] == 1 && y[1] == 2 && y[2] == 3 && y[3] == 0);
    }
    assert_ptr_equal(vector->used.data, x);
    assert_int_equal(store_copy(&s), 0); // nothing is left to copy
    store_free(&s);
    assert_int_equal(closed, 1);
}

/* A frozen matrix in halves has the panels that its values in f32 have; latents are let go. */
static void halves_have_panels(void **state)
{
    enum { O = 3 * PANEL + 5, I = 40 };
    static uint16_t half[O * I];
    struct store s[2];
    size_t bytes = 0;
    (void)state;
    for (int k = 0; k < 2; k++) {
        s[k] = (struct store){0};
        add(&s[k], "matrix", O, I, 0.5f);
        add(&s[k], "gain", 0, 9, 0);
        assert_int_equal(store_alloc(&s[k], STORE_FROZEN), 0);
        for (int i = 0; i < O * I; i++)
            s[k].p[0].latent[i] = (float)((i * 37) % 201 - 100) / 64;
        for (int i = 0; i < 9; i++)
            s[k].p[1].latent[i] = (float)i;
    }
    struct tensor t = {.dt = &dtype_f16, .nd = 2, .dim = {O, I}, .data = half};
    for (int r = 0; r < O; r++)
        dtype_f16.encode(&t, r, s[0].latent + r * I, NULL);
    assert_int_equal(store_map(&s[1].p[0], &dtype_f16, half), 0);
    mem_fail_at(1);
    assert_int_equal(store_let_go(&s[1]), -1);
    mem_fail_at(0);
    assert_int_equal(store_let_go(&s[1]), 0);
    assert_null(s[1].latent);
    assert_ptr_equal(s[1].p[0].used.data, half);
    const float *gain = s[1].p[1].used.data;
    for (int i = 0; i < 9; i++)
        assert_true(gain[i] == (float)i);
    for (int k = 0; k < 2; k++) {
        assert_int_equal(store_panels(&s[k]), 0);
        store_project(&s[k]);
        bytes = store_panels_bytes(&s[k]);
    }
    assert_memory_equal(s[0].packed, s[1].packed, bytes);
    store_free(&s[0]);
    store_free(&s[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slabs),
        cmocka_unit_test(uses),
        cmocka_unit_test(mistakes),
        cmocka_unit_test(initial_values),
        cmocka_unit_test(optimizer_states),
        cmocka_unit_test(optimizer_scratch),
        cmocka_unit_test(chains),
        cmocka_unit_test(rows_of_a_chain),
        cmocka_unit_test(a_value_is_used),
        cmocka_unit_test(chain_without_memory),
        cmocka_unit_test(parameters_lie_in_a_file),
        cmocka_unit_test(halves_have_panels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
