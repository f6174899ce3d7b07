#include "layers/kv.h"

#include <stdlib.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/mem.h"
#include "layers/transformer.h"

size_t kv_bytes(const struct transformer_dims *dims, int64_t capacity)
{
    size_t floats = 0;
    for (int l = 0; l < dims->n_layers; l++)
        floats += 2 * (size_t)capacity * (size_t)dims->n_kv_heads[l] * (size_t)dims->head_dim;
    return floats * sizeof(float);
}

int kv_init(struct kv *kv, const struct transformer_dims *dims, int64_t capacity)
{
    const size_t L = (size_t)dims->n_layers;
    *kv = (struct kv){.capacity = capacity, .n_layers = dims->n_layers};
    kv->width = mem_new(L, sizeof *kv->width);
    kv->k = mem_new(L, sizeof *kv->k);
    kv->v = mem_new(L, sizeof *kv->v);
    float *at = kv->memory = mem_slab(kv_bytes(dims, capacity), 1);
    if (!kv->width || !kv->k || !kv->v || !at) {
        kv_free(kv);
        return err_in("KV cache of %lld tokens", (long long)capacity);
    }
    for (size_t l = 0; l < L; l++) {
        kv->width[l] = (int64_t)dims->n_kv_heads[l] * dims->head_dim;
        kv->k[l] = at;
        kv->v[l] = at + capacity * kv->width[l];
        at += 2 * capacity * kv->width[l];
    }
    return 0;
}

void kv_free(struct kv *kv)
{
    free(kv->width);
    free(kv->k);
    free(kv->v);
    free(kv->memory);
    *kv = (struct kv){0};
}

void kv_store(struct kv *kv, int l, int64_t n, const float *k, const float *v)
{
    const int64_t w = kv->width[l];
    memcpy(kv->k[l] + kv->len * w, k, (size_t)(n * w) * sizeof *k);
    memcpy(kv->v[l] + kv->len * w, v, (size_t)(n * w) * sizeof *v);
}
