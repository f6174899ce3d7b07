#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/autograd.h"
#include "autograd/base/mem.h"
#include "autograd/kernels/gemm_bf16.h"
#include "tests/autograd/small_store.h"

static void slabs(void **state)
{
    struct store s;
    (void)state;
    small_store(&s, STORE_TRAINED);
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
    small_store(&s, STORE_FROZEN);
    assert_non_null(s.latent);
    assert_null(s.grad);
    for (int i = 0; i < s.n; i++)
        assert_true(!s.p[i].used.needs_grad && !s.p[i].used.grad && !s.p[i].latent_grad);
    store_free(&s);
    small_store(&s, STORE_SHAPES);
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
        small_store_add(&s, "a", 1, 5, 1);
    }
    store_free(&s);
}

/* Values depend on the seed and the name alone, not on what else there is. */
static void initial_values(void **state)
{
    struct store a, b = {0};
    (void)state;
    small_store(&a, STORE_TRAINED);
    small_store_add(&b, "first", 9, 9, 1);
    small_store_add(&b, "other", 2, 16, 2);
    small_store_add(&b, "matrix", 5, 7, 0.5f);
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
    small_store(&s, STORE_TRAINED);
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
    small_store(&s, STORE_TRAINED);
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
    small_store(&s, STORE_MAPPED);
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
        small_store_add(&s[k], "matrix", O, I, 0.5f);
        small_store_add(&s[k], "gain", 0, 9, 0);
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
        cmocka_unit_test(parameters_lie_in_a_file),
        cmocka_unit_test(halves_have_panels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
