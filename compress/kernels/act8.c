#include "compress/kernels/act8.h"

#include "compress/kernels/dots.h"

static struct act8 *row_of(const struct tensor *t, int64_t row)
{
    return (struct act8 *)t->data + row * act8_groups(tensor_cols(t));
}

static void encode(struct tensor *t, int64_t row, const float *x, const float *importance)
{
    (void)importance; // every scale is that of the largest element
    dots->encode(tensor_cols(t), x, row_of(t, row));
}

static void encode_32(struct tensor *t, int64_t row, const float *x, const float *importance)
{
    (void)importance;
    dots->encode_32(tensor_cols(t), x, row_of(t, row));
}

static void decode(const struct tensor *t, int64_t row, float *x)
{
    const int64_t cols = tensor_cols(t);
    const struct act8 *a = row_of(t, row);
    for (int64_t i = 0; i < cols; i++)
        x[i] = a[i / ACT8].d * (float)a[i / ACT8].q[i % ACT8];
}

static void decode_32(const struct tensor *t, int64_t row, float *x)
{
    const int64_t cols = tensor_cols(t);
    const struct act8 *a = row_of(t, row);
    for (int64_t i = 0; i < cols; i++)
        x[i] = a[i / ACT8].d32[i % ACT8 / ACT8_RUN] * (float)a[i / ACT8].q[i % ACT8];
}

const struct dtype act8_dtype = {
    .name = "act8",
    .gguf_id = -1,
    .block = ACT8,
    .bytes = sizeof(struct act8),
    .decode = decode,
    .encode = encode,
};

const struct dtype act8_32_dtype = {
    .name = "act8_32",
    .gguf_id = -1,
    .block = ACT8,
    .bytes = sizeof(struct act8),
    .decode = decode_32,
    .encode = encode_32,
};
