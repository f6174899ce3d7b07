/* Stage `evaluate`: the validation loss of models side by side. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/mem.h"
#include "experiments/checkpoint.h"
#include "experiments/export.h"
#include "experiments/feed.h"
#include "experiments/interrupt.h"
#include "experiments/plan.h"
#include "experiments/run.h"

enum { BATCH_TOKENS = 8192 };

/* A name in `compare` is a stage's or a path, and may have a @TYPE behind it. */
static void model_of(const struct run *r, const char *name, char path[RUN_PATH], const char **type)
{
    snprintf(path, RUN_PATH, "%.*s", (int)config_compare_name(name, type), name);
    const int i = config_stage_find(r->config, path);
    if (i >= 0)
        run_stage_model(r, i, path);
}

/* The weights as they come out of a file of that type, and its bytes. */
static int quantize(struct run *r, struct transformer *m, const struct tokenizer *tok,
                    const char *type, struct summary_row *row)
{
    struct recipe recipe;
    struct export_plan p;
    struct gguf_write w = {0};
    const struct export_origin origin = {.name = r->config->name,
                                         .stage = "",
                                         .config_hash = r->hash};
    if (recipe_init(&recipe, &(struct recipe_options){.type = type}))
        return -1;
    int rc = export_plan(&p, m, &recipe, false);
    if (!rc) {
        export_declare(&p, tok, &origin, NULL, NULL, &w);
        row->size = (int64_t)gguf_write_size(&w);
        gguf_write_abandon(&w);
        export_plan_free(&p);
        rc = export_round_trip(m, &recipe, NULL);
    }
    recipe_free(&recipe);
    return rc;
}

static int measure(struct run *r, struct transformer *m, const struct config_evaluate *e,
                   const char *name, struct summary_row *row)
{
    const int64_t T = m->dims.context, most = T < BATCH_TOKENS ? BATCH_TOKENS / T : 1;
    const bool mask = r->config->data.mask_documents;
    const struct loader_spec spec = {.side = CORPUS_VALID,
                                     .mask_documents = mask,
                                     .prefetch = true,
                                     .context = (int)T};
    const struct plan_args plan = {.n_seqs = most, .T = T, .parts = mask ? T : 1};
    struct loader *loader = NULL;
    struct feed feed = {0};
    struct ctx ctx = {0};
    struct loss loss = {0};
    const size_t arena = plan_eval(&m->dims, &plan);
    int rc = !arena || loader_open(&loader, &r->corpus, &spec) ||
                     feed_init(&feed, loader, T, most, mask) || ctx_init(&ctx, arena)
                 ? -1
                 : 0;
    if (!rc) {
        const int64_t all = loader_windows(loader), some = (e->tokens + T - 1) / T;
        const int64_t windows = e->tokens && some < all ? some : all;
        ctx.stop = &interrupt_flag;
        rc = feed_evaluate(&feed, m, &ctx, windows, name, &loss);
        const double bytes =
            (double)r->corpus.part[CORPUS_VALID].loss_bytes * (double)windows / (double)all;
        row->name = name;
        row->loss = loss.nll / (double)loss.count;
        row->perplexity = exp(row->loss);
        row->bits_per_byte = loss.nll / log(2) / bytes;
        row->kld = NAN;
        row->tokens = loss.count;
    }
    ctx_free(&ctx);
    feed_free(&feed);
    loader_close(loader);
    return rc;
}

static int evaluate_one(struct run *r, const struct config_evaluate *e, const char *name,
                        struct summary_row *row)
{
    char path[RUN_PATH];
    struct transformer m;
    struct tokenizer *tok;
    struct buf json = {0};
    const char *type;
    model_of(r, name, path, &type);
    if (checkpoint_use(path, &m, &tok))
        return -1;
    int rc = tokenizer_write(tok, &json);
    if (!rc && (json.n != r->tokenizer_json.n || memcmp(json.p, r->tokenizer_json.p, json.n)))
        rc = err("%s has another tokenizer than the corpus: their losses cannot be compared", name);
    if (!rc && type)
        rc = quantize(r, &m, tok, type, row);
    if (!rc)
        rc = measure(r, &m, e, name, row);
    buf_free(&json);
    transformer_free(&m);
    tokenizer_free(tok);
    return rc;
}

int stage_evaluate(struct run *r, int stage)
{
    const struct config_evaluate *e = &r->config->stages[stage].evaluate;
    if (r->corpus.part[CORPUS_VALID].tokens < 2)
        return err("there is no validation part: data.valid_fraction is 0");
    struct summary_row *rows = mem_new((size_t)e->compare.n, sizeof *rows);
    if (!rows)
        return -1;
    int rc = 0;
    for (int i = 0; i < e->compare.n && !rc; i++)
        rc = evaluate_one(r, e, e->compare.value[i], &rows[i]);
    if (!rc) {
        struct summary s;
        summary_init(&s);
        s.row = rows;
        s.n_rows = e->compare.n;
        printf("%-32s %10s %12s %14s %12s %12s\n", "model", "loss", "perplexity", "bits per byte",
               "tokens", "GGUF, bytes");
        for (int i = 0; i < e->compare.n; i++) {
            printf("%-32s %10.4f %12.3f %14.4f %12lld", rows[i].name, rows[i].loss,
                   rows[i].perplexity, rows[i].bits_per_byte, (long long)rows[i].tokens);
            printf(rows[i].size ? " %12lld\n" : "\n", (long long)rows[i].size);
        }
        rc = run_summary(r, stage, &s);
    }
    free(rows);
    if (rc > 0)
        err("stopped by %s during an evaluation; the same command does it again", interrupt_name());
    return rc > 0 ? RUN_STOPPED : rc;
}
