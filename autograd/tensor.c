#include "autograd/autograd.h"

int64_t tensor_cols(const struct tensor *t)
{
    return t->dim[t->nd - 1];
}

int64_t tensor_rows(const struct tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->nd - 1; i++)
        n *= t->dim[i];
    return n;
}

int64_t tensor_numel(const struct tensor *t)
{
    return tensor_rows(t) * tensor_cols(t);
}

size_t tensor_row_bytes(const struct tensor *t)
{
    const int64_t block = t->dt->block;
    return (size_t)((tensor_cols(t) + block - 1) / block) * (size_t)t->dt->bytes;
}

size_t tensor_bytes(const struct tensor *t)
{
    return (size_t)tensor_rows(t) * tensor_row_bytes(t);
}

size_t tensor_grad_bytes(const struct tensor *t)
{
    return t->grad_f32 ? (size_t)tensor_numel(t) * sizeof(float) : tensor_bytes(t);
}

bool tensor_same_shape(const struct tensor *a, const struct tensor *b)
{
    if (a->nd != b->nd)
        return false;
    for (int i = 0; i < a->nd; i++)
        if (a->dim[i] != b->dim[i])
            return false;
    return true;
}
