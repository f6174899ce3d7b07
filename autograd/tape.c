#include "autograd/autograd.h"

#include <string.h>

#include "autograd/ops/ops.h"
#include "autograd/profile.h"

static void run(struct ctx *ctx, struct node *node, bool backward)
{
    struct cost cost = {0};
    if (ctx->profile && node->op->cost)
        node->op->cost(ctx, node, backward, &cost);
    const struct profile_span span = profile_begin(ctx->profile);
    (backward ? node->op->backward : node->op->forward)(ctx, node);
    profile_add(ctx->profile, &span, node->op->name, backward, &cost);
}

struct tensor *ctx_run(struct ctx *ctx, struct node *node)
{
    if (ctx->stop && *ctx->stop)
        ctx_fail(ctx, "stopped");
    if (ctx->failed)
        return NULL;
    bool wanted = false;
    for (int i = 0; i < NODE_IN; i++)
        wanted |= node->in[i] && node->in[i]->needs_grad;
    run(ctx, node, false);
    const bool brief = ctx->brief && ctx->inside;
    wanted &= ctx->recording;
    struct node *kept = wanted || brief ? ctx_push(ctx, sizeof *kept) : NULL;
    if (kept)
        *kept = *node;
    if (kept && wanted) {
        kept->prev = ctx->tape;
        ctx->tape = kept;
    }
    for (int i = 0; i < NODE_OUT && kept; i++)
        if (node->out[i]) {
            node->out[i]->needs_grad |= wanted;
            node->out[i]->maker = brief ? kept : NULL;
        }
    return ctx->failed ? NULL : node->out[0];
}

/* What the node reads and its segment dropped: at the high end, until the segment's backward is
   through. */
static void make_again(struct ctx *ctx, const struct node *node)
{
    for (int i = 0; i < NODE_IN && !ctx->failed; i++) {
        struct tensor *t = node->in[i];
        if (!t || !t->maker || t->again)
            continue;
        make_again(ctx, t->maker);
        t->data = ctx_scratch(ctx, tensor_bytes(t));
        t->again = true;
        if (t->data)
            run(ctx, t->maker, false);
    }
}

void tape_backward(struct ctx *ctx, struct node *until)
{
    while (ctx->tape != until && !ctx->failed) {
        struct node *node = ctx->tape;
        ctx->tape = node->prev;
        if (ctx->stop && *ctx->stop)
            ctx_fail(ctx, "stopped");
        bool arrived = false;
        for (int i = 0; i < NODE_OUT; i++)
            arrived |= node->out[i] && node->out[i]->grad;
        if (arrived)
            make_again(ctx, node);
        if (arrived && !ctx->failed)
            run(ctx, node, true);
    }
}

/* ---- segments ---- */

struct segment {
    segment_fn *fn;
    const void *arg;
    struct tensor *x, *inner; /* inner: the result of fn, NULL where it is to be run again */
    struct node *begin;       /* the tape before the segment */
    size_t lo;                /* the arena before the segment, behind what must outlive it */
};

static void segment_forward(struct ctx *ctx, struct node *node)
{
    // ctx_segment has run the body; where nothing of it is kept, its result moves out
    if (!ctx->measuring)
        memcpy(node->out[0]->data, node->in[0]->data, tensor_bytes(node->out[0]));
}

/* The gradient of x must survive the high end's pop: if it was made inside, it moves to out's
   buffer, which has the same shape and is dead by now. */
static void segment_keep_grad(struct ctx *ctx, struct tensor *x, void *buffer, size_t mark)
{
    const struct arena *a = &ctx->arena;
    const char *outer = a->base + a->size - mark, *g = x->grad;
    if (!x->grad || x->grad == buffer || g >= outer || g < a->base)
        return;
    if (!ctx->measuring)
        memcpy(buffer, x->grad, tensor_bytes(x));
    x->grad = buffer;
}

bool tape_takes_back(const struct ctx *ctx, const struct tensor *t)
{
    // what lies below the segment's beginning was there before it
    const struct segment *s = ctx->undone;
    const char *at = (const char *)t, *base = ctx->arena.base;
    return s && t != s->x && at >= base && at < base + s->lo;
}

bool ctx_root(struct ctx *ctx, const char *name)
{
    if (ctx->in_segment)
        ctx_fail(ctx,
                 "%s: a loss inside a segment, whose gradient would be lost, or count twice: "
                 "let the segment return what it is of",
                 name);
    return !ctx->failed;
}

/* Runs the body again, with a tape. Who looks at linears has seen these. */
static struct tensor *run_again(struct ctx *ctx, const struct segment *s)
{
    const bool recording = ctx->recording, outer = ctx->in_segment;
    struct tap *tap = ctx->tap;
    ctx->recording = ctx->in_segment = true;
    ctx->tap = NULL;
    struct tensor *inner = s->fn(ctx, s->arg, s->x);
    ctx->recording = recording;
    ctx->in_segment = outer;
    ctx->tap = tap;
    return inner;
}

static void segment_backward(struct ctx *ctx, struct node *node)
{
    struct segment *s = node->saved;
    struct tensor *out = node->out[0];
    void *buffer = out->grad;
    struct tensor *inner = s->inner;
    const size_t mark = ctx_mark(ctx);
    if (!inner) {
        inner = run_again(ctx, s);
        if (!inner)
            return;
        inner->grad = buffer;
    }
    const struct segment *outer = ctx->undone;
    ctx->undone = s;
    tape_backward(ctx, s->begin);
    ctx->undone = outer;
    segment_keep_grad(ctx, s->x, buffer, mark);
    ctx_release(ctx, mark);
    arena_pop_lo(&ctx->arena, s->lo);
}

static void segment_cost(const struct ctx *ctx, const struct node *node, bool backward,
                         struct cost *cost)
{
    (void)ctx;
    if (!backward)
        cost_rows(cost, node->out[0], 2);
}

static const struct op op_segment = {"segment", segment_forward, segment_backward, segment_cost};

/* Runs the body and keeps nothing of it but its values, in out. */
static struct tensor *run_and_free(struct ctx *ctx, segment_fn *fn, const void *arg,
                                   struct tensor *x, struct tensor *out)
{
    const size_t lo = ctx->arena.lo, hi = ctx->arena.hi;
    const bool recording = ctx->recording;
    ctx->recording = false;
    struct tensor *inner = fn(ctx, arg, x);
    ctx->recording = recording;
    if (!inner || inner == x)
        return inner;
    if (!tensor_same_shape(inner, x))
        return ctx_fail(ctx, "segment: its result must have the shape of its input");
    struct node move = {.op = &op_segment, .in = {inner}, .out = {out}};
    run(ctx, &move, false);
    arena_pop_hi(&ctx->arena, hi);
    arena_pop_lo(&ctx->arena, lo);
    return out;
}

struct tensor *ctx_segment(struct ctx *ctx, segment_fn *fn, const void *arg, size_t arg_bytes,
                           struct tensor *x)
{
    if (!x || ctx->failed)
        return NULL;
    const bool keep = ctx->recording && !ctx->recompute;
    struct segment *s = ctx_push(ctx, sizeof *s);
    void *copy = ctx_push(ctx, arg_bytes);
    struct tensor *out = keep ? NULL : ctx_like(ctx, x);
    if (ctx->failed)
        return NULL;
    const bool in_segment = ctx->in_segment;
    ctx->in_segment |= ctx->recording;
    memcpy(copy, arg, arg_bytes);
    *s = (struct segment){.fn = fn, .arg = copy, .x = x, .begin = ctx->tape, .lo = ctx->arena.lo};
    if (keep) {
        const bool outer = ctx->inside;
        const size_t mark = ctx_mark(ctx);
        ctx->inside = true;
        out = s->inner = fn(ctx, copy, x);
        ctx->inside = outer;
        ctx_release(ctx, mark);
        if (out && out->maker && out != x)
            out = ctx_fail(ctx, "segment: its result must stay");
        if (out && !tensor_same_shape(out, x))
            out = ctx_fail(ctx, "segment: its result must have the shape of its input");
    } else {
        out = run_and_free(ctx, fn, copy, x, out);
    }
    ctx->in_segment = in_segment;
    // parameters inside may want gradients even if x does not
    if (!out || out == x || !ctx->recording)
        return out;
    const bool inside = keep ? ctx->tape != s->begin : true;
    if (!inside)
        return out;
    struct node *node = ctx_push(ctx, sizeof *node);
    if (!node)
        return NULL;
    *node =
        (struct node){.op = &op_segment, .prev = ctx->tape, .in = {x}, .out = {out}, .saved = s};
    ctx->tape = node;
    out->needs_grad = true;
    return out;
}
