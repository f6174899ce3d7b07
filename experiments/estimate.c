#include "experiments/estimate.h"

#include <stdlib.h>

#include "autograd/base/clock.h"
#include "autograd/base/mem.h"
#include "experiments/plan.h"

/* The best times of one model, in about `budget` seconds but at least one run. */
struct timing {
    double batch, step; /* seconds: a micro-batch, an optimizer step */
};

static int time_steps(struct transformer *m, struct ctx *ctx, const struct batch *b,
                      const int32_t *target, enum optimizer_kind optimizer, double budget,
                      struct timing *t)
{
    const struct optimizer_args args = {
        .step = 1, .grad_scale = 1, .eps = 1e-8f, .beta1 = 0.9f, .beta2 = 0.95f};
    const struct head_loss_args head = {.target = target, .weight = 1};
    *t = (struct timing){1e9, 1e9};
    for (double end = clock_seconds() + budget, start = clock_seconds();
         start < end || t->step > 1e8; start = clock_seconds()) {
        struct loss loss = {0};
        ctx_reset(ctx);
        if (!op_head_loss(ctx, transformer_forward(ctx, m, b), &m->output->used, &head, &loss))
            tape_backward(ctx, NULL);
        if (ctx->failed)
            return err("time estimate: %s", ctx->text);
        const double middle = clock_seconds();
        if (optimizers[optimizer].step(&m->store, &args))
            return -1;
        const double stop = clock_seconds();
        if (middle - start < t->batch)
            t->batch = middle - start;
        if (stop - middle < t->step)
            t->step = stop - middle;
    }
    return 0;
}

static int time_model(const struct transformer_dims *dims, int64_t n_seqs, int64_t T,
                      bool recompute, enum optimizer_kind optimizer, double budget,
                      struct timing *t)
{
    const struct plan_args plan = {.n_seqs = n_seqs, .T = T, .parts = 1, .recompute = recompute};
    const int64_t n = n_seqs * T;
    struct transformer m;
    struct ctx ctx = {0};
    int32_t *tok = mem_new((size_t)n, sizeof *tok), *pos = mem_new((size_t)n, sizeof *pos);
    struct sequence *seqs = mem_new((size_t)n_seqs, sizeof *seqs);
    int rc = tok && pos && seqs ? transformer_init(&m, dims, STORE_TRAINED) : -1;
    const int made = !rc;
    if (!rc) {
        const size_t arena = plan_train(dims, &plan);
        store_init(&m.store, 1);
        for (int64_t i = 0; i < n; i++) {
            tok[i] = (int32_t)(i * 7919 % dims->vocab);
            pos[i] = (int32_t)(i % T);
        }
        for (int64_t i = 0; i < n_seqs; i++)
            seqs[i] = (struct sequence){.start = i * T, .len = T};
        const struct batch b = {
            .n = n, .tok = tok, .pos = pos, .seqs = seqs, .n_seqs = (int)n_seqs};
        rc = arena ? ctx_init(&ctx, arena) : -1;
        ctx.recording = true;
        ctx.recompute = recompute;
        if (!rc)
            rc = time_steps(&m, &ctx, &b, tok, optimizer, budget, t);
    }
    ctx_free(&ctx);
    if (made)
        transformer_free(&m);
    free(tok);
    free(pos);
    free(seqs);
    return rc;
}

int estimate_training(const struct transformer_dims *dims, enum optimizer_kind optimizer,
                      int64_t n_seqs, int64_t T, bool recompute, struct estimate *e)
{
    const double most = 20e9; // FLOPs of a run: about a second's tenth
    const double begin = clock_seconds();
    static struct transformer_dims few; // large; this is not called from threads
    struct timing one, two;
    double head, head_all;
    few = *dims;
    few.dropout = 0;
    few.n_layers = 2;
    for (int l = 1; l < 2; l++) { // two equal layers
        few.n_heads[l] = few.n_heads[0];
        few.n_kv_heads[l] = few.n_kv_heads[0];
        few.d_ff[l] = few.d_ff[0];
    }
    const double cost = 3 * transformer_flops(&few, (double)T / 2, &head);
    while (n_seqs > 1 && cost * (double)(n_seqs * T) > most)
        n_seqs /= 2;
    while (T > 64 && cost * (double)(n_seqs * T) > most)
        T /= 2;
    if (time_model(&few, n_seqs, T, recompute, optimizer, 0.5, &two))
        return -1;
    const double flops_two = transformer_flops(&few, (double)T / 2, &head);
    few.n_layers = 1;
    if (time_model(&few, n_seqs, T, recompute, optimizer, 0.5, &one))
        return -1;
    const double flops_one = transformer_flops(&few, (double)T / 2, &head);
    const double all = transformer_flops(dims, (double)T / 2, &head_all);
    int64_t rest;
    const double layer = two.batch > one.batch ? two.batch - one.batch : 0;
    const double per_flop = layer / (flops_two - flops_one);
    few.n_layers = 2;
    const double params = (double)transformer_params(&few, &rest);
    e->token = (one.batch + per_flop * (all - flops_one)) / (double)(n_seqs * T);
    e->step = two.step * (double)transformer_params(dims, &rest) / params;
    e->seconds = clock_seconds() - begin;
    return 0;
}
