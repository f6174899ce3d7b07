#include "experiments/plan.h"

#include <stdlib.h>

#include "autograd/base/mem.h"
#include "experiments/blocks.h"

/* The peak of one pass. A batch whose token values do not matter: a measuring ctx never reads them.
   0 with err() set if it failed. */
static size_t pass_once(struct ctx *ctx, struct transformer *m, struct transformer *teacher,
                        const struct batch *b, bool train)
{
    static const int32_t none;
    const bool training = ctx->training;
    struct head_voice voice = {0};
    struct loss loss = {0};
    if (teacher) {
        ctx->recording = ctx->training = false;
        voice.hidden = transformer_forward(ctx, teacher, b);
        voice.w = &teacher->output->used;
        ctx->recording = true;
        ctx->training = training;
    }
    const struct head_loss_args args = {.target = &none,
                                        .weight = 1,
                                        .teacher = voice.hidden ? &voice : NULL,
                                        .kl = 1};
    struct tensor *hidden = transformer_forward(ctx, m, b);
    if (!op_head_loss(ctx, hidden, &m->output->used, &args, &loss) && train)
        tape_backward(ctx, NULL);
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
        ctx.training = train && a->drops;
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

struct plan_model plan_model(const struct transformer_dims *dims, enum optimizer_kind optimizer,
                             bool ema, bool bf16)
{
    int64_t rest;
    const struct optimizer *o = &optimizers[optimizer];
    const size_t slab = (size_t)transformer_params(dims, &rest) * sizeof(float);
    const bool rotary = !(arch_rows[dims->arch].traits & ARCH_LEARNED);
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

struct plan_model plan_lora(const struct transformer_dims *dims, enum optimizer_kind optimizer,
                            bool bf16, const struct lora_args *lora)
{
    const struct optimizer *o = &optimizers[optimizer];
    struct plan_model p = plan_model(dims, optimizer, false, bf16);
    struct transformer m;
    if (shapes(&m, dims, bf16, lora))
        return (struct plan_model){0};
    const size_t factors = (size_t)store_numel(&m.lora.factors) * sizeof(float);
    size_t vectors = 0;
    for (int i = 0; i < m.store.n; i++)
        vectors += m.store.p[i].used.nd == 1 ? tensor_bytes(&m.store.p[i].used) : 0;
    p.weights = (bf16 ? vectors : p.weights) + factors;
    p.grads = factors;
    p.states = (size_t)o->n_states * factors;
    p.states += o->scratch ? o->scratch(&m.lora.factors) * sizeof(float) : 0;
    transformer_free(&m);
    return p;
}
