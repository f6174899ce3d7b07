#include "experiments/preflight.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "experiments/checkpoint.h"
#include "experiments/config_parts.h"
#include "experiments/decode.h"
#include "experiments/export.h"
#include "experiments/model.h"
#include "experiments/model_gguf.h"
#include "experiments/run.h"
#include "experiments/stage_plan.h"

static const int64_t MOST = 256 << 20; // bytes of text that are read to be counted

struct flight {
    const struct config *c;
    struct run run; // for its paths
    struct preflight *found;
    struct mistakes bad;
    bool fresh;            // nothing of the run is done
    struct tokenizer *tok; // NULL: it is not made yet
    int i;                 // the stage that is looked at; -1: what all share
};

/* Where `key` of the stage was written; of `data`, where all share it. */
static struct place where(const struct flight *f, const char *key)
{
    const struct yaml *map = f->i >= 0 ? f->c->nodes[f->i] : yaml_get(f->c->root, "data");
    return config_place(map ? map : f->c->root, key);
}

/* What err() says is a mistake of that key. */
static void blame(struct flight *f, const char *key)
{
    const char *const corpus = "corpus: ", *text = err_text(); // that is what readers of text say
    const size_t n = strlen(key);
    text += strncmp(text, corpus, strlen(corpus)) ? 0 : strlen(corpus);
    const bool named = !strncmp(text, key, n) && text[n] == ':';
    mistake_add(&f->bad, where(f, key), "%s%s%s", named ? "" : key, named ? "" : ": ", text);
}

/* A file of this very run, which is not there before the run is. */
static bool is_own(const struct flight *f, const char *path)
{
    const size_t n = strlen(f->run.folder);
    return !strncmp(path, f->run.folder, n) && path[n] == '/';
}

/* ---- text ---- */

/* What a text has at most: a token has a byte at least, a document a few around it. */
static int64_t tokens_most(const struct corpus_count *n, int side)
{
    enum { AROUND = 3 };
    return n->bytes[side] + AROUND * n->documents[side];
}

static void check_length(struct flight *f, const char *key, const struct corpus_spec *spec,
                         const struct corpus_count *n)
{
    static const char *const parts[] = {"training", "validation"};
    const char *const tail = spec->valid == SPLIT_HASH ? " or valid: tail" : "";
    const bool pairs = n->pairs > 0, any = pairs || !spec->context;
    for (int side = 0; side < 2; side++) {
        const int64_t most = tokens_most(n, side);
        if ((side && spec->valid_fraction <= 0) || most > (any ? 1 : spec->context))
            continue;
        if (any)
            err("the %s part has no %s: use more text, or another valid_fraction%s", parts[side],
                pairs ? "pair" : "text", tail);
        else
            err("the %s part has at most %lld tokens, one context of %lld needs %lld: use more "
                "text, a smaller context, or another valid_fraction%s",
                parts[side], (long long)most, (long long)spec->context,
                (long long)spec->context + 1, tail);
        blame(f, key);
        return;
    }
}

static void check_text(struct flight *f, const char *key, const struct corpus_spec *spec,
                       struct preflight_text *text)
{
    const int rc = corpus_count(spec, MOST, &text->count);
    text->known = rc == CORPUS_COUNTED;
    if (rc < 0)
        blame(f, key);
    else if (text->known)
        check_length(f, key, spec, &text->count);
}

/* ---- models ---- */

/* The tokenizer of a model's file, [n] its JSON, is the corpus' own. */
static void check_same_tokenizer(struct flight *f, const char *key, const char *path,
                                 const struct tokenizer *t)
{
    if (!f->tok || !t || tokenizer_same_ids(t, f->tok))
        return;
    err("%s has another tokenizer than the corpus; give data.tokenizer {type: file, path: %s}",
        path, path);
    blame(f, key);
}

/* A model's file: it opens, and has the corpus' tokenizer. */
static void check_model(struct flight *f, const char *key, const char *path)
{
    struct checkpoint c;
    struct transformer m;
    struct tokenizer *t = NULL;
    if (is_own(f, path))
        return;
    if (model_gguf_is(path)) {
        if (model_gguf_use(path, &m, &t)) {
            blame(f, key);
            return;
        }
        transformer_free(&m);
    } else {
        if (checkpoint_open(&c, path)) {
            blame(f, key);
            return;
        }
        t = tokenizer_parse(c.tokenizer.p, c.tokenizer.n);
        if (!t)
            blame(f, key);
        checkpoint_close(&c);
    }
    check_same_tokenizer(f, key, path, t);
    tokenizer_free(t);
}

static void check_teacher(struct flight *f, const struct stage_plan *p)
{
    const struct transformer_dims *t = p->step.pass.teacher;
    if (!t)
        return;
    if (t->vocab != p->dims.vocab)
        err("it has a vocabulary of %d, the model one of %d", t->vocab, p->dims.vocab);
    else if (t->context < p->step.pass.T)
        err("it has a context of %d, the model one of %d", t->context, (int)p->step.pass.T);
    else
        return;
    blame(f, "teacher");
}

/* The key that what err() says of a stage's step belongs to. */
static const char *key_of(const struct flight *f)
{
    static const char *const keys[] = {"micro_batch_tokens", "batch_tokens", "teacher", NULL};
    const struct config_stage *s = &f->c->stages[f->i];
    for (int k = 0; keys[k]; k++)
        if (!strncmp(err_text(), keys[k], strlen(keys[k])))
            return keys[k];
    return s->checkpoint ? "from" : "batch_tokens";
}

/* What err() says of blocks or factors. */
static const char *key_of_blocks(const struct config_qat *q)
{
    const char *file = q->mix.imatrix ? strrchr(q->mix.imatrix, '/') : NULL;
    if (q->mix.imatrix && strstr(err_text(), file ? file : q->mix.imatrix))
        return "imatrix";
    return q->params == PARAMS_LORA && !strstr(err_text(), "recipe") ? "lora" : "type";
}

static void check_step(struct flight *f, struct stage_plan *p)
{
    const struct config_stage *s = &f->c->stages[f->i];
    struct plan_memory m;
    if (stage_plan_init(p, f->c, f->i, f->found->vocab)) {
        blame(f, key_of(f));
        return;
    }
    if (p->dims.vocab < f->found->vocab) {
        const char *path = s->checkpoint ? s->checkpoint : "that of the stage it starts from";
        err("%s has another tokenizer than the corpus, of %d tokens, not %d; give data.tokenizer "
            "{type: file, path: %s}",
            path, p->dims.vocab, f->found->vocab, path);
        blame(f, "from");
    }
    check_teacher(f, p);
    if (plan_memory(&p->step, &m)) {
        blame(f, s->kind == STAGE_QAT ? key_of_blocks(&s->qat) : "from");
        return;
    }
    const size_t train = plan_train(&p->dims, &p->step.pass),
                 eval = plan_eval(&p->dims, &p->step.pass);
    if (!train || !eval) {
        blame(f, "batch_tokens");
        return;
    }
    f->found->memory[f->i] = m.sum + (train > eval ? train : eval);
    f->found->disk[f->i] = (double)m.checkpoint * (double)(s->train.keep_last + 2);
}

/* A prompt of samples that does not work would end the run at the first. */
static void check_prompt(struct flight *f, int64_t context)
{
    const struct config_train *t = &f->c->stages[f->i].train;
    struct tokens tokens = {0};
    if (!t->sample_every || !f->tok || !t->sample_prompt || !context)
        return;
    int rc = decode_prompt(f->tok, t->sample_prompt, strlen(t->sample_prompt), &tokens);
    if (!rc && tokens.n >= (size_t)context)
        rc = err("%zu tokens, which leaves no room in a context of %lld", tokens.n,
                 (long long)context);
    tokens_free(&tokens);
    if (rc)
        blame(f, "sample_prompt");
}

/* The text fills one of the stage's sequences, whose length may be the context of a checkpoint.
   Pairs that stand in windows as a whole need not. Nothing is said of a text that is a mistake. */
static void check_filled(struct flight *f, const char *key, int64_t context,
                         const struct preflight_text *text)
{
    const int64_t T = context ? config_sequence(&f->c->stages[f->i].train, context) : 0;
    const int64_t most = tokens_most(&text->count, CORPUS_TRAIN);
    const bool whole = run_documents(f->c, text->count.pairs > 0) == LOADER_WHOLE;
    if (f->bad.n || !text->known || whole || most > T)
        return;
    err("the training part has at most %lld tokens, one sequence of %lld needs %lld: use more text "
        "or smaller batch_tokens",
        (long long)most, (long long)T, (long long)T + 1);
    blame(f, key);
}

/* Pairs that stand in windows as a whole: one of each part at least leaves something to predict. */
static void check_pairs(struct flight *f, const char *key, const struct corpus_spec *spec,
                        int64_t context, const struct preflight_text *text)
{
    const int64_t T = context ? config_sequence(&f->c->stages[f->i].train, context) : 0;
    const bool whole = run_documents(f->c, text->count.pairs > 0) == LOADER_WHOLE;
    bool fits[2];
    if (f->bad.n || !text->known || !whole || !f->tok || !T)
        return;
    int rc = corpus_count_fits(spec, &text->count, f->tok, T, fits);
    if (!rc && !(fits[CORPUS_TRAIN] && fits[CORPUS_VALID]))
        rc = err("no prompt of the %s part leaves room for its completion in a context of %lld "
                 "tokens",
                 fits[CORPUS_TRAIN] ? "validation" : "training", (long long)T);
    if (rc)
        blame(f, key);
}

static void check_training(struct flight *f)
{
    static struct stage_plan p; // large
    const struct config_stage *s = &f->c->stages[f->i];
    struct corpus_spec spec;
    p = (struct stage_plan){0};
    if (s->checkpoint)
        check_model(f, "from", s->checkpoint);
    if (s->kind == STAGE_QAT && s->qat.teacher_path)
        check_model(f, "teacher", s->qat.teacher_path);
    if (f->found->vocab > 0 && !f->bad.n)
        check_step(f, &p);
    const int64_t context = p.dims.context;
    check_prompt(f, context);
    stage_plan_free(&p);
    const bool own = s->kind == STAGE_FINETUNE;
    struct preflight_text *text = own ? &f->found->own[f->i] : &f->found->text;
    const char *key = own ? "data" : "batch_tokens";
    run_stage_spec(f->c, f->i, &spec);
    if (own)
        check_text(f, key, &spec, text);
    check_filled(f, key, context, text);
    check_pairs(f, key, &spec, context, text);
}

/* ---- stages that use models ---- */

/* The model of stage `of` fits a file of that type, and its matrix of importance. */
static void check_type(struct flight *f, const char *key, int of, const char *type,
                       const struct mix_args *mix)
{
    static struct transformer_dims dims; // large
    struct transformer m = {0};
    struct recipe r;
    struct export_plan p;
    struct imatrix own;
    const struct imatrix *imatrix;
    struct mix_args a = *mix;
    char path[RUN_PATH];
    if (f->found->vocab <= 0 || f->bad.n)
        return;
    if (a.imatrix && *a.imatrix != '/') {
        snprintf(path, sizeof path, "%s/%s", f->c->folder, a.imatrix);
        a.imatrix = path;
    }
    if (mix_args_imatrix(&a, &own, &imatrix)) {
        blame(f, "imatrix");
        return;
    }
    imatrix_free(&own);
    if (mix_args_recipe(&a, type, &r)) {
        blame(f, key);
        return;
    }
    int rc = model_stage_dims(f->c, of, f->found->vocab, &dims) ||
                     (f->c->stages[f->i].kind == STAGE_EXPORT && export_check(&dims)) ||
                     transformer_init(&m, &dims, STORE_SHAPES) ||
                     export_plan(&p, &m, &r, a.imatrix != NULL)
                 ? -1
                 : 0;
    if (!rc) {
        f->found->disk[f->i] += (double)p.bytes;
        export_plan_free(&p);
    } else {
        blame(f, key);
    }
    transformer_free(&m);
    recipe_free(&r);
}

static void check_export(struct flight *f)
{
    const struct config_stage *s = &f->c->stages[f->i];
    const struct mix_args *m = &s->export.mix;
    if (s->checkpoint)
        check_model(f, "from", s->checkpoint);
    check_type(f, "type", f->i, s->export.type, m);
    const struct config_stage *of = s->parent >= 0 ? &f->c->stages[s->parent] : NULL;
    const bool blocks = of && of->kind == STAGE_QAT && !s->export.merge &&
                        recipe_mix_find(of->qat.type) == recipe_mix_find(s->export.type);
    if (!blocks || !(m->tensor_type.n || m->output_tensor_type || m->token_embedding_type ||
                     m->pure || m->leave_output_tensor || m->imatrix))
        return;
    err("'%s' is in blocks, which are written as they are: leave out what chooses types or scales",
        of->name);
    blame(f, "type");
}

static void check_compared(struct flight *f, const char *key, const char *name)
{
    const struct mix_args none = {0};
    const char *type;
    char path[RUN_PATH];
    snprintf(path, sizeof path, "%.*s", (int)config_compare_name(name, &type), name);
    const int of = config_stage_find(f->c, path);
    if (of < 0)
        check_model(f, key, path);
    else if (type)
        check_type(f, key, of, type, &none);
}

static void check_evaluate(struct flight *f)
{
    const struct config_evaluate *e = &f->c->stages[f->i].evaluate;
    for (int k = 0; k < e->compare.n; k++)
        check_compared(f, "compare", e->compare.value[k]);
    if (e->reference)
        check_compared(f, "reference", e->reference);
}

/* ---- the machine ---- */

/* The part of `out` that is there is a folder that can be written to. */
static void check_out(struct flight *f)
{
    char path[RUN_PATH];
    struct statvfs v;
    struct stat st;
    const struct place at = config_place(f->c->root, "out");
    snprintf(path, sizeof path, "%s", f->run.folder);
    while (stat(path, &st) && (errno == ENOENT || errno == ENOTDIR)) {
        char *slash = strrchr(path, '/');
        if (!slash)
            strcpy(path, "."); // which is there
        else
            *(slash == path ? slash + 1 : slash) = 0;
    }
    const bool bad = stat(path, &st) || (!S_ISDIR(st.st_mode) && (errno = ENOTDIR)) ||
                     access(path, W_OK | X_OK) || statvfs(path, &v);
    if (bad) {
        mistake_add(&f->bad, at, "out: %s: %s", path, strerror(errno));
        return;
    }
    f->found->room = (double)v.f_bavail * (double)v.f_frsize;
    if (f->found->room <= 0)
        mistake_add(&f->bad, at, "out: %s: there is no room for files", path);
}

static double machine_memory(void)
{
    struct sysinfo s;
    struct rlimit limit;
    double most = sysinfo(&s) ? 0 : ((double)s.totalram + (double)s.totalswap) * s.mem_unit;
    if (!getrlimit(RLIMIT_AS, &limit) && limit.rlim_cur != RLIM_INFINITY &&
        (double)limit.rlim_cur < most)
        most = (double)limit.rlim_cur;
    return most;
}

static void check_machine(struct flight *f)
{
    const double MB = 1e6;
    double disk = 0;
    f->found->ram = machine_memory();
    for (f->i = 0; f->i < f->c->n_stages; f->i++) {
        const double need = (double)f->found->memory[f->i];
        char path[RUN_PATH];
        run_stage_path(&f->run, f->i, "", path);
        disk += access(path, F_OK) ? f->found->disk[f->i] : 0; // else its files are there
        if (f->found->ram > 0 && need > f->found->ram)
            mistake_add(&f->bad, where(f, "batch_tokens"),
                        "%s needs %.1f MB of memory, there are %.1f: a smaller micro_batch_tokens "
                        "or recompute: blocks needs less",
                        f->c->stages[f->i].name, need / MB, f->found->ram / MB);
    }
    if (f->found->room > 0 && disk > f->found->room)
        mistake_add(&f->bad, config_place(f->c->root, "out"),
                    "out: the run needs up to %.1f MB on the disk, %.1f are free: a smaller "
                    "keep_last needs less",
                    disk / MB, f->found->room / MB);
}

/* ---- all ---- */

static void check_tokenizer(struct flight *f)
{
    f->i = -1;
    f->found->vocab = model_vocabulary(f->c);
    if (f->found->vocab < 0)
        blame(f, "tokenizer");
    else if (f->c->data.tokenizer.type != TOKENIZER_BPE)
        f->tok = model_known_tokenizer(f->c);
}

static bool is_done(const struct flight *f)
{
    char path[RUN_PATH];
    run_stage_path(&f->run, f->i, "summary.json", path);
    return !f->fresh && !access(path, F_OK);
}

int preflight(const struct config *c, bool fresh, struct preflight *found)
{
    struct flight f = {.c = c, .fresh = fresh, .found = found, .bad = {.file = c->file}};
    struct corpus_spec spec;
    int left = 0;
    *found = (struct preflight){0};
    f.run.config = c;
    snprintf(f.run.folder, sizeof f.run.folder, "%.3000s/%.100s", c->out, c->name);
    for (f.i = 0; f.i < c->n_stages; f.i++)
        left += !is_done(&f);
    if (!left)
        return 0;
    check_tokenizer(&f);
    run_corpus_spec(c, &spec);
    check_text(&f, "corpus", &spec, &found->text);
    check_out(&f);
    for (f.i = 0; f.i < c->n_stages; f.i++) {
        if (is_done(&f))
            continue;
        if (config_kinds[c->stages[f.i].kind].makes_model)
            check_training(&f);
        else if (c->stages[f.i].kind == STAGE_EXPORT)
            check_export(&f);
        else
            check_evaluate(&f);
    }
    check_machine(&f);
    tokenizer_free(f.tok);
    const int rc = mistake_any(&f.bad) ? config_refuse(&f.bad) : 0;
    mistake_free(&f.bad);
    return rc;
}
