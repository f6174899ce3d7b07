/* Stage `evaluate`: the validation loss of models side by side, and how far their predictions are
   from a reference's. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "autograd/base/clock.h"
#include "autograd/base/mem.h"
#include "experiments/adapter.h"
#include "experiments/checkpoint.h"
#include "experiments/contrast.h"
#include "experiments/export.h"
#include "experiments/interrupt.h"
#include "experiments/model_gguf.h"
#include "experiments/run.h"

struct subject {
    struct transformer m;
    struct tokenizer *tok;
    char path[RUN_PATH];
    const char *type; /* quantized as that first; NULL: as it is */
    int stage;        /* of the run, whose model or file it is; -1: a path */
};

static const struct config_stage *stage_of(const struct run *r, const struct subject *s)
{
    return s->stage >= 0 ? &r->config->stages[s->stage] : NULL;
}

/* A name in `compare` is a stage's or a path, and may have a @TYPE behind it. */
static void model_of(const struct run *r, const char *name, struct subject *s)
{
    snprintf(s->path, RUN_PATH, "%.*s", (int)config_compare_name(name, &s->type), name);
    s->stage = config_stage_find(r->config, s->path);
    if (s->stage >= 0 && stage_of(r, s)->kind == STAGE_EXPORT)
        stage_export_path(r, s->stage, s->path);
    else if (s->stage >= 0)
        run_stage_model(r, s->stage, s->path);
}

static void subject_close(struct subject *s)
{
    transformer_free(&s->m);
    tokenizer_free(s->tok);
}

/* The factors that a stage has exported beside its file, if there are any. 0, or -1 with err(). */
static int use_adapter(const struct run *r, struct subject *s)
{
    const struct config_stage *c = stage_of(r, s);
    char from[RUN_PATH];
    struct checkpoint source;
    struct buf path = {0};
    if (!c || c->kind != STAGE_EXPORT || c->export.merge)
        return 0;
    if (c->parent >= 0)
        run_stage_model(r, c->parent, from);
    else
        snprintf(from, sizeof from, "%s", c->checkpoint);
    if (checkpoint_open(&source, from))
        return -1;
    export_adapter_path(s->path, &path);
    const int rc = path.failed || (source.lora && adapter_use(&s->m, path.p, 1)) ? -1 : 0;
    buf_free(&path);
    checkpoint_close(&source);
    return rc;
}

/* The model as it lies in the file: a GGUF's weights stay in their blocks. 0, or -1 with err(). */
static int subject_open(struct run *r, const char *name, struct subject *s)
{
    model_of(r, name, s);
    const int gguf = model_gguf_is(s->path);
    if (gguf < 0)
        return -1;
    if (gguf ? model_gguf_use(s->path, &s->m, &s->tok) : checkpoint_use(s->path, &s->m, &s->tok))
        return -1;
    int rc = 0;
    if (!tokenizer_same_ids(s->tok, r->tok)) // what is measured are the corpus' ids
        rc = err("%s has another tokenizer than the corpus: their losses cannot be compared", name);
    if (!rc)
        rc = use_adapter(r, s);
    if (rc)
        subject_close(s);
    return rc;
}

/* Bytes of the file that a stage `export` of this run makes of the checkpoint, by the recipe or by
   the blocks that it is in. */
static int size_of(const struct run *r, const struct checkpoint *c, const struct transformer *m,
                   const struct tokenizer *tok, const struct recipe *recipe, int64_t *size)
{
    struct export_plan p;
    struct gguf_write w = {0};
    const struct export_origin origin = {.name = r->config->name,
                                         .stage = c->stage.p ? c->stage.p : "",
                                         .config_hash = c->config_hash.p ? c->config_hash.p : "",
                                         .about = &c->about,
                                         .trained = c->state.step > 0};
    if (export_plan(&p, m, recipe, false))
        return -1;
    export_declare(&p, tok, &origin, NULL, NULL, &w);
    *size = (int64_t)gguf_write_size(&w);
    gguf_write_abandon(&w);
    export_plan_free(&p);
    return 0;
}

/* The weights as they come out of a file of that type, and its bytes. */
static int quantize(const struct run *r, struct subject *s, struct summary_row *row)
{
    struct recipe recipe;
    struct checkpoint c;
    if (checkpoint_open(&c, s->path))
        return -1;
    int rc = recipe_init(&recipe, &(struct recipe_options){.type = s->type});
    if (!rc) {
        rc = size_of(r, &c, &s->m, s->tok, &recipe, &row->size);
        if (!rc)
            rc = export_round_trip(&s->m, &recipe, NULL);
        recipe_free(&recipe);
    }
    checkpoint_close(&c);
    return rc;
}

/* Bytes of the file of a model that was trained in blocks. */
static int blocks_size(const struct run *r, struct subject *s, struct summary_row *row)
{
    struct checkpoint c;
    struct transformer m;
    struct recipe recipe;
    if (checkpoint_open(&c, s->path))
        return -1;
    int rc = 0;
    if (c.mix.n && !(rc = recipe_init(&recipe, &(struct recipe_options){.type = c.mix.p}))) {
        rc = checkpoint_shapes(&c, &m);
        if (!rc) {
            rc = size_of(r, &c, &m, s->tok, &recipe, &row->size);
            transformer_free(&m);
        }
        recipe_free(&recipe);
    }
    checkpoint_close(&c);
    return rc;
}

/* Size, and weights of the type that is asked for. */
static int prepare(const struct run *r, struct subject *s, struct summary_row *row)
{
    if (s->type)
        return quantize(r, s, row);
    const int gguf = model_gguf_is(s->path);
    if (gguf > 0)
        row->size = (int64_t)gguf_size(s->m.store.file);
    return gguf < 0 ? -1 : gguf ? 0 : blocks_size(r, s, row);
}

/* Tokens of the windows that the text is read in, where sequences have so many: a text that is
   shorter is one window, and fills it. */
static int64_t window_tokens(const struct run *r, int64_t sequence)
{
    const int64_t predicted = r->corpus.part[CORPUS_VALID].tokens - 1;
    return sequence < predicted ? sequence : predicted;
}

/* What the stage that trained the model in blocks has said of it at its end, in the precision of
   its forward pass, if it was the same text in the same windows. 0, or -1 with err() set. */
static int trained_loss(const struct run *r, const struct subject *s,
                        const struct config_evaluate *e, double *loss)
{
    const struct config_stage *c = stage_of(r, s);
    char path[RUN_PATH];
    struct checkpoint from;
    *loss = NAN;
    if (c && c->kind == STAGE_EXPORT)
        c = c->parent >= 0 ? &r->config->stages[c->parent] : NULL;
    if (!c || c->kind != STAGE_QAT || s->type || e->tokens || c->train.eval_tokens)
        return 0;
    const int64_t T = s->m.dims.context;
    if (window_tokens(r, config_sequence(&c->train, T)) != window_tokens(r, T))
        return 0;
    run_stage_model(r, (int)(c - r->config->stages), path);
    if (checkpoint_open(&from, path))
        return -1;
    *loss = from.state.last_valid;
    checkpoint_close(&from);
    return 0;
}

static int measure(struct run *r, struct transformer *m, struct transformer *reference,
                   const struct config_evaluate *e, struct summary_row *row)
{
    const int64_t T = window_tokens(r, m->dims.context);
    const int64_t most = T < STAGE_EVALUATE_TOKENS ? STAGE_EVALUATE_TOKENS / T : 1;
    const bool pairs = r->corpus.part[CORPUS_VALID].masked;
    const struct loader_spec spec = {.side = CORPUS_VALID,
                                     .documents = run_documents(r->config, pairs),
                                     .prefetch = true,
                                     .context = (int)T};
    struct loader *loader = NULL;
    struct feed feed = {0};
    struct contrast sum = {0};
    if (m->dims.vocab < r->corpus.vocab_size)
        return err("it knows %d tokens, the corpus has %d", m->dims.vocab, r->corpus.vocab_size);
    if (reference && reference->dims.context < T)
        return err("windows of %lld tokens, the reference has a context of %d", (long long)T,
                   reference->dims.context);
    int rc = loader_open(&loader, &r->corpus, &spec) || feed_init(&feed, loader, T, most) ? -1 : 0;
    if (!rc) {
        const int64_t all = loader_windows(loader), some = (e->tokens + T - 1) / T;
        const int64_t windows = e->tokens && some < all ? some : all;
        const double bytes = (double)r->corpus.part[CORPUS_VALID].loss_bytes *
                             loader_share(loader) * (double)windows / (double)all;
        rc = contrast_run(&sum, &feed, m, reference, windows, row->name);
        if (!rc && !sum.count)
            rc = err("tokens: there is nothing to be predicted in the first %lld",
                     (long long)e->tokens);
        row->loss = sum.nll / (double)sum.count;
        row->perplexity = exp(row->loss);
        row->bits_per_byte = sum.nll / log(2) / bytes;
        const struct divergence_mean kl = contrast_kl(&sum);
        row->kld = reference ? kl.mean : NAN;
        row->kld_error = reference ? kl.error : NAN;
        row->tokens = sum.count;
    }
    feed_free(&feed);
    loader_close(loader);
    return rc;
}

static int evaluate_one(struct run *r, struct transformer *reference,
                        const struct config_evaluate *e, const char *name, struct summary_row *row)
{
    struct subject s;
    row->name = name;
    if (subject_open(r, name, &s))
        return -1;
    int rc = prepare(r, &s, row);
    if (!rc)
        rc = trained_loss(r, &s, e, &row->trained_loss);
    if (!rc)
        rc = measure(r, &s.m, reference, e, row);
    subject_close(&s);
    return rc < 0 ? err_in("%s", name) : rc;
}

static void print_rows(const struct summary_row *row, int n, bool apart)
{
    bool trained = false;
    for (int i = 0; i < n; i++)
        trained |= isfinite(row[i].trained_loss);
    printf("%-32s %10s %12s %14s %12s %12s", "model", "loss", "perplexity", "bits per byte",
           "tokens", "GGUF, bytes");
    if (apart)
        printf(" %24s", "KL from the reference");
    printf(trained ? " %20s\n" : "\n", "training minus it");
    for (int i = 0; i < n; i++, row++) {
        char size[32] = "";
        if (row->size)
            snprintf(size, sizeof size, "%lld", (long long)row->size);
        printf("%-32s %10.4f %12.3f %14.4f %12lld %12s", row->name, row->loss, row->perplexity,
               row->bits_per_byte, (long long)row->tokens, size);
        if (apart)
            printf("      %8.5f \302\261 %7.5f", row->kld, row->kld_error);
        if (isfinite(row->trained_loss))
            printf(" %+20.5f", row->trained_loss - row->loss);
        printf("\n");
    }
}

static int evaluate_all(struct run *r, int stage, struct transformer *reference,
                        struct summary_row *rows, double began)
{
    const struct config_evaluate *e = &r->config->stages[stage].evaluate;
    for (int i = 0; i < e->compare.n; i++) {
        const int rc = evaluate_one(r, reference, e, e->compare.value[i], &rows[i]);
        if (rc)
            return rc;
    }
    struct summary s;
    summary_init(&s);
    s.row = rows;
    s.n_rows = e->compare.n;
    s.seconds = clock_seconds() - began;
    print_rows(rows, e->compare.n, reference != NULL);
    return run_summary(r, stage, &s);
}

int stage_evaluate(struct run *r, int stage)
{
    const struct config_evaluate *e = &r->config->stages[stage].evaluate;
    const double began = clock_seconds();
    struct subject reference;
    if (r->corpus.part[CORPUS_VALID].tokens < 2)
        return err("there is no validation part: data.valid_fraction is 0");
    if (e->reference && subject_open(r, e->reference, &reference))
        return err_in("reference");
    struct summary_row *rows = mem_new((size_t)e->compare.n, sizeof *rows);
    const int rc =
        rows ? evaluate_all(r, stage, e->reference ? &reference.m : NULL, rows, began) : -1;
    free(rows);
    if (e->reference)
        subject_close(&reference);
    if (rc > 0)
        err("stopped by %s during an evaluation; the same command does it again", interrupt_name());
    return rc > 0 ? RUN_STOPPED : rc;
}
