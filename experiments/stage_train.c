/* Stages `pretrain`, `finetune` and `qat`: where the model, the text and the last position come
   from; the loop itself is train.c. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "experiments/blocks.h"
#include "experiments/checkpoint.h"
#include "experiments/decode.h"
#include "experiments/interrupt.h"
#include "experiments/model.h"
#include "experiments/run.h"
#include "experiments/run_change.h"
#include "experiments/stage_lora.h"
#include "experiments/stage_words.h"
#include "experiments/train.h"
#include "optim/optimizer.h"

struct stage {
    struct run *run;
    int index;
    const struct config_stage *config;
    char folder[RUN_PATH];
    struct transformer model;
    struct checkpoint_state state;
    struct corpus own;           /* finetune's text */
    const struct corpus *corpus; /* own, or the run's */
    struct loader *train, *valid;
    struct feed train_feed, valid_feed;
    struct buf about;     /* what the model says about itself (about.h) */
    bool made;            /* the model exists */
    struct blocks blocks; /* qat */
    struct transformer teacher;
    struct config_train was; /* where the checkpoint's stage was shorter: its length; else 0 */
};

/* ---- the model: this stage's newest good checkpoint, its parent's, or a new one ---- */

static bool is_lora(const struct stage *s)
{
    return s->config->kind == STAGE_QAT && s->config->qat.params == PARAMS_LORA;
}

/* The model, and its blocks if the stage has any: where it went on from; or those of a parent in
   blocks that are wanted again, and otherwise still empty ones. */
static int load_model(struct stage *s, struct checkpoint *c, enum checkpoint_what what,
                      bool resumed)
{
    const struct config_qat *q = &s->config->qat;
    if (checkpoint_load(c, &s->model, what))
        return -1;
    if (s->config->kind != STAGE_QAT)
        return 0;
    if (blocks_open(&s->blocks, &s->config->qat, config_bf16(&s->config->train),
                    s->run->config->folder, &s->model))
        return -1;
    if (is_lora(s))
        return stage_lora_begin(&s->model, &s->blocks, c, s->config, (uint64_t)s->run->config->seed,
                                resumed);
    if (!c->mix.n || (c->lora && !resumed))
        return 0;
    if (resumed)
        return checkpoint_load_blocks(c, &s->model, &s->blocks.qat);
    // a matrix of importance, or weights that are to move first, ask for a new fit
    return q->mix.imatrix || q->start > 0 ? 0 : checkpoint_give_blocks(c, &s->blocks.qat);
}

static int load(struct stage *s, const char *path, enum checkpoint_what what, bool resumed,
                struct checkpoint *c)
{
    if (checkpoint_open(c, path))
        return -1;
    c->dims.dropout =
        s->run->config->model.n_layers ? s->run->config->model.dropout : c->dims.dropout;
    if (transformer_init(&s->model, &c->dims, is_lora(s) ? STORE_FROZEN : STORE_TRAINED) ||
        load_model(s, c, what, resumed)) {
        transformer_free(&s->model);
        blocks_close(&s->blocks);
        checkpoint_close(c);
        return -1;
    }
    s->made = true;
    buf_clear(&s->about);
    if (c->about.n)
        buf_add(&s->about, c->about.p, c->about.n);
    return s->about.failed ? -1 : 0;
}

/* Is this checkpoint one of this run? 0 or -1. */
static int check_origin(struct stage *s, const struct checkpoint *c, const char *path)
{
    const char *hash = c->corpus_hash.p ? c->corpus_hash.p : "";
    if (strcmp(hash, corpus_hash(s->corpus)))
        return err("%s was made with another corpus (%s, now %s): restore the text, or start over "
                   "with --fresh",
                   path, *hash ? hash : "none", corpus_hash(s->corpus));
    return run_change_agrees(s->run, s->index, path, &c->config, &s->was);
}

/* The newest checkpoint that is good: damaged ones are named and moved out of the way; what could
   not be read or loaded for another reason may be good and ends the run, nothing moved. 1: resumed;
   0: there is no checkpoint; -1, also if none of them is good. */
static int resume(struct stage *s)
{
    enum { MOST = 4096 };
    static int64_t steps[MOST];
    char path[RUN_PATH];
    struct checkpoint c;
    const int n = checkpoint_list(s->folder, steps, MOST);
    if (n <= 0)
        return n;
    int i = 0;
    for (; i < n; i++) {
        checkpoint_name(path, s->folder, steps[i]);
        if (!load(s, path, CHECKPOINT_TRAINING, true, &c))
            break;
        if (!err_is_damage())
            return err_in("cannot resume");
        err_warn("not resumed from a damaged checkpoint: %s", err_text());
    }
    if (i == n)
        return err("%s: none of its checkpoints can be used; put a good copy there, or start over "
                   "with --fresh",
                   s->folder);
    int rc = check_origin(s, &c, path);
    s->state = c.state;
    checkpoint_close(&c);
    // a kill may have come between a checkpoint and its links
    if (!rc)
        rc = checkpoint_link(s->folder, s->state.step, "checkpoint.h5");
    if (!rc && s->state.best_step == s->state.step)
        rc = checkpoint_link(s->folder, s->state.step, "best.h5");
    while (!rc && i > 0)
        checkpoint_set_aside(s->folder, steps[--i]);
    return rc ? -1 : 1;
}

static int from_parent(struct stage *s)
{
    char path[RUN_PATH];
    struct checkpoint c;
    if (s->config->parent >= 0)
        run_stage_model(s->run, s->config->parent, path);
    else
        snprintf(path, sizeof path, "%s", s->config->checkpoint);
    const bool qat = s->config->kind == STAGE_QAT, continues = s->config->train.continues;
    const enum checkpoint_what what = continues            ? CHECKPOINT_TRAINING
                                      : qat && !is_lora(s) ? CHECKPOINT_LATENT
                                                           : CHECKPOINT_MODEL;
    if (load(s, path, what, false, &c))
        return err_in("from");
    s->state.sample = continues ? c.state.sample : 0;
    const char *teacher = s->config->qat.teacher_path;
    if (qat && c.mix.n && teacher && !strcmp(teacher, path))
        err_warn(
            "teacher: %s is itself in blocks of %s, and does not know what they lost: give the "
            "model before them, or none",
            path, c.mix.p);
    int rc = 0;
    if (c.tokenizer.n != s->run->tokenizer_json.n ||
        memcmp(c.tokenizer.p, s->run->tokenizer_json.p, c.tokenizer.n))
        rc = err("from: %s has another tokenizer than the corpus; give data.tokenizer {type: file, "
                 "path: %s}",
                 path, path);
    checkpoint_close(&c);
    return rc;
}

static int from_scratch(struct stage *s)
{
    struct transformer_dims dims;
    if (model_dims(&s->run->config->model, s->run->corpus.vocab_size, &dims) ||
        transformer_init(&s->model, &dims, STORE_TRAINED))
        return -1;
    s->made = true;
    store_init(&s->model.store, (uint64_t)s->run->config->seed);
    return 0;
}

static int make_model(struct stage *s)
{
    s->state = (struct checkpoint_state){.smooth = NAN,
                                         .smooth_min = NAN,
                                         .best_valid = NAN,
                                         .best_step = -1,
                                         .last_valid = NAN,
                                         .last_bpb = NAN,
                                         .last_unaveraged = NAN};
    const int rc = resume(s);
    if (rc)
        return rc < 0 ? -1 : 0;
    const bool scratch = s->config->parent < 0 && !s->config->checkpoint;
    return scratch ? from_scratch(s) : from_parent(s);
}

/* Tokens of a sequence. */
static int length(const struct stage *s)
{
    return (int)config_sequence(&s->config->train, s->model.dims.context);
}

/* The teacher of a stage `qat`, if it has one. */
static int load_teacher(struct stage *s)
{
    const struct config_qat *q = &s->config->qat;
    char path[RUN_PATH];
    struct tokenizer *tok;
    int rc = 0;
    if (s->config->kind != STAGE_QAT || (q->teacher_stage < 0 && !q->teacher_path))
        return 0;
    if (q->teacher_stage >= 0)
        run_stage_model(s->run, q->teacher_stage, path);
    else
        snprintf(path, sizeof path, "%s", q->teacher_path);
    if (checkpoint_use(path, &s->teacher, &tok))
        return err_in("teacher");
    if (!tokenizer_same_ids(tok, s->run->tok))
        rc = err("teacher: %s has another tokenizer than the corpus", path);
    if (!rc && s->teacher.dims.vocab != s->model.dims.vocab)
        rc = err("teacher: %s has a vocabulary of %d, the model one of %d", path,
                 s->teacher.dims.vocab, s->model.dims.vocab);
    if (!rc && s->teacher.dims.context < length(s))
        rc = err("teacher: %s has a context of %d, the sequences %d tokens", path,
                 s->teacher.dims.context, length(s));
    tokenizer_free(tok);
    return rc;
}

/* ---- the text ---- */

static int open_text(struct stage *s)
{
    s->corpus = &s->run->corpus;
    if (s->config->kind != STAGE_FINETUNE)
        return 0;
    struct corpus_spec spec;
    run_stage_spec(s->run->config, s->index, &spec);
    spec.tokenizer = CORPUS_JSON;
    spec.tokenizer_json = s->run->tokenizer_json.p;
    spec.n_tokenizer_json = s->run->tokenizer_json.n;
    if (run_open_corpus(&spec, &s->own))
        return -1;
    s->corpus = &s->own;
    return 0;
}

static int open_loader(struct stage *s, enum corpus_side side, struct loader **loader,
                       struct feed *feed)
{
    const bool pairs = s->corpus->part[side].masked;
    const int T = length(s);
    const struct loader_spec spec = {.side = side,
                                     .shuffled = side == CORPUS_TRAIN,
                                     .documents = run_documents(s->run->config, pairs),
                                     .prefetch = true,
                                     .context = T,
                                     .seed = (uint64_t)s->run->config->seed};
    const int64_t micro = config_micro_batch(&s->config->train, T);
    return loader_open(loader, s->corpus, &spec) || feed_init(feed, *loader, T, micro / T) ? -1 : 0;
}

/* Pairs that a context of T tokens is too short for. */
static void warn_of_long(const struct stage *s, const struct loader *l, enum corpus_side side)
{
    const struct packing *p = loader_packing(l);
    const int T = length(s);
    if (p && p->left_out)
        err_warn("%s: %lld of %lld pairs of the %s part are left out: in a context of %d tokens "
                 "nothing of their completion is to be predicted (the first is number %lld, of "
                 "%lld tokens)",
                 s->config->name, (long long)p->left_out,
                 (long long)s->corpus->part[side].documents, corpus_side_names[side], T,
                 (long long)p->first + 1, (long long)p->length);
    if (p && p->cut)
        err_warn("%s: %lld pairs of the %s part are longer than the context of %d tokens: their "
                 "completions are cut there",
                 s->config->name, (long long)p->cut, corpus_side_names[side], T);
}

/* The place in the text that a stage goes on from is counted in sequences. */
static int check_continued(const struct stage *s)
{
    const struct config_stage *from =
        s->config->parent >= 0 ? &s->run->config->stages[s->config->parent] : NULL;
    if (!s->config->train.continues || !from)
        return 0;
    const int64_t T = config_sequence(&from->train, s->model.dims.context);
    return T == length(s)
               ? 0
               : err("continues: sequences of %d tokens, those of '%s' had %lld: give the "
                     "same batch_tokens and micro_batch_tokens",
                     length(s), from->name, (long long)T);
}

static int open_loaders(struct stage *s)
{
    if (s->model.dims.vocab < s->corpus->vocab_size)
        return err("the model knows %d tokens, the corpus has %d", s->model.dims.vocab,
                   s->corpus->vocab_size);
    if (length(s) < s->model.dims.context)
        fprintf(stderr,
                "%s: sequences of %d tokens, as its batches are smaller than the model's "
                "context of %d\n",
                s->config->name, length(s), s->model.dims.context);
    if (check_continued(s) || config_batch_check(&s->config->train, length(s)) ||
        open_loader(s, CORPUS_TRAIN, &s->train, &s->train_feed))
        return -1;
    warn_of_long(s, s->train, CORPUS_TRAIN);
    if (s->corpus->part[CORPUS_VALID].tokens < 2)
        return 0;
    if (open_loader(s, CORPUS_VALID, &s->valid, &s->valid_feed))
        return -1;
    warn_of_long(s, s->valid, CORPUS_VALID);
    return 0;
}

/* A prompt that does not work would end the run at its first sample. */
static int check_prompt(const struct stage *s)
{
    const struct config_train *c = &s->config->train;
    struct tokens t = {0};
    if (!c->sample_every)
        return 0;
    const char *prompt = c->sample_prompt ? c->sample_prompt : "";
    int rc = decode_prompt(s->run->tok, prompt, strlen(prompt), &t);
    if (!rc && t.n >= (size_t)s->model.dims.context)
        rc = err("%zu tokens, which leaves no room in a context of %d", t.n, s->model.dims.context);
    tokens_free(&t);
    return rc ? err_in("sample_prompt") : 0;
}

/* ---- */

static int summarize(const struct stage *s, const struct train *t)
{
    char arena[32], first[32], averaged[32], trained[32], memory[32], flops[32], bytes[3][32];
    const struct qat_bytes n = qat_bytes(&s->blocks.qat, s->blocks.qat.scales.n_states);
    int n_facts = 0;
    const bool ema = s->config->train.ema > 0 && s->valid, qat = s->config->kind == STAGE_QAT;
    const struct summary_fact all[] = {{"precision",
                                        config_bf16(&s->config->train) ? "bf16" : "f32"},
                                       {"arena bytes", arena},
                                       {"memory bytes", memory},
                                       {"FLOPs a step", flops},
                                       {"seconds to the first step", first},
                                       {"validation loss, averaged weights", averaged},
                                       {"validation loss, weights as trained", trained},
                                       {"blocks bytes", bytes[0]},
                                       {"decoded bytes", bytes[1]},
                                       {"scales bytes", bytes[2]}};
    enum { ALWAYS = 5, EMA = 2, FACTS = sizeof all / sizeof *all };
    struct summary_fact facts[FACTS];
    struct summary sum;
    summary_init(&sum);
    snprintf(arena, sizeof arena, "%zu", t->arena_peak);
    snprintf(memory, sizeof memory, "%zu", t->memory + qat_held(&s->blocks.qat));
    snprintf(flops, sizeof flops, "%.0f", t->flops);
    snprintf(first, sizeof first, "%.3f", t->seconds_to_first);
    snprintf(averaged, sizeof averaged, "%.4f", t->state.last_valid);
    snprintf(trained, sizeof trained, "%.4f", t->state.last_unaveraged);
    struct buf words[3] = {0};
    const int64_t weights = store_numel(&s->model.store),
                  factors = store_numel(&s->model.lora.factors);
    stage_words_model(&s->model.dims, &words[0]);
    stage_words_corpus(s->run->config, s->config, s->corpus, &words[1]);
    stage_words_trained(s->config,
                        is_lora(s) ? factors
                        : qat && s->config->qat.params == PARAMS_SCALES
                            ? store_numel(&s->blocks.qat.scales)
                            : weights,
                        weights + factors, &words[2]);
    sum.model = words[0].p;
    sum.corpus = words[1].p;
    sum.trained = words[2].p;
    sum.steps = t->state.step;
    sum.tokens = t->state.tokens;
    sum.seconds = t->state.seconds;
    sum.parameters = store_numel(&s->model.store) + store_numel(&s->model.lora.factors);
    sum.train_loss = t->state.smooth;
    sum.valid_loss = t->state.last_valid;
    sum.bits_per_byte = t->state.last_bpb;
    sum.best_valid_loss = t->state.best_valid;
    sum.best_step = t->state.best_step;
    snprintf(bytes[0], sizeof bytes[0], "%zu", n.blocks);
    snprintf(bytes[1], sizeof bytes[1], "%zu", n.values);
    snprintf(bytes[2], sizeof bytes[2], "%zu", n.scales);
    for (int i = 0; i < FACTS; i++)
        if (i < ALWAYS || (i < ALWAYS + EMA ? ema : qat))
            facts[n_facts++] = all[i];
    sum.fact = facts;
    sum.n_facts = n_facts;
    int rc = 0;
    for (int i = 0; i < 3; i++)
        rc |= words[i].failed ? -1 : 0;
    rc = rc ? rc : run_summary(s->run, s->index, &sum);
    for (int i = 0; i < 3; i++)
        buf_free(&words[i]);
    return rc;
}

/* Optimizer steps of the stages that this one continues. */
static int64_t steps_before(const struct stage *s, int64_t epoch)
{
    int64_t n = 0;
    for (const struct config_stage *at = s->config; at->train.continues && at->parent >= 0;) {
        at = &s->run->config->stages[at->parent];
        n += config_steps(&at->train, epoch);
    }
    return n;
}

static int train(struct stage *s)
{
    const struct run *r = s->run;
    const bool qat = s->config->kind == STAGE_QAT;
    char hash[33];
    if (config_hash(r->config, s->index, hash))
        return -1;
    const struct checkpoint_source source = {.stage = s->config->name,
                                             .config = r->yaml.p,
                                             .config_hash = hash,
                                             .corpus_hash = corpus_hash(s->corpus),
                                             .tokenizer = r->tokenizer_json.p,
                                             .qat = &s->blocks.qat,
                                             .mix = qat ? s->blocks.recipe.mix->name : NULL,
                                             .about = &s->about};
    const int64_t epoch = loader_windows(s->train) * length(s);
    struct train t = {.config = r->config,
                      .stage = s->config,
                      .folder = s->folder,
                      .source = &source,
                      .m = &s->model,
                      .tok = r->tok,
                      .train = &s->train_feed,
                      .valid = s->valid ? &s->valid_feed : NULL,
                      .valid_bytes = s->corpus->part[CORPUS_VALID].loss_bytes,
                      .state = s->state,
                      .steps = config_steps(&s->config->train, epoch),
                      .before = steps_before(s, epoch),
                      .blocks = qat && !is_lora(s) ? &s->blocks : NULL,
                      .teacher = s->teacher.store.n ? &s->teacher : NULL};
    fprintf(stderr, "%s: %.2fM parameters in %s, %lld steps of %lld tokens (%.2f epochs)%s\n",
            s->config->name, 1e-6 * (double)store_numel(&s->model.store),
            config_bf16(&s->config->train) ? "bf16" : "f32", (long long)t.steps,
            (long long)s->config->train.batch_tokens,
            (double)t.steps * (double)s->config->train.batch_tokens / (double)epoch,
            s->state.step ? ", resumed" : "");
    if (is_lora(s)) {
        struct buf text = {0};
        stage_lora_describe(&s->model, &s->blocks, s->config, &text);
        fprintf(stderr, "%s: %s\n", s->config->name, text.p ? text.p : "");
        buf_free(&text);
    }
    if (s->state.step && (s->was.steps || s->was.tokens || s->was.epochs > 0))
        t.steps_was = config_steps(&s->was, epoch);
    if (s->state.step)
        fprintf(stderr, "%s: going on from step %lld\n", s->config->name, (long long)s->state.step);
    const int rc = train_run(&t);
    if (rc == TRAIN_DONE)
        return summarize(s, &t);
    return rc == TRAIN_STOPPED ? RUN_STOPPED : -1;
}

int stage_train(struct run *r, int stage)
{
    struct stage s = {.run = r, .index = stage, .config = &r->config->stages[stage]};
    run_stage_path(r, stage, "", s.folder);
    int rc =
        open_text(&s) || make_model(&s) || load_teacher(&s) || open_loaders(&s) || check_prompt(&s)
            ? -1
            : 0;
    s.model.dropout_key = (uint64_t)r->config->seed << 20;
    if (!rc)
        rc = train(&s);
    feed_free(&s.train_feed);
    feed_free(&s.valid_feed);
    loader_close(s.train);
    loader_close(s.valid);
    transformer_free(&s.teacher);
    if (s.made)
        transformer_free(&s.model);
    blocks_close(&s.blocks); // the model may lie in them
    corpus_close(&s.own);
    buf_free(&s.about);
    return rc;
}
