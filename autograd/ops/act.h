/*
 * Rows of activations: what ops that are not products see of bf16. An op computes on rows of f32;
 * where the tensor is f32 they are the tensor's own, where it is bf16 they are a copy in the
 * thread's buffer, still in its L1. Kernels that many elements go through read and write bf16 by
 * themselves instead.
 */
#ifndef ATTAR_AUTOGRAD_OPS_ACT_H
#define ATTAR_AUTOGRAD_OPS_ACT_H

#include <omp.h>

#include "autograd/autograd.h"
#include "autograd/kernels/rows.h"

/* The buffers of each thread of a team: k rows of n floats, where `narrow` says that a tensor of
   the op is bf16, else none (then no pointer into them is used). Scratch: ctx_release(). */
struct act_buf {
    char *p;
    size_t bytes; /* of a thread */
    int64_t n;
};

static inline struct act_buf act_buf(struct ctx *ctx, bool narrow, int k, int64_t n)
{
    struct act_buf b = {.bytes = narrow ? (size_t)k * (size_t)n * sizeof(float) : 0, .n = n};
    b.p = ctx_thread_scratch(ctx, &b.bytes);
    return b;
}

/* Row i of the calling thread's. */
static inline float *act_row(const struct act_buf *b, int i)
{
    return (float *)(void *)(b->p + (size_t)omp_get_thread_num() * b->bytes) +
           (b->bytes ? i * b->n : 0);
}

/* Row i of p [.,n], data or gradient of a tensor of dtype dt; NULL for NULL. For kernels that read
   and write bf16 by themselves. */
static inline void *act_place(const struct dtype *dt, const void *p, int64_t i, int64_t n)
{
    return p ? (char *)(uintptr_t)p + i * n * dt->bytes : NULL;
}

/* Row i of p [.,n], data or gradient of a tensor of dtype dt: where it lies, or widened into
   buf [n]. */
static inline const float *act_get(const struct dtype *dt, const void *p, int64_t i, int64_t n,
                                   float *buf)
{
    if (dt == &dtype_f32)
        return (const float *)p + i * n;
    rows->widen(n, (const uint16_t *)p + i * n, buf);
    return buf;
}

/* Where to make row i of p: its own place, or buf [n]. NULL for NULL. To be followed by
   act_put(). */
static inline float *act_at(const struct dtype *dt, void *p, int64_t i, int64_t n, float *buf)
{
    return !p ? NULL : dt == &dtype_f32 ? (float *)p + i * n : buf;
}

/* As act_at() for a row that is added to: holds what is there, unless `fresh`. */
static inline float *act_add(const struct dtype *dt, void *p, int64_t i, int64_t n, bool fresh,
                             float *buf)
{
    if (p && dt != &dtype_f32 && !fresh)
        rows->widen(n, (const uint16_t *)p + i * n, buf);
    return act_at(dt, p, i, n, buf);
}

/* The row that act_at() or act_add() gave is done: rounds it into its place. */
static inline void act_put(const struct dtype *dt, void *p, int64_t i, int64_t n, const float *row)
{
    if (p && dt != &dtype_f32)
        rows->narrow(n, row, (uint16_t *)p + i * n);
}

/* The gradient of y is added to that of in, a tensor of its shape; where that is new, in takes over
   y's buffer, if it may, or gets a copy. */
void act_pass_on(struct ctx *ctx, struct tensor *y, struct tensor *in, bool may_take);

#endif
