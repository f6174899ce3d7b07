#include "autograd/autograd.h"

#include <string.h>

#include "autograd/kernels/halves.h"
#include "autograd/kernels/rows.h"

static void *row_of(const struct tensor *t, int64_t row)
{
    return (char *)t->data + (size_t)row * tensor_row_bytes(t);
}

static void f32_decode(const struct tensor *t, int64_t row, float *x)
{
    memcpy(x, row_of(t, row), tensor_row_bytes(t));
}

static void f32_round(struct tensor *t, int64_t row, const float *x)
{
    memcpy(row_of(t, row), x, tensor_row_bytes(t));
}

static void f32_encode(struct tensor *t, int64_t row, const float *x, const float *importance)
{
    (void)importance; // every element is rounded by itself
    f32_round(t, row, x);
}

static void f16_decode(const struct tensor *t, int64_t row, float *x)
{
    rows->widen_half(tensor_cols(t), row_of(t, row), x);
}

static void f16_round(struct tensor *t, int64_t row, const float *x)
{
    rows->narrow_half(tensor_cols(t), x, row_of(t, row));
}

static void f16_encode(struct tensor *t, int64_t row, const float *x, const float *importance)
{
    (void)importance; // every element is rounded by itself
    f16_round(t, row, x);
}

static void bf16_decode(const struct tensor *t, int64_t row, float *x)
{
    rows->widen(tensor_cols(t), row_of(t, row), x);
}

static void bf16_round(struct tensor *t, int64_t row, const float *x)
{
    rows->narrow(tensor_cols(t), x, row_of(t, row));
}

static void bf16_encode(struct tensor *t, int64_t row, const float *x, const float *importance)
{
    (void)importance; // every element is rounded by itself
    bf16_round(t, row, x);
}

const struct dtype dtype_f32 = {"f32", 0, 1, 4, f32_decode, f32_encode, f32_round, NULL, NULL};
const struct dtype dtype_f16 = {"f16",         1,          1,         2,
                                f16_decode,    f16_encode, f16_round, &act16_dtype,
                                halves_product};
const struct dtype dtype_bf16 = {"bf16",     30,           1,
                                 2,          bf16_decode,  bf16_encode,
                                 bf16_round, &act16_dtype, halves_product};
const struct dtype dtype_i32 = {"i32", 26, 1, 4, NULL, NULL, NULL, NULL, NULL};

const struct dtype *dtype_find(const char *name)
{
    static const struct dtype *const all[] = {&dtype_f32, &dtype_f16, &dtype_bf16, &dtype_i32};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (!strcmp(all[i]->name, name))
            return all[i];
    return NULL;
}
