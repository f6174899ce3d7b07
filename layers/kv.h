/* Keys and values of one sequence, all layers: what decoding does not compute again. */
#ifndef ATTAR_LAYERS_KV_H
#define ATTAR_LAYERS_KV_H

#include <stddef.h>
#include <stdint.h>

struct transformer_dims;

struct kv {
    int64_t len, capacity; /* tokens held, and that fit */
    int n_layers;
    int64_t *width; /* [L] floats a token: Hkv * D */
    float **k, **v; /* [L] of [capacity, width[l]], rotated keys */
    void *memory;
};

/* Room for `capacity` tokens. 0, or -1 with err() set. */
int kv_init(struct kv *kv, const struct transformer_dims *dims, int64_t capacity);
void kv_free(struct kv *kv);
size_t kv_bytes(const struct transformer_dims *dims, int64_t capacity);

/* Stores the n tokens behind the first kv->len of layer l: k and v are [n, width]. The caller
   raises kv->len when all layers have stored theirs. */
void kv_store(struct kv *kv, int l, int64_t n, const float *k, const float *v);

#endif
