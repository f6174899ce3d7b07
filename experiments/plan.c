#include "experiments/plan.h"

#include <stdlib.h>

#include "autograd/base/mem.h"

/* A batch whose token values do not matter: a measuring ctx never reads them. */
static size_t measure(const struct transformer_dims *dims, const struct plan_args *a, bool train)
{
    const int n = (int)(a->n_seqs * a->parts);
    struct transformer m;
    struct ctx ctx;
    size_t peak = 0;
    struct sequence *seqs = mem_new((size_t)n, sizeof *seqs);
    if (!seqs)
        return 0;
    const int64_t len = a->T / a->parts;
    for (int i = 0; i < n; i++)
        seqs[i] = (struct sequence){.start = i * len, .len = len};
    if (transformer_init(&m, dims, STORE_SHAPES)) {
        free(seqs);
        return 0;
    }
    if (!ctx_init(&ctx, 0)) {
        static const int32_t none;
        static const uint64_t no_row;
        const struct batch b = {.n = a->n_seqs * a->T,
                                .tok = &none,
                                .pos = &none,
                                .row_id = &no_row,
                                .seqs = seqs,
                                .n_seqs = n};
        const struct head_loss_args args = {.target = &none, .weight = 1};
        struct loss loss = {0};
        ctx.recording = train;
        ctx.training = train && a->drops;
        ctx.recompute = a->recompute;
        struct tensor *hidden = transformer_forward(&ctx, &m, &b);
        if (!op_head_loss(&ctx, hidden, &m.output->used, &args, &loss) && train)
            tape_backward(&ctx, NULL);
        if (ctx.failed)
            err("memory plan: %s", ctx.text);
        else
            peak = ctx.arena.peak;
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

struct plan_model plan_model(const struct transformer_dims *dims, int states)
{
    int64_t rest;
    const size_t slab = (size_t)transformer_params(dims, &rest) * sizeof(float);
    return (struct plan_model){
        .weights = slab,
        .grads = slab,
        .states = (size_t)states * slab,
        .tables = (size_t)dims->context * (size_t)dims->head_dim * sizeof(float),
    };
}
