/* attar check CONFIG.yaml [key=value ...]: every mistake, then what a run will need. */
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <string.h>

#include "autograd/kernels/gemm.h"
#include "autograd/kernels/gemm_bf16.h"
#include "experiments/blocks.h"
#include "experiments/cmd.h"
#include "experiments/config.h"
#include "experiments/estimate.h"
#include "experiments/export.h"
#include "experiments/flags.h"
#include "experiments/model.h"
#include "experiments/plan.h"
#include "experiments/stage_lora.h"
#include "optim/optimizer.h"

struct check_args {
    const char *config;
    struct texts overrides;
};

static const struct field table[] = {
    {FIELD_AT(check_args, config), .type = FIELD_TEXT, .flags = FIELD_REQUIRED | FIELD_POSITIONAL,
     .doc = "the experiment, see `attar help config`"},
    {FIELD_AT(check_args, overrides), .type = FIELD_TEXTS, .flags = FIELD_POSITIONAL,
     .doc = "key=value: changes of the config, e.g. pretrain.lr=1e-3"},
    {0},
};

static const struct flags flags = {
    "check CONFIG.yaml [key=value ...]",
    "Lists all mistakes of a config, or what its run will need. Nothing is run or written.", table};

static const double MB = 1e6;
static const double MOST_SECONDS = 5; // to measure rates in

static void print_time(double seconds)
{
    const long s = lround(seconds);
    if (s >= 3600)
        printf("%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else
        printf("%ld:%02ld", s / 60, s % 60);
}

/* One line for each recompute choice; the one that the stage takes is marked. */
static int print_memory(const struct config_train *t, const struct transformer_dims *dims,
                        struct plan_args plan)
{
    static const char *const names[] = {[RECOMPUTE_NONE] = "none", [RECOMPUTE_BLOCKS] = "blocks"};
    const enum optimizer_kind o = (enum optimizer_kind)t->optimizer;
    const struct plan_model m = plan.lora ? plan_lora(dims, o, plan.bf16, plan.lora)
                                          : plan_model(dims, o, t->ema > 0, plan.bf16);
    if (!m.weights)
        return -1;
    const size_t fixed = m.weights + m.grads + m.states + m.average + m.panels + m.tables;
    printf("  memory              weights %.1f MB, gradients %.1f MB, %s %.1f MB, tables %.1f MB",
           (double)m.weights / MB, (double)m.grads / MB, optimizers[t->optimizer].name,
           (double)m.states / MB, (double)m.tables / MB);
    if (m.average)
        printf(",\n                      averaged weights %.1f MB", (double)m.average / MB);
    if (m.panels)
        printf(",\n                      weights in bf16 %.1f MB", (double)m.panels / MB);
    printf("\n");
    const size_t eval = plan_eval(dims, &plan);
    for (int r = RECOMPUTE_NONE; r <= RECOMPUTE_BLOCKS; r++) {
        plan.recompute = r == RECOMPUTE_BLOCKS;
        size_t arena = plan_train(dims, &plan);
        if (!arena || !eval)
            return -1;
        arena = arena > eval ? arena : eval;
        printf("  recompute: %-8s arena %14zu bytes, in all %9.1f MB%s\n", names[r], arena,
               (double)(fixed + arena) / MB, r == t->recompute ? "   <- this config" : "");
    }
    return 0;
}

static void print_disk(const struct config_train *t, const struct transformer_dims *dims)
{
    int64_t rest;
    const double one = (double)transformer_params(dims, &rest) * sizeof(float) *
                       (1 + optimizers[t->optimizer].n_states + (t->ema > 0));
    printf("  disk                %.1f MB a checkpoint, at most %.1f MB at a time (%lld kept, the "
           "best,\n                      one being written)\n",
           one / MB, one / MB * (double)(t->keep_last + 2), (long long)t->keep_last);
}

/* Validations of a stage of so many steps: after every eval_every, and at the end; with averaged
   weights each is two. */
static int64_t validations(const struct config_train *t, int64_t steps)
{
    const int64_t each = t->ema > 0 ? 2 : 1;
    if (!t->eval_every)
        return each;
    return each * (steps / t->eval_every + (steps % t->eval_every != 0));
}

static int print_rate(const struct config *c, const struct config_train *t,
                      const struct rehearsal_args *step)
{
    struct estimate e;
    struct rates rates = {.most = MOST_SECONDS};
    const int rc = estimate_training(step, &rates, &e);
    const double measured = rates.seconds;
    rates_free(&rates);
    if (rc)
        return -1;
    printf("  speed               %.0f tokens/s planned (by rates measured in %.1f s)\n",
           (double)t->batch_tokens / e.step, measured);
    if (t->epochs > 0) {
        printf("  time                %.3g epochs; depends on the corpus' tokens\n", t->epochs);
        return 0;
    }
    const int64_t steps = config_steps(t, 0), n = validations(t, steps);
    printf("  time                ");
    print_time(e.step * (double)steps);
    printf(" for %lld steps", (long long)steps);
    if (!(c->data.valid_fraction > 0)) {
        printf(", without samples\n");
    } else if (t->eval_tokens) {
        printf(" and ");
        print_time(e.eval * (double)(t->eval_tokens * n));
        printf(" for %lld validation%s, without samples\n", (long long)n, n > 1 ? "s" : "");
    } else {
        printf(", without samples; %lld validation%s, each %.2g s for 100K tokens\n", (long long)n,
               n > 1 ? "s" : "", 1e5 * e.eval);
    }
    return 0;
}

/* For stages `qat` that round activations: their recipe. 0, or -1 with err() set. */
static int plan_rounding(const struct config_stage *s, struct plan_args *plan, struct recipe *r)
{
    *r = (struct recipe){0};
    if (s->kind != STAGE_QAT || !s->qat.activations)
        return 0;
    plan->rounds = r;
    plan->weighed = s->qat.mix.imatrix;
    return mix_args_recipe(&s->qat.mix, s->qat.type, r);
}

static int print_training(const struct config *c, int i, int vocab)
{
    static struct transformer_dims dims, teacher; // large
    const struct config_stage *s = &c->stages[i];
    const struct config_train *t = &s->train;
    const bool lora = s->kind == STAGE_QAT && s->qat.params == PARAMS_LORA;
    const struct lora_args factors = stage_lora_args(s);
    int64_t rest;
    double head;
    if (model_stage_dims(c, i, vocab, &dims) || config_batch_check(t, dims.context))
        return -1;
    const int taught = model_teacher_dims(c, i, vocab, &teacher);
    if (taught < 0)
        return -1;
    const int64_t T = dims.context, micro = config_micro_batch(t, T);
    const int64_t params = transformer_params(&dims, &rest);
    const double flops = transformer_flops(&dims, (double)T / 2, &head);
    struct recipe recipe;
    struct plan_args plan = {.n_seqs = micro / T,
                             .T = T,
                             .parts = c->data.mask_documents ? T : 1,
                             .recompute = t->recompute == RECOMPUTE_BLOCKS,
                             .bf16 = config_bf16(t),
                             .drops = dims.dropout > 0,
                             .lora = lora ? &factors : NULL,
                             .teacher = taught ? &teacher : NULL};
    printf("  parameters          %lld (%lld without embeddings)\n", (long long)params,
           (long long)rest);
    printf("  FLOPs a token       %.4g forward, %.4g training\n", flops,
           (lora ? 2 : 3) * flops + (plan.recompute ? flops - head : 0));
    printf("  precision           %s (%s)\n", plan.bf16 ? "bf16" : "f32",
           plan.bf16 ? gemm_bf16->name : gemm_describe());
    printf("  batch               %lld tokens: %lld sequences of %lld, %lld tokens at once\n",
           (long long)t->batch_tokens, (long long)(t->batch_tokens / T), (long long)T,
           (long long)micro);
    const int bad = plan_rounding(s, &plan, &recipe) || print_memory(t, &dims, plan);
    recipe_free(&recipe);
    if (bad)
        return -1;
    if (taught)
        printf("  teacher             %.1f MB beside that%s\n",
               (double)transformer_params(&teacher, &rest) * (plan.bf16 ? 6 : 4) / MB,
               plan.bf16 ? ", its weights in bf16 with it" : "");
    if (!lora) // a checkpoint of factors has the blocks, once more
        print_disk(t, &dims);
    const struct rehearsal_args step = {.dims = &dims,
                                        .T = T,
                                        .batch = t->batch_tokens / T,
                                        .micro = plan.n_seqs,
                                        .optimizer = (enum optimizer_kind)t->optimizer,
                                        .ema = t->ema > 0,
                                        .recompute = plan.recompute,
                                        .bf16 = plan.bf16,
                                        .lora = plan.lora};
    return print_rate(c, t, &step);
}

static void print_types(const struct export_plan *p)
{
    for (int i = 0; i < p->n; i++) {
        const struct export_tensor *t = &p->tensor[i];
        printf("  %-30s %7llu x %-7llu %-7s %12llu bytes", t->name, (unsigned long long)t->dim[1],
               (unsigned long long)t->dim[0], t->choice.dt->name, (unsigned long long)t->bytes);
        if (t->choice.dt != t->choice.wanted)
            printf("   rows are no blocks of %s", t->choice.wanted->name);
        printf("\n");
    }
    printf(
        "  bits per weight     %.4g of %llu; %d of %d tensors of another type than the mix has\n",
        8 * (double)p->bytes / (double)p->elements, (unsigned long long)p->elements, p->fallbacks,
        p->n);
}

/* What a stage that trains in blocks takes beside what a plain one does. 0, or -1 with err(). */
static int print_blocks(const struct config *c, const struct config_stage *s,
                        const struct transformer *m)
{
    const bool muon = s->train.optimizer == OPTIMIZER_MUON; // AdamW moves the scales
    const int states = optimizers[muon ? OPTIMIZER_ADAMW : s->train.optimizer].n_states;
    struct blocks b;
    double seconds;
    if (blocks_open(&b, &s->qat, config_bf16(&s->train), c->folder, m))
        return -1;
    const struct qat_bytes n = qat_bytes(&b.qat, states);
    const int rc = blocks_seconds(&b, &seconds);
    blocks_close(&b);
    if (rc)
        return -1;
    printf("  memory of qat       blocks %zu bytes", n.blocks);
    if (s->qat.params == PARAMS_LORA) // which are the weights, in f32 they are decoded to them
        return printf("\n"), 0;
    if (n.values)
        printf(", what they decode to %zu", n.values);
    if (n.scales)
        printf(", learned scales %zu", n.scales);
    printf("\n  time of qat         %.2g s a step for rounding and decoding\n", seconds);
    return 0;
}

/* `from`: the stage that makes the model, NULL: a file. */
static void print_size(const struct config *c, const char *from, bool weighed,
                       const struct export_plan *p)
{
    struct tokenizer *t = model_known_tokenizer(c);
    struct gguf_write w = {0};
    const struct export_origin origin = {.name = c->name,
                                         .stage = from,
                                         .config_hash = "0123456789abcdef0123456789abcdef"};
    if (t && from && !weighed) {
        export_declare(p, t, &origin, NULL, NULL, &w);
        printf("  file size           %llu bytes\n", (unsigned long long)gguf_write_size(&w));
        gguf_write_abandon(&w);
    } else {
        printf("  file size           %llu bytes of tensors, and metadata: the tokenizer is not "
               "made yet\n",
               (unsigned long long)p->bytes);
    }
    tokenizer_free(t);
}

/* What the stage's model looks like as a file of that type: what it is exported as, or trained as.
 */
static int print_file(const struct config *c, int i, int vocab, const char *from, const char *type,
                      const struct mix_args *mix)
{
    static struct transformer_dims dims; // large
    struct transformer m;
    struct recipe r;
    struct export_plan p;
    if (model_stage_dims(c, i, vocab, &dims) || mix_args_recipe(mix, type, &r))
        return -1;
    int rc = transformer_init(&m, &dims, STORE_SHAPES);
    if (!rc) {
        rc = export_plan(&p, &m, &r, mix->imatrix != NULL);
        if (!rc) {
            printf("  type                %s\n", r.mix->name);
            print_types(&p);
            if (c->stages[i].kind == STAGE_QAT)
                rc = print_blocks(c, &c->stages[i], &m);
            print_size(c, from, mix->imatrix != NULL, &p);
            export_plan_free(&p);
        }
        transformer_free(&m);
    }
    recipe_free(&r);
    return rc;
}

static int check(const struct config *c)
{
    const int vocab = model_vocabulary(c);
    if (vocab < 0)
        return err_in("data.tokenizer");
    printf("%s: no mistakes; vocabulary %d, %d threads\n", c->name, vocab, omp_get_max_threads());
    for (int i = 0; i < c->n_stages; i++) {
        const struct config_stage *s = &c->stages[i];
        printf("\nstage %d: %s%s%s%s%s\n", i + 1, s->name, s->from ? ", from " : "",
               s->from ? s->from : "", strcmp(s->name, config_kinds[s->kind].name) ? ", kind " : "",
               strcmp(s->name, config_kinds[s->kind].name) ? config_kinds[s->kind].name : "");
        if (config_kinds[s->kind].makes_model && print_training(c, i, vocab))
            return err_in("stage %s", s->name);
        const char *from = s->parent >= 0 ? c->stages[s->parent].name : NULL;
        if ((s->kind == STAGE_EXPORT &&
             print_file(c, i, vocab, from, s->export.type, &s->export.mix)) ||
            (s->kind == STAGE_QAT && print_file(c, i, vocab, s->name, s->qat.type, &s->qat.mix)))
            return err_in("stage %s", s->name);
        for (int k = 0; k < s->evaluate.compare.n; k++)
            printf("  evaluates           %s\n", s->evaluate.compare.value[k]);
    }
    return 0;
}

int cmd_check(int argc, char **argv)
{
    struct check_args args;
    struct pool pool = {0};
    struct config config = {0};
    int rc = flags_parse(&flags, argc, argv, &args, &pool);
    if (!rc && !(rc = config_read(&config, args.config, args.overrides.n, args.overrides.value))) {
        if (config.threads > 0)
            omp_set_num_threads((int)config.threads);
        rc = check(&config);
    }
    config_free(&config);
    pool_free(&pool);
    return rc == FLAGS_HELP ? 0 : rc;
}
