#include "experiments/plan.h"

#include <stdlib.h>

#include "autograd/base/mem.h"
#include "experiments/blocks.h"
#include "experiments/lesson.h"

/* The peak of one pass. A batch whose token values do not matter: a measuring ctx never reads them.
   0 with err() set if it failed. */
static size_t pass_once(struct ctx *ctx, struct transformer *m, struct transformer *teacher,
                        const struct batch *b, bool train)
{
    static const int32_t none;
    struct loss loss = {0};
    const struct lesson lesson = {.m = m, .teacher = teacher, .kl = 1};
    const struct head_loss_args args = {.target = &none, .weight = 1};
    if (train)
        lesson_run(ctx, &lesson, b, &none, &loss);
    else
        op_head_loss(ctx, transformer_forward(ctx, m, b), &m->output->used, &args, &loss);
    if (!ctx->failed)
        return ctx->arena.peak;
    err("memory plan: %s", ctx->text);
    return 0;
}

/* How a batch is cut into attention sequences. With mask_documents that is the text's matter; the
   extremes stand for everything between them: tokens by themselves need the longest lists, whole
   windows the most scratch, and one window among tokens is most of the work, which attention splits
   in another way. */
enum cutting { WHOLE, ONE_WHOLE, TOKENS, CUTTINGS };

static int cut(const struct plan_args *a, enum cutting how, struct sequence *seqs)
{
    int n = 0;
    for (int64_t w = 0; w < a->n_seqs; w++) {
        const bool whole = how == WHOLE || (how == ONE_WHOLE && !w);
        const int64_t len = whole ? a->T : a->T / a->parts;
        for (int64_t at = 0; at < a->T; at += len)
            seqs[n++] = (struct sequence){.start = w * a->T + at, .len = len};
    }
    return n;
}

/* A model without memory. 0, or -1 with err() set. */
static int shapes(struct transformer *m, const struct transformer_dims *dims, bool bf16,
                  const struct lora_args *lora)
{
    if (transformer_init(m, dims, STORE_SHAPES))
        return -1;
    if (lora && (lora_add_targets(m, lora) || lora_attach(m, lora->alpha, STORE_SHAPES))) {
        transformer_free(m);
        return -1;
    }
    if (!bf16 || !store_panels(&m->store))
        return 0;
    transformer_free(m);
    return -1;
}

/* The peak of a pass over a batch that is cut so; *lists: what forward leaves when it keeps all. */
static size_t measure_cut(const struct transformer_dims *dims, const struct plan_args *a,
                          bool train, enum cutting how, struct sequence *seqs, size_t *lists)
{
    static const int32_t none;
    static const uint64_t no_row;
    const struct batch b = {.n = a->n_seqs * a->T,
                            .tok = &none,
                            .pos = &none,
                            .row_id = &no_row,
                            .seqs = seqs,
                            .n_seqs = cut(a, how, seqs)};
    struct transformer m, teacher = {0};
    struct ctx ctx;
    size_t peak = 0;
    const bool taught = train && a->teacher;
    if (shapes(&m, dims, a->bf16, a->lora))
        return 0;
    if (a->rounds && blocks_round_inputs(&m, a->rounds, a->weighed)) {
        transformer_free(&m);
        return 0;
    }
    if ((!taught || !shapes(&teacher, a->teacher, a->bf16, NULL)) && !ctx_init(&ctx, 0)) {
        ctx.act = a->bf16 ? &dtype_bf16 : &dtype_f32;
        ctx.training = train;
        ctx.recording = true;
        if (a->parts > 1)
            transformer_forward(&ctx, &m, &b);
        *lists = ctx.arena.lo;
        ctx_reset(&ctx);
        ctx.arena.peak = 0;
        ctx.recording = train;
        ctx.recompute = a->recompute;
        ctx.profile = how == WHOLE ? a->profile : NULL;
        peak = pass_once(&ctx, &m, taught ? &teacher : NULL, &b, train);
        ctx_free(&ctx);
    }
    transformer_free(&m);
    transformer_free(&teacher);
    return peak;
}

static size_t measure(const struct transformer_dims *dims, const struct plan_args *a, bool train)
{
    const int cuttings = a->parts > 1 ? CUTTINGS : WHOLE + 1;
    size_t peak[CUTTINGS], lists[CUTTINGS], most = 0;
    struct sequence *seqs = mem_new((size_t)(a->n_seqs * a->parts), sizeof *seqs);
    for (int i = 0; i < cuttings && seqs; i++) {
        peak[i] = measure_cut(dims, a, train, (enum cutting)i, seqs, &lists[i]);
        if (!peak[i]) {
            free(seqs);
            return 0;
        }
    }
    // the longest lists may come with the most scratch
    for (int i = 0; i < cuttings && seqs; i++) {
        const size_t more = lists[cuttings - 1] - lists[i];
        most = peak[i] + more > most ? peak[i] + more : most;
    }
    free(seqs);
    return most;
}

size_t plan_train(const struct transformer_dims *dims, const struct plan_args *args)
{
    return measure(dims, args, true);
}

size_t plan_eval(const struct transformer_dims *dims, const struct plan_args *args)
{
    return measure(dims, args, false);
}

/* One way of cutting. */
static size_t peak_of(const struct batch *b,
                      void (*pass)(struct ctx *ctx, const struct batch *b, void *arg), void *arg)
{
    struct ctx ctx;
    if (ctx_init(&ctx, 0))
        return 0;
    pass(&ctx, b, arg);
    const size_t peak = ctx.arena.peak;
    const bool failed = ctx.failed;
    if (failed)
        err("memory plan: %s", ctx.text);
    ctx_free(&ctx);
    return failed ? 0 : peak;
}

size_t plan_peak(const struct plan_args *a,
                 void (*pass)(struct ctx *ctx, const struct batch *b, void *arg), void *arg)
{
    static const uint64_t no_row;
    const size_t n = (size_t)(a->n_seqs * a->T);
    const int cuttings = a->parts > 1 ? CUTTINGS : WHOLE + 1;
    int32_t *token = mem_new(n, sizeof *token);
    struct sequence *seqs = mem_new((size_t)(a->n_seqs * a->parts), sizeof *seqs);
    size_t sum = token && seqs ? 1 : 0;
    for (int i = 0; i < cuttings && sum; i++) {
        const struct batch b = {.n = a->n_seqs * a->T,
                                .tok = token,
                                .pos = token,
                                .row_id = &no_row,
                                .seqs = seqs,
                                .n_seqs = cut(a, (enum cutting)i, seqs)};
        const size_t peak = peak_of(&b, pass, arg);
        sum = peak ? sum + peak : 0; // what lies between them needs less than all: it is reserved,
                                     // not touched
    }
    free(token);
    free(seqs);
    return sum;
}

/* ---- what is kept between steps ---- */

bool plan_scales_only(const struct plan_step *s)
{
    return s->qat && s->qat->params == PARAMS_SCALES;
}

/* Rotary tables that cover T positions. */
static size_t table_bytes(const struct transformer *m, int64_t T)
{
    const bool rotary = m->rope.cos;
    return rotary ? (size_t)rope_rows(&m->rope, T) * (size_t)m->dims.head_dim * sizeof(float) : 0;
}

static size_t slab_bytes(const struct store *s)
{
    return s->len * sizeof(float);
}

static int plan_teacher(const struct plan_args *a, size_t *bytes)
{
    struct transformer m;
    *bytes = 0;
    if (!a->teacher)
        return 0;
    if (transformer_init(&m, a->teacher, STORE_SHAPES))
        return err_in("teacher");
    *bytes =
        slab_bytes(&m.store) + table_bytes(&m, a->T) + (a->bf16 ? store_panels_bytes(&m.store) : 0);
    transformer_free(&m);
    return 0;
}

/* What is left in f32 of frozen weights that are used as blocks: those that have none. */
static size_t left_in_f32(const struct transformer *m, const struct qat *q)
{
    size_t n = 0;
    for (int i = 0; i < m->store.n; i++)
        n += qat_find(q, m->store.p[i].name) ? 0 : tensor_bytes(&m->store.p[i].used);
    return n;
}

static void plan_blocks(const struct plan_step *s, const struct transformer *m,
                        const struct blocks *b, struct plan_memory *p)
{
    const bool muon = s->optimizer == OPTIMIZER_MUON; // AdamW moves the scales
    const int states = optimizers[muon ? OPTIMIZER_ADAMW : s->optimizer].n_states;
    const struct qat_bytes n = qat_bytes(&b->qat, states);
    p->blocks = n.blocks;
    p->scales = n.scales;
    p->checkpoint += n.blocks + slab_bytes(&b->qat.scales) * (size_t)(1 + states);
    if (!s->pass.lora)
        p->values = n.values;
    else if (s->pass.bf16)
        p->weights = left_in_f32(m, &b->qat);
}

static void plan_trained(const struct plan_step *s, const struct transformer *m,
                         struct plan_memory *p)
{
    const struct optimizer *o = &optimizers[s->optimizer];
    const struct store *trained = s->pass.lora ? &m->lora.factors : &m->store;
    const size_t slab = slab_bytes(trained);
    p->factors = s->pass.lora ? slab : 0;
    p->grads = slab;
    p->average = s->ema ? slab : 0;
    if (plan_scales_only(s))
        return;
    const size_t slabs = (size_t)o->n_states * slab;
    p->states = slabs + (o->scratch ? o->scratch(trained) * sizeof(float) : 0);
    p->checkpoint += slabs;
}

int plan_memory(const struct plan_step *s, struct plan_memory *p)
{
    struct transformer m;
    struct blocks b = {0};
    *p = (struct plan_memory){0};
    if (transformer_init(&m, s->dims, STORE_SHAPES))
        return -1;
    int rc = plan_teacher(&s->pass, &p->teacher);
    if (!rc && s->qat)
        rc = blocks_open(&b, s->qat, s->pass.bf16, s->folder, &m);
    p->weights = slab_bytes(&m.store);
    p->tables = table_bytes(&m, s->pass.T);
    p->panels = s->pass.bf16 ? store_panels_bytes(&m.store) : 0;
    const struct lora_args *l = s->pass.lora;
    if (!rc && l)
        rc = lora_add_targets(&m, l) || lora_attach(&m, l->alpha, STORE_SHAPES) ? -1 : 0;
    if (!rc) {
        plan_trained(s, &m, p);
        plan_blocks(s, &m, &b, p);
        const size_t saved = l ? left_in_f32(&m, &b.qat) : p->weights;
        p->sum = p->weights + p->factors + p->grads + p->states + p->average + p->panels +
                 p->tables + p->blocks + p->values + p->scales + p->teacher;
        p->checkpoint += saved + p->factors + p->average;
    }
    if (s->qat)
        blocks_close(&b);
    transformer_free(&m);
    return rc;
}
