#include "experiments/rehearsal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/clock.h"
#include "autograd/base/mem.h"
#include "autograd/base/rng.h"
#include "experiments/lesson.h"
#include "optim/ema.h"

/* ---- what a step does beside its ops ---- */

static struct cost norm_cost(const struct store *s)
{
    return (struct cost){.bytes = sizeof(float) * (double)store_numel(s)};
}

/* Reads the gradient; reads and writes the weights, every state and the average. */
static struct cost optimizer_cost(const struct store *s, enum optimizer_kind kind, bool ema)
{
    const struct optimizer *o = &optimizers[kind];
    const double slabs = 1 + 2 * (1 + o->n_states) + (ema ? 3 : 0);
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

/* What gradients arrive at: the weights, or factors over them. */
static struct store *trained(struct transformer *m)
{
    return m->lora.factors.n ? &m->lora.factors : &m->store;
}

/* Of learned scales: Muon has no business with them. */
static enum optimizer_kind scales_kind(const struct plan_step *a)
{
    return a->optimizer == OPTIMIZER_MUON ? OPTIMIZER_ADAMW : a->optimizer;
}

/* What the optimizer costs for all that it moves. */
static struct cost moving_cost(const struct plan_step *a, struct transformer *m,
                               const struct store *scales)
{
    struct cost cost = {0};
    if (!plan_scales_only(a))
        cost = optimizer_cost(trained(m), a->optimizer, a->ema);
    if (scales->n)
        cost.bytes += optimizer_cost(scales, scales_kind(a), false).bytes;
    return cost;
}

static int move(struct rehearsal *r, const struct optimizer_args *args)
{
    const struct plan_step *a = &r->args;
    struct store *s = trained(&r->m), *scales = &r->blocks.qat.scales;
    if (!plan_scales_only(a) && optimizers[a->optimizer].step(s, args))
        return -1;
    if (scales->n && optimizers[scales_kind(a)].step(scales, args))
        return -1;
    return a->ema ? ema_update(s, &(struct ema_args){.decay = 0.999}, args->step) : 0;
}

static int optimize(struct rehearsal *r)
{
    const struct plan_step *a = &r->args;
    struct store *s = trained(&r->m);
    struct profile *p = &r->profile;
    const double count = (double)(a->batch * a->pass.T);
    struct cost cost = norm_cost(s);
    struct profile_span span = profile_begin(p);
    store_pullback(s);
    const double norm = grad_norm(s) / count;
    profile_add(p, &span, "gradient norm", false, &cost);

    const struct optimizer_args args = {.step = ++r->step,
                                        .lr = 1e-3f,
                                        .grad_scale = (float)(fmin(1, 1 / (norm + 1e-6)) / count),
                                        .weight_decay = a->qat ? 0 : 0.1f,
                                        .beta1 = 0.9f,
                                        .beta2 = 0.95f,
                                        .eps = 1e-8f,
                                        .momentum = 0.9f,
                                        .adam_lr = 1e-3f};
    cost = moving_cost(a, &r->m, &r->blocks.qat.scales);
    span = profile_begin(p);
    const int rc = move(r, &args);
    profile_add(p, &span, "optimizer", false, &cost);

    cost = project_cost(s, a->pass.bf16 && !a->pass.lora);
    span = profile_begin(p);
    store_project(s);
    profile_add(p, &span, "projection", false, &cost);
    return rc;
}

/* ---- the step ---- */

/* Frozen blocks and factors over them, as a stage `qat` begins with. */
static int make_factors(struct rehearsal *r)
{
    const struct plan_args *a = &r->args.pass;
    const bool blocks = r->args.qat;
    if ((blocks && (blocks_fit(&r->blocks) || blocks_freeze(&r->blocks, &r->m, a->bf16))) ||
        lora_add_targets(&r->m, a->lora) || lora_attach(&r->m, a->lora->alpha, STORE_TRAINED))
        return -1;
    store_init(&r->m.lora.factors, 1);
    return 0;
}

static int make_teacher(struct rehearsal *r)
{
    const struct plan_args *a = &r->args.pass;
    if (!a->teacher)
        return 0;
    if (transformer_init(&r->teacher, a->teacher, STORE_FROZEN) ||
        (a->bf16 && store_panels(&r->teacher.store)))
        return err_in("teacher");
    store_init(&r->teacher.store, 2);
    return 0;
}

static int make_model(struct rehearsal *r)
{
    const struct plan_step *a = &r->args;
    const bool lora = a->pass.lora;
    if (transformer_init(&r->m, a->dims, lora ? STORE_FROZEN : STORE_TRAINED))
        return -1;
    store_init(&r->m.store, 1);
    if ((a->qat && blocks_open(&r->blocks, a->qat, a->pass.bf16, a->folder, &r->m)) ||
        (lora && make_factors(r)) || (a->pass.bf16 && store_panels(&r->m.store)))
        return -1;
    store_project(&r->m.store);
    return (a->qat && !lora && blocks_begin(&r->blocks, &r->m)) || make_teacher(r) ? -1 : 0;
}

int rehearsal_init(struct rehearsal *r, const struct plan_step *a)
{
    *r = (struct rehearsal){.args = *a};
    const struct plan_args *pass = &a->pass;
    const size_t n = (size_t)(pass->n_seqs * pass->T);
    const size_t arena = plan_train(a->dims, pass);
    if (!arena || make_model(r) || ctx_init(&r->ctx, arena))
        return -1;
    r->ctx.recompute = pass->recompute;
    r->ctx.act = pass->bf16 ? &dtype_bf16 : &dtype_f32;
    r->ctx.profile = &r->profile;
    r->tok = mem_new(n, sizeof *r->tok);
    r->pos = mem_new(n, sizeof *r->pos);
    r->target = mem_new(n, sizeof *r->target);
    r->row_id = mem_new(n, sizeof *r->row_id);
    r->seqs = mem_new((size_t)pass->n_seqs, sizeof *r->seqs);
    if (!r->tok || !r->pos || !r->target || !r->row_id || !r->seqs)
        return -1;
    r->batch = (struct batch){.n = (int64_t)n,
                              .tok = r->tok,
                              .pos = r->pos,
                              .row_id = r->row_id,
                              .seqs = r->seqs,
                              .n_seqs = (int)pass->n_seqs};
    return 0;
}

void rehearsal_free(struct rehearsal *r)
{
    ctx_free(&r->ctx);
    transformer_free(&r->m);
    transformer_free(&r->teacher);
    blocks_close(&r->blocks); // the model may lie in them
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
    const int64_t T = r->args.pass.T, vocab = r->args.dims->vocab;
    const uint64_t key = rng_key(1, "rehearsal");
    for (int64_t i = 0; i < r->args.pass.n_seqs; i++) {
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
    const struct lesson lesson = {.m = &r->m,
                                  .teacher = r->args.pass.teacher ? &r->teacher : NULL,
                                  .kl = 1};
    struct loss loss = {0};
    store_zero_grad(trained(&r->m));
    for (int64_t done = 0; done < r->args.batch; done += r->args.pass.n_seqs) {
        const struct profile_span span = profile_begin(&r->profile);
        fill(r, done);
        profile_add(&r->profile, &span, "data", false, NULL);
        ctx_reset(&r->ctx);
        lesson_run(&r->ctx, &lesson, &r->batch, r->target, &loss);
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

int rehearsal_plan(const struct plan_step *a, struct profile *p)
{
    struct plan_args pass = a->pass;
    struct transformer m;
    struct blocks blocks = {0};
    const struct lora_args *l = pass.lora;
    pass.profile = p;
    if (!plan_train(a->dims, &pass) || p->failed || transformer_init(&m, a->dims, STORE_SHAPES))
        return -1;
    int rc = a->qat ? blocks_open(&blocks, a->qat, pass.bf16, a->folder, &m) : 0;
    if (!rc && l)
        rc = lora_add_targets(&m, l) || lora_attach(&m, l->alpha, STORE_SHAPES) ? -1 : 0;
    if (!rc) {
        const struct store *s = trained(&m);
        add(p, "data", (struct cost){0});
        repeat(p, a->batch / pass.n_seqs);
        add(p, "gradient norm", norm_cost(s));
        add(p, "optimizer", moving_cost(a, &m, &blocks.qat.scales));
        add(p, "projection", project_cost(s, pass.bf16 && !l));
    }
    if (a->qat)
        blocks_close(&blocks);
    transformer_free(&m);
    return rc;
}

double rehearsal_flops(const struct profile *p)
{
    double sum = 0;
    for (int i = 0; i < p->n; i++)
        sum += strcmp(p->row[i].name, "optimizer") ? p->row[i].flops : 0;
    return sum;
}
