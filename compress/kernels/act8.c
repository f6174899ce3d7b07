#include "compress/kernels/act8.h"

#include "compress/kernels/dots.h"

static void encode(struct tensor *t, int64_t row, const float *x, const float *importance)
{
    (void)importance; // every group is scaled by its largest element
    const int64_t cols = tensor_cols(t);
    dots->encode(cols, x, (struct act8 *)t->data + row * act8_groups(cols));
}

static void decode(const struct tensor *t, int64_t row, float *x)
{
    const int64_t cols = tensor_cols(t);
    const struct act8 *a = (const struct act8 *)t->data + row * act8_groups(cols);
    for (int64_t i = 0; i < cols; i += ACT8, a++)
        for (int k = 0; k < ACT8 && i + k < cols; k++)
            x[i + k] = a->d * (float)a->q[k];
}

const struct dtype act8_dtype = {
    .name = "act8",
    .gguf_id = -1,
    .block = ACT8,
    .bytes = sizeof(struct act8),
    .decode = decode,
    .encode = encode,
};
