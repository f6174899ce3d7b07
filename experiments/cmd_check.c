/* attar check CONFIG.yaml [key=value ...]: every mistake, then what a run will need. */
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "autograd/kernels/gemm.h"
#include "autograd/kernels/gemm_bf16.h"
#include "experiments/checkpoint.h"
#include "experiments/cmd.h"
#include "experiments/config.h"
#include "experiments/estimate.h"
#include "experiments/export.h"
#include "experiments/flags.h"
#include "experiments/model.h"
#include "experiments/model_gguf.h"
#include "experiments/preflight.h"
#include "experiments/run.h"
#include "experiments/stage_plan.h"
#include "optim/optimizer.h"

struct check_args {
    const char *config;
    struct texts overrides;
    bool tensors;
};

/* What is known before, and what the stages add up to. */
struct sum {
    const struct config *c;
    const struct preflight *found;
    bool tensors;       /* the list of them is wanted */
    struct rates rates; /* of all stages */
    double seconds;     /* of training, validation and evaluation */
    bool guessed;       /* some of it by a guess of the text's tokens; or left out: */
    bool unknown;
    double disk;
    size_t memory;
    const char *widest; /* the stage that takes that */
};

static const struct field table[] = {
    {FIELD_AT(check_args, config), .type = FIELD_TEXT, .flags = FIELD_REQUIRED | FIELD_POSITIONAL,
     .doc = "the experiment, see `attar help config`"},
    {FIELD_AT(check_args, overrides), .type = FIELD_TEXTS, .flags = FIELD_POSITIONAL,
     .doc = "key=value: changes of the config, e.g. pretrain.lr=1e-3"},
    {FIELD_AT(check_args, tensors), .type = FIELD_BOOL,
     .doc = "list the tensors of files, with their types"},
    {0},
};

static const struct flags flags = {
    "check CONFIG.yaml [key=value ...] [--tensors]",
    "Lists all that would end the run of a config: mistakes, files, texts, room; or what it will "
    "need. Nothing is run or written.",
    table};

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

/* ", what 12 bytes" behind a line of memory; nothing for none. */
static void print_more(const char *what, size_t bytes)
{
    if (bytes)
        printf(",\n                      %s %zu bytes", what, bytes);
}

/* One line for each recompute choice; the one that the stage takes is marked. */
static int print_memory(const struct config_train *t, const struct plan_step *step,
                        const struct plan_memory *m)
{
    static const char *const names[] = {[RECOMPUTE_NONE] = "none", [RECOMPUTE_BLOCKS] = "blocks"};
    printf("  memory              weights %.1f MB, gradients %.1f MB, %s %.1f MB, tables %.1f MB",
           (double)(m->weights + m->factors) / MB, (double)m->grads / MB,
           optimizers[t->optimizer].name, (double)m->states / MB, (double)m->tables / MB);
    print_more("averaged weights", m->average);
    print_more("weights in bf16", m->panels);
    print_more("blocks", m->blocks);
    print_more("what they decode to", m->values);
    print_more("learned scales", m->scales);
    print_more("teacher", m->teacher);
    printf("\n");
    struct plan_args pass = step->pass;
    const size_t eval = plan_eval(step->dims, &pass);
    for (int r = RECOMPUTE_NONE; r <= RECOMPUTE_BLOCKS; r++) {
        pass.recompute = r == RECOMPUTE_BLOCKS;
        size_t arena = plan_train(step->dims, &pass);
        if (!arena || !eval)
            return -1;
        arena = arena > eval ? arena : eval;
        printf("  recompute: %-8s arena %14zu bytes, in all %14zu bytes%s\n", names[r], arena,
               m->sum + arena, r == t->recompute ? "   <- this config" : "");
    }
    return 0;
}

static void print_disk(const struct config_train *t, const struct plan_memory *m)
{
    const double one = (double)m->checkpoint;
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

/* Bytes of text a token: one by one, or as learnt pieces have them in English, by their number. */
static double token_bytes(const struct sum *sum)
{
    return sum->c->data.tokenizer.type == TOKENIZER_BYTE ? 1 : log2(sum->found->vocab) / 3.8;
}

/* Tokens of a part of the stage's text, about; 0: unknown. */
static int64_t tokens_of(const struct sum *sum, int stage, bool valid)
{
    const bool own = sum->c->stages[stage].kind == STAGE_FINETUNE;
    const struct preflight_text *t = own ? &sum->found->own[stage] : &sum->found->text;
    const double bytes = (double)t->count.bytes[valid];
    return t->known ? (int64_t)(bytes / token_bytes(sum)) : 0;
}

static void print_rate(const struct config_train *t, const struct estimate *e, double measured)
{
    printf("  FLOPs a token       %.4g forward, %.4g training; %.0f a step\n", e->eval_flops,
           e->step_flops / (double)t->batch_tokens, e->step_flops);
    printf("  speed               %.0f tokens/s planned (by rates measured in %.1f s)\n",
           (double)t->batch_tokens / e->step, measured);
    if (e->rounding > 0)
        printf("  time of qat         %.2g s of a step for rounding and decoding\n", e->rounding);
}

/* Of all steps and validations, as far as the text is known. */
static void print_times(struct sum *sum, int stage, const struct estimate *e)
{
    const struct config_train *t = &sum->c->stages[stage].train;
    const int64_t epoch = tokens_of(sum, stage, false), all = tokens_of(sum, stage, true);
    const bool guess = t->epochs > 0;
    if (guess && !epoch) {
        printf("  time                %.3g epochs; the text is not known yet\n", t->epochs);
        sum->unknown = true;
        return;
    }
    const int64_t steps = config_steps(t, epoch), n = validations(t, steps);
    const int64_t valid = t->eval_tokens && (!all || t->eval_tokens < all) ? t->eval_tokens : all;
    const double train = e->step * (double)steps, look = e->eval * (double)(valid * n);
    printf("  time                ");
    print_time(train);
    printf(" for %s%lld steps", guess ? "about " : "", (long long)steps);
    if (sum->c->data.valid_fraction > 0 && valid) {
        printf(" and ");
        print_time(look);
        printf(" for %lld validation%s", (long long)n, n > 1 ? "s" : "");
    } else if (sum->c->data.valid_fraction > 0) {
        printf("; %lld validation%s, each %.2g s for 100K tokens", (long long)n, n > 1 ? "s" : "",
               1e5 * e->eval);
        sum->unknown = true;
    }
    printf(", without samples\n");
    sum->seconds += train + look;
    sum->guessed |= guess || (valid == all && valid);
}

/* Dims of a model that is compared. 1; 0: a file that the run will make; -1 with err() set. */
static int compared_dims(const struct sum *sum, const char *name, struct transformer_dims *dims)
{
    struct checkpoint c;
    struct transformer m;
    struct tokenizer *tok;
    const char *type;
    char path[RUN_PATH];
    snprintf(path, sizeof path, "%.*s", (int)config_compare_name(name, &type), name);
    const int of = config_stage_find(sum->c, path);
    if (of >= 0)
        return model_stage_dims(sum->c, of, sum->found->vocab, dims) ? -1 : 1;
    if (access(path, F_OK))
        return 0;
    const int gguf = model_gguf_is(path);
    if (gguf < 0 || (gguf ? model_gguf_use(path, &m, &tok) : checkpoint_open(&c, path)))
        return -1;
    *dims = gguf ? m.dims : c.dims;
    if (gguf) {
        transformer_free(&m);
        tokenizer_free(tok);
    } else {
        checkpoint_close(&c);
    }
    return 1;
}

/* Passes of the model and of the reference, if there is one, through a text of so many tokens (0:
   not known yet). *seconds: a token's. 1; 0: a model is not there yet; -1 with err() set. */
static int compared_seconds(struct sum *sum, const char *name, const char *reference,
                            int64_t tokens, double *seconds)
{
    static struct transformer_dims dims; // large
    const char *const pass[] = {name, reference};
    struct plan_args args = {.parts = 1};
    *seconds = 0;
    for (int i = 0; i < 2 && pass[i]; i++) {
        struct estimate e;
        const int rc = compared_dims(sum, pass[i], &dims);
        if (rc <= 0)
            return rc;
        if (!i) {
            args.T = tokens && tokens < dims.context ? tokens : dims.context;
            args.n_seqs = args.T < STAGE_EVALUATE_TOKENS ? STAGE_EVALUATE_TOKENS / args.T : 1;
        }
        if (estimate_evaluation(&dims, &args, &sum->rates, &e))
            return -1;
        *seconds += e.eval;
    }
    return 1;
}

/* What each model that is compared takes, as if it was in f32. */
static int print_evaluations(struct sum *sum, int stage)
{
    const struct config_evaluate *e = &sum->c->stages[stage].evaluate;
    const int64_t all = tokens_of(sum, stage, true);
    const int64_t tokens = e->tokens && (!all || e->tokens < all) ? e->tokens : all;
    for (int k = 0; k < e->compare.n; k++) {
        double each;
        const int rc = compared_seconds(sum, e->compare.value[k], e->reference, all, &each);
        if (rc < 0)
            return -1;
        printf("  evaluates           %s", e->compare.value[k]);
        if (rc && tokens) {
            printf(", about ");
            print_time(each * (double)tokens);
            sum->seconds += each * (double)tokens;
            sum->guessed = true;
        } else {
            if (rc)
                printf(", %.2g s for 100K tokens", 1e5 * each);
            else
                printf(", which is not there yet");
            sum->unknown = true;
        }
        printf("\n");
    }
    return 0;
}

/* What it needs, by the step that it runs. */
static int print_step(struct sum *sum, int i, const struct stage_plan *p)
{
    const struct config_train *t = &sum->c->stages[i].train;
    const int64_t T = p->step.pass.T;
    const bool bf16 = p->step.pass.bf16;
    const double before = sum->rates.seconds;
    struct plan_memory m;
    struct estimate e;
    int64_t rest;
    const int64_t params = transformer_params(&p->dims, &rest);
    printf("  parameters          %lld (%lld without embeddings)\n", (long long)params,
           (long long)rest);
    printf("  precision           %s (%s)\n", bf16 ? "bf16" : "f32",
           bf16 ? gemm_bf16->name : gemm_describe());
    printf("  batch               %lld tokens: %lld sequences of %lld, %lld tokens at once\n",
           (long long)t->batch_tokens, (long long)(t->batch_tokens / T), (long long)T,
           (long long)(p->step.pass.n_seqs * T));
    if (plan_memory(&p->step, &m) || print_memory(t, &p->step, &m))
        return -1;
    print_disk(t, &m);
    if (estimate_training(&p->step, &sum->rates, &e))
        return -1;
    print_rate(t, &e, sum->rates.seconds - before);
    print_times(sum, i, &e);
    return 0;
}

static int print_training(struct sum *sum, int i)
{
    static struct stage_plan p; // large
    const int rc =
        stage_plan_init(&p, sum->c, i, sum->found->vocab) || print_step(sum, i, &p) ? -1 : 0;
    stage_plan_free(&p);
    return rc;
}

static void print_types(const struct export_plan *p, bool all)
{
    for (int i = 0; i < p->n && all; i++) {
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

/* What the model that stage i starts from says about itself. 0, or -1 with err() set. */
static int find_about(const struct config *c, int i, struct buf *about)
{
    struct checkpoint from;
    while (c->stages[i].parent >= 0)
        i = c->stages[i].parent;
    if (!c->stages[i].checkpoint)
        return 0;
    if (checkpoint_open(&from, c->stages[i].checkpoint))
        return -1;
    if (from.about.n)
        buf_add(about, from.about.p, from.about.n);
    checkpoint_close(&from);
    return about->failed ? -1 : 0;
}

/* `from`: the stage that makes the model, NULL: a file. */
static int print_size(const struct config *c, int i, const char *from, bool weighed,
                      const struct export_plan *p)
{
    struct buf about = {0};
    if (find_about(c, i, &about))
        return -1;
    struct tokenizer *t = model_known_tokenizer(c);
    struct gguf_write w = {0};
    const struct export_origin origin = {.name = c->name,
                                         .stage = from,
                                         .config_hash = "0123456789abcdef0123456789abcdef",
                                         .about = &about,
                                         .trained = true};
    if (t && from && !weighed) {
        export_declare(p, t, &origin, NULL, NULL, &w);
        printf("  file size           %llu bytes\n", (unsigned long long)gguf_write_size(&w));
        gguf_write_abandon(&w);
    } else {
        printf("  file size           %llu bytes of tensors, and metadata%s\n",
               (unsigned long long)p->bytes, t ? "" : ": the tokenizer is not made yet");
    }
    tokenizer_free(t);
    buf_free(&about);
    return 0;
}

/* What the stage's model looks like as a file of that type: what it is exported as, or trained as.
 */
static int print_file(const struct sum *sum, int i, const char *from, const char *type,
                      const struct mix_args *mix)
{
    const struct config *c = sum->c;
    static struct transformer_dims dims; // large
    struct transformer m;
    struct recipe r;
    struct export_plan p;
    if (model_stage_dims(c, i, sum->found->vocab, &dims) || mix_args_recipe(mix, type, &r))
        return -1;
    int rc = c->stages[i].kind == STAGE_EXPORT ? export_check(&dims) : 0;
    rc = rc ? rc : transformer_init(&m, &dims, STORE_SHAPES);
    if (!rc) {
        rc = export_plan(&p, &m, &r, mix->imatrix != NULL);
        if (!rc) {
            printf("  type                %s\n", r.mix->name);
            print_types(&p, sum->tensors);
            rc = print_size(c, i, from, mix->imatrix != NULL, &p);
            export_plan_free(&p);
        }
        transformer_free(&m);
    }
    recipe_free(&r);
    return rc;
}

static void print_text(const struct sum *sum)
{
    const struct preflight_text *t = &sum->found->text;
    const double each = token_bytes(sum);
    if (!t->known) {
        printf("text: not read yet\n");
        return;
    }
    const int64_t *bytes = t->count.bytes, *documents = t->count.documents;
    printf("text: %lld documents, %lld bytes; about %lld + %lld tokens (training + validation)",
           (long long)(documents[0] + documents[1]), (long long)(bytes[0] + bytes[1]),
           (long long)((double)bytes[0] / each), (long long)((double)bytes[1] / each));
    printf(each > 1 ? ", by a guess of %.1f bytes a token\n" : "\n", each);
}

static int print_stage(struct sum *sum, int i)
{
    const struct config *c = sum->c;
    const struct config_stage *s = &c->stages[i];
    const char *kind = config_kinds[s->kind].name;
    const bool named = strcmp(s->name, kind) != 0;
    printf("\nstage %d: %s%s%s%s%s\n", i + 1, s->name, s->from ? ", from " : "",
           s->from ? s->from : "", named ? ", kind " : "", named ? kind : "");
    if (config_kinds[s->kind].makes_model && print_training(sum, i))
        return -1;
    const char *from = s->parent >= 0 ? c->stages[s->parent].name : NULL;
    if ((s->kind == STAGE_EXPORT && print_file(sum, i, from, s->export.type, &s->export.mix)) ||
        (s->kind == STAGE_QAT && print_file(sum, i, s->name, s->qat.type, &s->qat.mix)))
        return -1;
    if (s->kind == STAGE_EVALUATE && print_evaluations(sum, i))
        return -1;
    sum->disk += sum->found->disk[i];
    if (sum->found->memory[i] > sum->memory) {
        sum->memory = sum->found->memory[i];
        sum->widest = s->name;
    }
    return 0;
}

static void print_sum(const struct sum *sum)
{
    printf("\nin all\n  time                %s", sum->guessed ? "about " : "");
    print_time(sum->seconds);
    printf(" of training, validation and evaluation%s, without samples\n",
           sum->unknown ? ", and what is not known yet" : "");
    if (sum->widest)
        printf("  memory              %.1f MB at most of training, in stage %s; this machine has "
               "%.1f MB\n",
               (double)sum->memory / MB, sum->widest, sum->found->ram / MB);
    printf("  disk                %.1f MB at most; %.1f MB are free\n", sum->disk / MB,
           sum->found->room / MB);
}

static int check(const struct config *c, bool tensors)
{
    static struct preflight found; // large
    struct sum sum = {.c = c, .found = &found, .tensors = tensors, .rates = {.most = MOST_SECONDS}};
    int rc = preflight(c, true, &found);
    if (rc)
        return rc;
    printf("%s: no mistakes; vocabulary %d, %d threads\n", c->name, found.vocab,
           omp_get_max_threads());
    print_text(&sum);
    for (int i = 0; i < c->n_stages && !rc; i++)
        if (print_stage(&sum, i))
            rc = err_in("stage %s", c->stages[i].name);
    if (!rc)
        print_sum(&sum);
    rates_free(&sum.rates);
    return rc;
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
        rc = check(&config, args.tensors);
    }
    config_free(&config);
    pool_free(&pool);
    return rc == FLAGS_HELP ? 0 : rc;
}
