#include "experiments/rehearsal.h"

#include <math.h>
#include <stdlib.h>

#include "autograd/base/clock.h"
#include "autograd/base/mem.h"
#include "autograd/base/rng.h"
#include "optim/ema.h"

/* ---- what a step does beside its ops ---- */

static struct cost norm_cost(const struct store *s)
{
    return (struct cost){.bytes = sizeof(float) * (double)store_numel(s)};
}

/* Reads the gradient; reads and writes the weights, every state and the average. */
static struct cost optimizer_cost(const struct store *s, const struct rehearsal_args *a)
{
    const struct optimizer *o = &optimizers[a->optimizer];
    const double slabs = 1 + 2 * (1 + o->n_states) + (a->ema ? 3 : 0);
    struct cost cost = {.bytes = slabs * sizeof(float) * (double)store_numel(s)};
    if (o->cost)
        o->cost(s, &cost);
    return cost;
}

/* Packing reads f32 and writes bf16. */
static struct cost project_cost(const struct store *s, bool bf16)
{
    return (struct cost){.bytes = bf16 ? 3 * (double)store_panels_bytes(s) : 0};
}

/* What is trained. */
static struct store *trained(struct transformer *m)
{
    return m->lora.factors.n ? &m->lora.factors : &m->store;
}

static int optimize(struct rehearsal *r)
{
    struct store *s = trained(&r->m);
    struct profile *p = &r->profile;
    const double count = (double)(r->args.batch * r->args.T);
    struct cost cost = norm_cost(s);
    struct profile_span span = profile_begin(p);
    store_pullback(s);
    const double norm = grad_norm(s) / count;
    profile_add(p, &span, "gradient norm", false, &cost);

    const struct optimizer_args args = {.step = ++r->step,
                                        .lr = 1e-3f,
                                        .grad_scale = (float)(fmin(1, 1 / (norm + 1e-6)) / count),
                                        .weight_decay = 0.1f,
                                        .beta1 = 0.9f,
                                        .beta2 = 0.95f,
                                        .eps = 1e-8f,
                                        .momentum = 0.9f,
                                        .adam_lr = 1e-3f};
    cost = optimizer_cost(s, &r->args);
    span = profile_begin(p);
    int rc = optimizers[r->args.optimizer].step(s, &args);
    if (!rc && r->args.ema)
        rc = ema_update(s, &(struct ema_args){.decay = 0.999}, args.step);
    profile_add(p, &span, "optimizer", false, &cost);

    cost = project_cost(s, r->args.bf16 && !r->args.lora);
    span = profile_begin(p);
    store_project(s);
    profile_add(p, &span, "projection", false, &cost);
    return rc;
}

/* ---- the step ---- */

static struct plan_args plan_of(const struct rehearsal_args *a)
{
    return (struct plan_args){.n_seqs = a->micro,
                              .T = a->T,
                              .parts = 1,
                              .recompute = a->recompute,
                              .bf16 = a->bf16,
                              .lora = a->lora,
                              .drops = a->dims->dropout > 0};
}

/* The model, with its factors if these are what is trained. */
static int make(struct transformer *m, const struct rehearsal_args *a, enum store_use use)
{
    const bool real = use != STORE_SHAPES;
    if (transformer_init(m, a->dims, a->lora && real ? STORE_FROZEN : use))
        return -1;
    return a->lora && (lora_add_targets(m, a->lora) || lora_attach(m, a->lora->alpha, use)) ? -1
                                                                                            : 0;
}

int rehearsal_init(struct rehearsal *r, const struct rehearsal_args *a)
{
    *r = (struct rehearsal){.args = *a};
    const size_t n = (size_t)(a->micro * a->T);
    const struct plan_args plan = plan_of(a);
    const size_t arena = plan_train(a->dims, &plan);
    if (!arena || make(&r->m, a, STORE_TRAINED) || (a->bf16 && store_panels(&r->m.store)) ||
        ctx_init(&r->ctx, arena))
        return -1;
    r->ctx.recompute = a->recompute;
    r->ctx.act = a->bf16 ? &dtype_bf16 : &dtype_f32;
    r->ctx.recording = r->ctx.training = true;
    r->ctx.profile = &r->profile;
    store_init(&r->m.store, 1);
    if (a->lora)
        store_init(&r->m.lora.factors, 1);
    r->tok = mem_new(n, sizeof *r->tok);
    r->pos = mem_new(n, sizeof *r->pos);
    r->target = mem_new(n, sizeof *r->target);
    r->row_id = mem_new(n, sizeof *r->row_id);
    r->seqs = mem_new((size_t)a->micro, sizeof *r->seqs);
    if (!r->tok || !r->pos || !r->target || !r->row_id || !r->seqs)
        return -1;
    r->batch = (struct batch){.n = (int64_t)n,
                              .tok = r->tok,
                              .pos = r->pos,
                              .row_id = r->row_id,
                              .seqs = r->seqs,
                              .n_seqs = (int)a->micro};
    return 0;
}

void rehearsal_free(struct rehearsal *r)
{
    ctx_free(&r->ctx);
    transformer_free(&r->m);
    profile_free(&r->profile);
    free(r->tok);
    free(r->pos);
    free(r->target);
    free(r->row_id);
    free(r->seqs);
    *r = (struct rehearsal){0};
}

/* Sequences [first, first + micro) of the step: a token is drawn by its place in the whole run. */
static void fill(struct rehearsal *r, int64_t first)
{
    const int64_t T = r->args.T, vocab = r->args.dims->vocab;
    const uint64_t key = rng_key(1, "rehearsal");
    for (int64_t i = 0; i < r->args.micro; i++) {
        const int64_t from = ((r->step * r->args.batch) + first + i) * (T + 1);
        r->seqs[i] = (struct sequence){.start = i * T, .len = T};
        for (int64_t t = 0; t < T; t++) {
            const int64_t at = i * T + t;
            const uint64_t c = (uint64_t)(from + t);
            r->tok[at] = (int32_t)rng_below(key, c, (uint64_t)vocab);
            r->target[at] = (int32_t)rng_below(key, c + 1, (uint64_t)vocab);
            r->pos[at] = (int32_t)t;
            r->row_id[at] = c;
        }
    }
}

int rehearsal_step(struct rehearsal *r, double *seconds)
{
    const double begin = clock_seconds();
    struct loss loss = {0};
    const struct head_loss_args head = {.target = r->target, .weight = 1};
    store_zero_grad(trained(&r->m));
    for (int64_t done = 0; done < r->args.batch; done += r->args.micro) {
        const struct profile_span span = profile_begin(&r->profile);
        fill(r, done);
        profile_add(&r->profile, &span, "data", false, NULL);
        ctx_reset(&r->ctx);
        struct tensor *hidden = transformer_forward(&r->ctx, &r->m, &r->batch);
        if (!op_head_loss(&r->ctx, hidden, &r->m.output->used, &head, &loss))
            tape_backward(&r->ctx, NULL);
        if (r->ctx.failed)
            return err("%s", r->ctx.text);
    }
    const int rc = optimize(r);
    r->loss = loss.nll / (double)loss.count;
    *seconds = clock_seconds() - begin;
    return rc || r->profile.failed ? -1 : 0;
}

/* ---- its plan ---- */

/* All that p counts, k times. */
static void repeat(struct profile *p, int64_t k)
{
    for (int i = 0; i < p->n; i++) {
        p->row[i].calls *= k;
        p->row[i].flops *= (double)k;
        p->row[i].bytes *= (double)k;
        p->row[i].exps *= (double)k;
        p->row[i].draws *= (double)k;
    }
    for (size_t i = 0; i < p->n_work; i++)
        p->work[i].product.times *= (double)k;
}

static void add(struct profile *p, const char *name, struct cost cost)
{
    const struct profile_span span = profile_begin(p);
    profile_add(p, &span, name, false, &cost);
}

int rehearsal_plan(const struct rehearsal_args *a, struct profile *p)
{
    struct plan_args plan = plan_of(a);
    struct transformer m;
    plan.profile = p;
    if (!plan_train(a->dims, &plan) || p->failed)
        return -1;
    if (make(&m, a, STORE_SHAPES)) {
        transformer_free(&m);
        return -1;
    }
    const struct store *s = trained(&m);
    add(p, "data", (struct cost){0});
    repeat(p, a->batch / a->micro);
    add(p, "gradient norm", norm_cost(s));
    add(p, "optimizer", optimizer_cost(s, a));
    add(p, "projection", project_cost(s, a->bf16 && !a->lora));
    transformer_free(&m);
    return 0;
}
