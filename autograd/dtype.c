#include "autograd/autograd.h"

#include <string.h>

#include "autograd/kernels/rows.h"

/* ---- f16 <-> f32: round to nearest, ties to even; exact the other way ---- */

static uint32_t bits_of(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static float float_of(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static uint16_t f16_of(float x)
{
    const uint32_t u = bits_of(x), sign = u >> 16 & 0x8000, mag = u & 0x7fffffff;
    if (mag > 0x7f800000)
        return (uint16_t)(sign | 0x7e00 | (mag >> 13 & 0x3ff));
    if (mag >= 0x477ff000) // 65520 and above round to infinity
        return (uint16_t)(sign | 0x7c00);
    if (mag < 0x38800000) // subnormal: adding 0.5 aligns the units in the last place
        return (uint16_t)(sign | (bits_of(float_of(mag) + 0.5f) - 0x3f000000));
    return (uint16_t)(sign | (((mag + 0xfff + (mag >> 13 & 1)) >> 13) - 0x1c000));
}

static float f32_of_f16(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, mag = h & 0x7fff;
    if (mag >= 0x7c00)
        return float_of(sign | 0x7f800000 | (mag & 0x3ff) << 13);
    if (mag < 0x400)
        return float_of(sign | bits_of((float)mag * 0x1p-24f));
    return float_of(sign | ((mag << 13) + 0x38000000));
}

static void *row_of(const struct tensor *t, int64_t row)
{
    return (char *)t->data + (size_t)row * tensor_row_bytes(t);
}

static void f32_decode(const struct tensor *t, int64_t row, float *x)
{
    memcpy(x, row_of(t, row), tensor_row_bytes(t));
}

static void f32_encode(struct tensor *t, int64_t row, const float *x)
{
    memcpy(row_of(t, row), x, tensor_row_bytes(t));
}

static void f16_decode(const struct tensor *t, int64_t row, float *x)
{
    const uint16_t *h = row_of(t, row);
    for (int64_t i = 0, n = tensor_cols(t); i < n; i++)
        x[i] = f32_of_f16(h[i]);
}

static void f16_encode(struct tensor *t, int64_t row, const float *x)
{
    uint16_t *h = row_of(t, row);
    for (int64_t i = 0, n = tensor_cols(t); i < n; i++)
        h[i] = f16_of(x[i]);
}

static void bf16_decode(const struct tensor *t, int64_t row, float *x)
{
    rows->widen(tensor_cols(t), row_of(t, row), x);
}

static void bf16_encode(struct tensor *t, int64_t row, const float *x)
{
    rows->narrow(tensor_cols(t), x, row_of(t, row));
}

const struct dtype dtype_f32 = {"f32", 0, 1, 4, f32_decode, f32_encode};
const struct dtype dtype_f16 = {"f16", 1, 1, 2, f16_decode, f16_encode};
const struct dtype dtype_bf16 = {"bf16", 30, 1, 2, bf16_decode, bf16_encode};
const struct dtype dtype_i32 = {"i32", 26, 1, 4, NULL, NULL};

const struct dtype *dtype_find(const char *name)
{
    static const struct dtype *const all[] = {&dtype_f32, &dtype_f16, &dtype_bf16, &dtype_i32};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (!strcmp(all[i]->name, name))
            return all[i];
    return NULL;
}
