#include "autograd/autograd.h"

#include <omp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "autograd/kernels/gemm_bf16.h"

int ctx_init(struct ctx *ctx, size_t bytes)
{
    *ctx = (struct ctx){.measuring = !bytes, .act = &dtype_f32};
    return arena_init(&ctx->arena, bytes);
}

void ctx_free(struct ctx *ctx)
{
    arena_free(&ctx->arena);
}

void ctx_reset(struct ctx *ctx)
{
    arena_pop_lo(&ctx->arena, 0);
    arena_pop_hi(&ctx->arena, 0);
    ctx->tape = NULL;
    ctx->undone = NULL;
    ctx->in_segment = false;
    ctx->failed = false;
    ctx->text[0] = 0;
}

void *ctx_fail(struct ctx *ctx, const char *fmt, ...)
{
    if (!ctx->failed) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(ctx->text, sizeof ctx->text, fmt, ap);
        va_end(ap);
        ctx->failed = true;
    }
    return NULL;
}

static void *full(struct ctx *ctx, size_t bytes)
{
    return ctx_fail(ctx, "the arena is full: %zu of %zu bytes are in use, %zu more are wanted",
                    ctx->arena.lo + ctx->arena.hi, ctx->arena.size, bytes);
}

void *ctx_push(struct ctx *ctx, size_t bytes)
{
    if (ctx->failed)
        return NULL;
    void *p = arena_push_lo(&ctx->arena, bytes);
    return p ? p : full(ctx, bytes);
}

size_t ctx_mark(const struct ctx *ctx)
{
    return ctx->arena.hi;
}

void *ctx_scratch(struct ctx *ctx, size_t bytes)
{
    if (ctx->failed)
        return NULL;
    void *p = arena_push_hi(&ctx->arena, bytes);
    return p ? p : full(ctx, bytes);
}

void ctx_release(struct ctx *ctx, size_t mark)
{
    arena_pop_hi(&ctx->arena, mark);
}

char *ctx_thread_scratch(struct ctx *ctx, size_t *bytes)
{
    *bytes = (*bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    return ctx_scratch(ctx, *bytes * (size_t)omp_get_max_threads());
}

struct tensor *ctx_tensor(struct ctx *ctx, const struct dtype *dt, int nd, const int64_t *dim)
{
    struct tensor *t = ctx_push(ctx, sizeof *t);
    if (!t)
        return NULL;
    *t = (struct tensor){.dt = dt, .nd = nd};
    for (int i = 0; i < nd; i++)
        t->dim[i] = dim[i];
    const size_t bytes = tensor_bytes(t);
    t->data = ctx->brief && ctx->inside ? ctx_scratch(ctx, bytes) : ctx_push(ctx, bytes);
    return t->data ? t : NULL;
}

struct tensor *ctx_matrix(struct ctx *ctx, const struct dtype *dt, int64_t rows, int64_t cols)
{
    return ctx_tensor(ctx, dt, 2, (int64_t[]){rows, cols});
}

struct tensor *ctx_like(struct ctx *ctx, const struct tensor *t)
{
    return ctx_tensor(ctx, t->dt, t->nd, t->dim);
}

/* Panels of rows [i, i + n) of t, where they begin and end with whole ones. */
static const struct panels *part_panels(struct ctx *ctx, const struct tensor *t, int64_t i,
                                        int64_t n)
{
    if (!t->panels || i % PANEL || n % PANEL)
        return NULL;
    struct panels *p = ctx_push(ctx, sizeof *p);
    if (!p)
        return NULL;
    *p = *t->panels;
    if (!ctx->measuring)
        p->forward += i * panel_depth(tensor_cols(t));
    return p;
}

/* The same rows of what is multiplied with beside t. */
static const struct low_rank *part_plus(struct ctx *ctx, const struct low_rank *plus, int64_t i,
                                        int64_t n)
{
    struct low_rank *p = plus ? ctx_push(ctx, sizeof *p) : NULL;
    if (!p)
        return NULL;
    *p = *plus;
    p->b = ctx_part(ctx, plus->b, i, n);
    return p->b ? p : NULL;
}

struct tensor *ctx_part(struct ctx *ctx, struct tensor *t, int64_t i, int64_t n)
{
    struct tensor *part = t ? ctx_push(ctx, sizeof *part) : NULL;
    if (!part)
        return NULL;
    if (i < 0 || n < 1 || n > t->dim[0] - i)
        return ctx_fail(ctx, "indices %lld to %lld of %lld", (long long)i, (long long)(i + n),
                        (long long)t->dim[0]);
    if (t->maker)
        return ctx_fail(ctx, "a part of what is made again in backward");
    *part = *t;
    part->dim[0] = n;
    part->grad = NULL;
    part->stale = false;
    part->whole = t;
    part->panels = part_panels(ctx, t, i, n);
    part->plus = part_plus(ctx, t->plus, i, n);
    if (!ctx->measuring)
        part->data = (char *)t->data + (size_t)i * (tensor_bytes(t) / (size_t)t->dim[0]);
    return ctx->failed ? NULL : part;
}

void *ctx_grad(struct ctx *ctx, struct tensor *t, bool *fresh)
{
    *fresh = false;
    if (!t || !t->needs_grad)
        return NULL;
    if (t->whole) {
        const struct tensor *whole = t->whole;
        char *all = ctx_grad_sum(ctx, t->whole);
        const size_t n = (size_t)whole->dim[0], one = tensor_bytes(whole) / n;
        const size_t i = (size_t)((char *)t->data - (char *)whole->data) / one;
        t->grad = all ? all + i * (tensor_grad_bytes(whole) / n) : NULL;
        return t->grad;
    }
    if (!t->grad && tape_takes_back(ctx, t))
        return ctx_fail(ctx, "segment: a tensor from outside, which is not its input, would get a "
                             "gradient inside that does not outlive it");
    if (!t->grad) {
        *fresh = true;
        t->grad = ctx_scratch(ctx, tensor_grad_bytes(t));
    }
    *fresh |= t->stale;
    t->stale = false;
    return t->grad;
}

void *ctx_grad_sum(struct ctx *ctx, struct tensor *t)
{
    bool fresh;
    void *g = ctx_grad(ctx, t, &fresh);
    if (fresh && g && !ctx->measuring)
        memset(g, 0, tensor_grad_bytes(t));
    return g;
}

void *ctx_grad_take(struct ctx *ctx, struct tensor *out, struct tensor *in, bool *fresh,
                    bool *taken)
{
    *taken = in && in->needs_grad && !in->grad && !in->whole && in->dt == out->dt &&
             !tape_takes_back(ctx, in);
    if (!*taken)
        return ctx_grad(ctx, in, fresh);
    *fresh = true;
    in->grad = out->grad;
    return in->grad;
}
