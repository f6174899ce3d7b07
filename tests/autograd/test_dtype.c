/* All 65,536 values of the two short types both ways, against their definition; the points half way
   between neighbours, and their neighbours. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/autograd.h"

struct format {
    const struct dtype *dt;
    int exponent, mantissa; /* bits */
};
static const struct format f16 = {&dtype_f16, 5, 10}, bf16 = {&dtype_bf16, 8, 7};

static float decode(const struct format *f, uint16_t bits)
{
    const struct tensor t = {.dt = f->dt, .nd = 1, .dim = {1}, .data = &bits};
    float x;
    f->dt->decode(&t, 0, &x);
    return x;
}

static uint16_t encode(const struct format *f, float x)
{
    uint16_t bits = 0;
    struct tensor t = {.dt = f->dt, .nd = 1, .dim = {1}, .data = &bits};
    f->dt->encode(&t, 0, &x, NULL);
    return bits;
}

static double meaning(const struct format *f, int bits)
{
    const int m = bits & ((1 << f->mantissa) - 1),
              e = bits >> f->mantissa & ((1 << f->exponent) - 1);
    const int bias = (1 << (f->exponent - 1)) - 1;
    const double sign = bits >> 15 ? -1 : 1;
    if (e == (1 << f->exponent) - 1)
        return m ? NAN : sign * INFINITY;
    if (e == 0)
        return sign * ldexp(m, 1 - bias - f->mantissa);
    return sign * ldexp((1 << f->mantissa) + m, e - bias - f->mantissa);
}

static void all_values(void **state)
{
    const struct format *f = *state;
    for (int bits = 0; bits < 65536; bits++) {
        const double want = meaning(f, bits);
        const float got = decode(f, (uint16_t)bits);
        const uint16_t back = encode(f, got);
        if (isnan(want)) {
            assert_true(isnan(got) && isnan(meaning(f, back)));
            assert_int_equal(back >> 15, bits >> 15);
        } else {
            assert_true(got == want && !signbit(got) == !(bits >> 15));
            assert_int_equal(back, bits);
        }
    }
}

/* Between a value and the next: ties go to the even one, all else to the nearer. Above the largest
   the next is the power of two that would follow, and is infinity. */
static void rounding(void **state)
{
    const struct format *f = *state;
    const int infinity = ((1 << f->exponent) - 1) << f->mantissa;
    for (int bits = 0; bits < infinity; bits++) {
        const double low = meaning(f, bits), below = bits ? meaning(f, bits - 1) : 0;
        const double high = bits + 1 < infinity ? meaning(f, bits + 1) : 2 * low - below;
        const float half = (float)((low + high) / 2);
        const int even = bits & 1 ? bits + 1 : bits;
        assert_true(half == (low + high) / 2);
        for (int sign = 0; sign <= 1; sign++) {
            const float s = sign ? -1 : 1;
            assert_int_equal(encode(f, s * half), sign << 15 | even);
            assert_int_equal(encode(f, s * nextafterf(half, 0)), sign << 15 | bits);
            assert_int_equal(encode(f, s * nextafterf(half, INFINITY)), sign << 15 | (bits + 1));
        }
    }
    assert_int_equal(encode(f, INFINITY), infinity);
    assert_int_equal(encode(f, 3.4e38f), f->exponent == 8 ? encode(f, 3.4e38f) : infinity);
    assert_int_equal(encode(f, 1e-45f), 0);
    assert_int_equal(encode(f, -1e-45f), 0x8000);
}

static void nan_stays_nan(void **state)
{
    const struct format *f = *state;
    for (uint32_t payload = 1; payload < 0x800000; payload = payload * 2 + (payload & 1)) {
        for (uint32_t sign = 0; sign <= 1; sign++) {
            const uint32_t u = sign << 31 | 0x7f800000 | payload;
            float x;
            memcpy(&x, &u, sizeof x);
            assert_true(isnan(meaning(f, encode(f, x))));
        }
    }
}

/* Rows of a matrix, apart from one another. */
static void rows_of_a_matrix(void **state)
{
    static const struct dtype *const all[] = {&dtype_f32, &dtype_f16, &dtype_bf16};
    (void)state;
    for (int k = 0; k < 3; k++) {
        enum { N = 3, C = 5 };
        uint32_t memory[N * C + 1];
        struct tensor t = {.dt = all[k], .nd = 2, .dim = {N, C}, .data = memory};
        memset(memory, 0x5a, sizeof memory);
        float x[C], y[C];
        for (int i = N - 1; i >= 0; i--) {
            for (int j = 0; j < C; j++)
                x[j] = (float)(i * 8 + j);
            t.dt->encode(&t, i, x, NULL);
        }
        for (int i = 0; i < N; i++) {
            t.dt->decode(&t, i, y);
            for (int j = 0; j < C; j++)
                assert_true(y[j] == (float)(i * 8 + j));
        }
        assert_int_equal(((unsigned char *)memory)[N * C * t.dt->bytes], 0x5a);
        assert_int_equal(tensor_bytes(&t), N * C * t.dt->bytes);
        assert_int_equal(tensor_row_bytes(&t), C * t.dt->bytes);
    }
}

static void by_name(void **state)
{
    (void)state;
    assert_ptr_equal(dtype_find("f32"), &dtype_f32);
    assert_ptr_equal(dtype_find("f16"), &dtype_f16);
    assert_ptr_equal(dtype_find("bf16"), &dtype_bf16);
    assert_ptr_equal(dtype_find("i32"), &dtype_i32);
    assert_null(dtype_find("f64"));
    assert_null(dtype_find(""));
    assert_null(dtype_i32.decode);
    // GGUF's numbers: ggml.h
    assert_int_equal(dtype_f32.gguf_id, 0);
    assert_int_equal(dtype_f16.gguf_id, 1);
    assert_int_equal(dtype_i32.gguf_id, 26);
    assert_int_equal(dtype_bf16.gguf_id, 30);
}

static void shapes(void **state)
{
    struct tensor t = {.dt = &dtype_f16, .nd = 4, .dim = {2, 3, 5, 7}};
    (void)state;
    assert_true(tensor_rows(&t) == 30 && tensor_cols(&t) == 7 && tensor_numel(&t) == 210);
    assert_int_equal(tensor_bytes(&t), 420);
    struct tensor u = t;
    assert_true(tensor_same_shape(&t, &u));
    u.nd = 3;
    assert_false(tensor_same_shape(&t, &u));
    u.nd = 4;
    u.dim[0] = 3;
    assert_false(tensor_same_shape(&t, &u));
    const struct tensor v = {.dt = &dtype_f32, .nd = 1, .dim = {9}};
    assert_true(tensor_rows(&v) == 1 && tensor_cols(&v) == 9);
}

int main(void)
{
    void *const a = (void *)(uintptr_t)&f16, *const b = (void *)(uintptr_t)&bf16;
    const struct CMUnitTest tests[] = {
        {"f16: all values", all_values, NULL, NULL, a},
        {"bf16: all values", all_values, NULL, NULL, b},
        {"f16: rounding", rounding, NULL, NULL, a},
        {"bf16: rounding", rounding, NULL, NULL, b},
        {"f16: NaN", nan_stays_nan, NULL, NULL, a},
        {"bf16: NaN", nan_stays_nan, NULL, NULL, b},
        cmocka_unit_test(rows_of_a_matrix),
        cmocka_unit_test(by_name),
        cmocka_unit_test(shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
