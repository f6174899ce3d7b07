#include "experiments/plan.h"

#include <stdlib.h>

#include "autograd/base/mem.h"

/* The peak of one pass. A batch whose token values do not matter: a measuring ctx never reads them.
   0 with err() set if it failed. */
static size_t pass(struct ctx *ctx, struct transformer *m, const struct batch *b, bool train)
{
    static const int32_t none;
    const struct head_loss_args args = {.target = &none, .weight = 1};
    struct loss loss = {0};
    struct tensor *hidden = transformer_forward(ctx, m, b);
    if (!op_head_loss(ctx, hidden, &m->output->used, &args, &loss) && train)
        tape_backward(ctx, NULL);
    if (!ctx->failed)
        return ctx->arena.peak;
    err("memory plan: %s", ctx->text);
    return 0;
}

static size_t measure(const struct transformer_dims *dims, const struct plan_args *a, bool train)
{
    static const int32_t none;
    static const uint64_t no_row;
    const int n = (int)(a->n_seqs * a->parts);
    const int64_t len = a->T / a->parts;
    struct transformer m;
    struct ctx ctx;
    size_t peak = 0;
    struct sequence *seqs = mem_new((size_t)n, sizeof *seqs);
    for (int i = 0; i < n && seqs; i++)
        seqs[i] = (struct sequence){.start = i * len, .len = len};
    if (!seqs || transformer_init(&m, dims, STORE_SHAPES)) {
        free(seqs);
        return 0;
    }
    if ((!a->bf16 || !store_panels(&m.store)) && !ctx_init(&ctx, 0)) {
        const struct batch b = {.n = a->n_seqs * a->T,
                                .tok = &none,
                                .pos = &none,
                                .row_id = &no_row,
                                .seqs = seqs,
                                .n_seqs = n};
        ctx.recording = train;
        ctx.act = a->bf16 ? &dtype_bf16 : &dtype_f32;
        ctx.training = train && a->drops;
        ctx.recompute = a->recompute;
        ctx.profile = a->profile;
        peak = pass(&ctx, &m, &b, train);
        ctx_free(&ctx);
    }
    transformer_free(&m);
    free(seqs);
    return peak;
}

size_t plan_train(const struct transformer_dims *dims, const struct plan_args *args)
{
    return measure(dims, args, true);
}

size_t plan_eval(const struct transformer_dims *dims, const struct plan_args *args)
{
    return measure(dims, args, false);
}

struct plan_model plan_model(const struct transformer_dims *dims, enum optimizer_kind optimizer,
                             bool ema, bool bf16)
{
    int64_t rest;
    const struct optimizer *o = &optimizers[optimizer];
    const size_t slab = (size_t)transformer_params(dims, &rest) * sizeof(float);
    const bool rotary = !(archs[dims->arch].traits & ARCH_LEARNED);
    struct plan_model p = {
        .weights = slab,
        .grads = slab,
        .states = (size_t)o->n_states * slab,
        .average = ema ? slab : 0,
        .tables = rotary ? (size_t)dims->context * (size_t)dims->head_dim * sizeof(float) : 0,
    };
    struct transformer m;
    if (transformer_init(&m, dims, STORE_SHAPES)) {
        err_warn("%s: not all memory is counted", err_text());
        return p;
    }
    p.states += o->scratch ? o->scratch(&m.store) * sizeof(float) : 0;
    p.panels = bf16 ? store_panels_bytes(&m.store) : 0;
    transformer_free(&m);
    return p;
}
