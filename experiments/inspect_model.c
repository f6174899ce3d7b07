/* What this program writes itself: checkpoints, corpora, tokenizers; any model's dims. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "autograd/base/err.h"
#include "datasets/corpus.h"
#include "experiments/checkpoint.h"
#include "experiments/inspect.h"
#include "optim/ema.h"

/* ---- tokenizer ---- */

void inspect_tokenizer_of(struct buf *out, const struct tokenizer *t)
{
    size_t special = 0;
    for (size_t i = 0; i < t->vocab.n; i++)
        special += t->vocab.token[i].type == VOCAB_CONTROL || t->vocab.token[i].type == VOCAB_USER;
    inspect_line(out, "tokenizer", "%s, %d tokens, cut as %s%s", tokenizer_name(t),
                 tokenizer_vocab_size(t), tokenizer_pre(t), t->nfc ? ", NFC" : "");
    inspect_line(out, "added tokens", "%zu", special);
    for (size_t i = 0, shown = 0; i < t->vocab.n && shown < 32; i++) {
        const int32_t id = (int32_t)i;
        size_t n;
        if (t->vocab.token[i].type != VOCAB_CONTROL && t->vocab.token[i].type != VOCAB_USER)
            continue;
        const char *bytes = tokenizer_bytes(t, id, &n);
        buf_printf(out, "  %-8d ", id);
        inspect_text(out, bytes, n, 60);
        buf_printf(out, "%s%s%s\n", t->vocab.token[i].type == VOCAB_CONTROL ? "  control" : "",
                   id == tokenizer_eot(t) ? "  ends a document" : "",
                   id == tokenizer_bos(t) ? "  starts a text" : "");
        if (++shown == 32 && special > shown)
            buf_printf(out, "  and %zu more\n", special - shown);
    }
}

int inspect_tokenizer(const char *path, struct buf *out)
{
    struct tokenizer *t = tokenizer_load(path);
    if (!t)
        return err("%s (a text that begins with { is taken for a tokenizer.json)", err_text());
    inspect_tokenizer_of(out, t);
    tokenizer_free(t);
    return 0;
}

/* ---- checkpoint ---- */

static void print_layers(struct buf *out, const char *label, const int *value, int n)
{
    struct buf text = {0};
    bool same = true;
    for (int i = 1; i < n; i++)
        same = same && value[i] == value[0];
    for (int i = 0; i < (same ? 1 : n); i++)
        buf_printf(&text, i ? " %d" : "%d", value[i]);
    buf_printf(out, "%-14s ", label);
    inspect_text(out, text.p ? text.p : "", text.n, INSPECT_WIDTH - 15);
    buf_text(out, same && n > 1 ? " in each layer\n" : "\n");
    buf_free(&text);
}

void inspect_dims(struct buf *out, const struct transformer_dims *d)
{
    static const char *const scaling[] = {[ROPE_SCALING_NONE] = "",
                                          [ROPE_SCALING_LINEAR] = ", linear scaling",
                                          [ROPE_SCALING_LLAMA3] = ", llama3 scaling",
                                          [ROPE_SCALING_TABLE] = ", scaled by a table"};
    const unsigned traits = arch_rows[d->arch].traits;
    int64_t rest;
    const int64_t all = transformer_params(d, &rest);
    inspect_line(out, "model", "%s, %d layers, width %d, vocabulary %d%s, context %d",
                 arch_rows[d->arch].name, d->n_layers, d->d_model, d->vocab,
                 d->tied ? " (tied)" : "", d->context);
    inspect_line(out, "parameters", "%lld, %lld without embedding and head", (long long)all,
                 (long long)rest);
    print_layers(out, "heads", d->n_heads, d->n_layers);
    print_layers(out, "kv heads", d->n_kv_heads, d->n_layers);
    inspect_line(out, "head size", "%d", d->head_dim);
    print_layers(out, "feed-forward", d->d_ff, d->n_layers);
    inspect_line(out, "norm epsilon", "%g", d->norm_eps);
    if (traits & ARCH_LEARNED)
        inspect_line(out, "positions", "learned");
    else
        inspect_line(out, "rope", "base %g, %s%s", d->rope.base,
                     traits & ARCH_ROPE_HALF ? "halves" : "adjacent pairs",
                     scaling[d->rope.scaling]);
}

/* "validation 2.75 at step 3" where there is one */
static void print_loss(struct buf *out, const char *label, double loss, int64_t step)
{
    if (isnan(loss))
        return;
    if (step >= 0)
        inspect_line(out, label, "%.4f nats per token (perplexity %.3f) at step %lld", loss,
                     exp(loss), (long long)step);
    else
        inspect_line(out, label, "%.4f nats per token (perplexity %.3f)", loss, exp(loss));
}

static void print_named(struct buf *out, const char *label, const struct buf *text)
{
    buf_printf(out, "%-14s ", label);
    inspect_text(out, text->p ? text->p : "", text->n, INSPECT_WIDTH - 15);
    buf_text(out, "\n");
}

/* Lines of the config, indented. */
static void print_config(struct buf *out, const struct buf *config)
{
    const char *p = config->p ? config->p : "", *end = p + config->n;
    buf_text(out, "config\n");
    while (p < end) {
        const char *line = memchr(p, '\n', (size_t)(end - p));
        const size_t n = (size_t)((line ? line : end) - p);
        buf_text(out, "  ");
        inspect_text(out, p, n, INSPECT_WIDTH - 2);
        buf_text(out, "\n");
        p += n + 1;
    }
}

/* "adam.m, adam.v"; empty: none. */
static int name_states(struct checkpoint *c, struct buf *b)
{
    const char *state[STORE_STATES];
    const int n = checkpoint_states(c, state);
    for (int i = 0; i < n; i++)
        if (strcmp(state[i], ema_name))
            buf_printf(b, "%s%s", b->n ? ", " : "", state[i]);
    return n < 0 || b->failed ? -1 : 0;
}

static int print_checkpoint(const char *path, struct buf *out)
{
    struct checkpoint c;
    struct buf size = {0}, version = {0}, states = {0};
    if (checkpoint_open(&c, path))
        return -1;
    const struct checkpoint_state *s = &c.state;
    inspect_file_bytes(&size, (double)h5file_size(c.file));
    int rc = h5file_get_text(c.file, "/", "attar", &version);
    if (!rc)
        rc = name_states(&c, &states);
    inspect_line(out, "checkpoint", "%s, verified, written by attar %.40s", size.p ? size.p : "",
                 version.p ? version.p : "?");
    print_named(out, "stage", &c.stage);
    if (s->step)
        inspect_line(out, "step", "%lld, %lld tokens in %.0f s", (long long)s->step,
                     (long long)s->tokens, s->seconds);
    else
        inspect_line(out, "step", "0: not trained here");
    print_loss(out, "training", s->smooth, -1);
    print_loss(out, "validation", s->last_valid, -1);
    print_loss(out, "as trained", s->last_unaveraged, -1);
    print_loss(out, "best", s->best_valid, s->best_step);
    if (!isnan(s->last_bpb))
        inspect_line(out, "bits per byte", "%.4f", s->last_bpb);
    if (c.averaged)
        inspect_line(out, "weights", "averaged; those that were trained are kept to go on from");
    if (states.n)
        inspect_line(out, "optimizer", "%s", states.p);
    buf_text(out, "\n");
    inspect_dims(out, &c.dims);
    struct tokenizer *t = tokenizer_parse(c.tokenizer.p, c.tokenizer.n);
    if (t) {
        buf_text(out, "\n");
        inspect_tokenizer_of(out, t);
    } else {
        rc = err_in("%s: tokenizer", path);
    }
    buf_text(out, "\n");
    if (c.corpus_hash.n)
        print_named(out, "corpus hash", &c.corpus_hash);
    if (c.config_hash.n)
        print_named(out, "config hash", &c.config_hash);
    if (c.config.n)
        print_config(out, &c.config);
    tokenizer_free(t);
    buf_free(&size);
    buf_free(&version);
    buf_free(&states);
    checkpoint_close(&c);
    return rc;
}

/* ---- parameters ---- */

struct moments {
    double mean, std, min, max; /* of the finite values */
    int64_t broken;             /* the others */
};

static struct moments moments_of(const float *x, int64_t n)
{
    struct moments m = {.min = INFINITY, .max = -INFINITY};
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) {
        m.broken += !isfinite(x[i]);
        if (!isfinite(x[i]))
            continue;
        sum += x[i];
        m.min = fmin(m.min, x[i]);
        m.max = fmax(m.max, x[i]);
    }
    m.mean = sum / (double)(n - m.broken);
    for (int64_t i = 0; i < n; i++)
        if (isfinite(x[i]))
            squares += (x[i] - m.mean) * (x[i] - m.mean);
    m.std = sqrt(squares / (double)(n - m.broken));
    return m;
}

static void print_param(struct buf *out, const struct param *p)
{
    const struct moments m = moments_of(p->latent, tensor_numel(&p->used));
    char shape[48];
    if (p->used.nd == 1)
        snprintf(shape, sizeof shape, "%lld", (long long)p->used.dim[0]);
    else
        snprintf(shape, sizeof shape, "%lld x %lld", (long long)p->used.dim[0],
                 (long long)p->used.dim[1]);
    buf_printf(out, "%-30s  %15s  %11.4g %10.4g %11.4g %11.4g", p->name, shape, m.mean, m.std,
               m.min, m.max);
    if (m.broken)
        buf_printf(out, "\n  %lld of them are NaN or infinite", (long long)m.broken);
    buf_text(out, "\n");
}

int inspect_parameters(const char *path, struct buf *out)
{
    struct transformer m;
    struct tokenizer *t;
    if (checkpoint_use(path, &m, &t))
        return -1;
    buf_printf(out, "\n%-30s  %15s  %11s %10s %11s %11s\n", "tensor", "rows x columns", "mean",
               "std", "min", "max");
    for (int i = 0; i < m.store.n; i++)
        print_param(out, &m.store.p[i]);
    transformer_free(&m);
    tokenizer_free(t);
    return 0;
}

/* ---- corpus ---- */

static int print_corpus(const char *path, struct buf *out)
{
    struct corpus c;
    struct buf size = {0};
    if (corpus_open(&c, path))
        return -1;
    inspect_file_bytes(&size, (double)h5file_size(c.file));
    inspect_line(out, "corpus", "%s, verified, %s", size.p ? size.p : "", corpus_hash(&c));
    for (int i = 0; i < 2; i++) {
        const struct corpus_part *p = &c.part[i];
        inspect_line(out, corpus_side_names[i],
                     "%lld tokens, %lld documents, %lld bytes of text (%.2f a token)%s",
                     (long long)p->tokens, (long long)p->documents, (long long)p->bytes,
                     p->tokens ? (double)p->bytes / (double)p->tokens : 0,
                     p->masked ? ", prompts masked" : "");
    }
    struct tokenizer *t = corpus_tokenizer(&c);
    const int rc = t ? 0 : -1;
    buf_text(out, "\n");
    if (t)
        inspect_tokenizer_of(out, t);
    tokenizer_free(t);
    buf_free(&size);
    corpus_close(&c);
    return rc;
}

int inspect_h5(const char *path, struct buf *out)
{
    struct h5file *f;
    if (h5file_open(&f, path))
        return -1;
    int checkpoint = h5file_has(f, "weights/token_embd.weight");
    if (!checkpoint) // under factors the embedding may be in blocks alone
        checkpoint = h5file_has(f, "blocks/token_embd.weight");
    const int corpus = checkpoint < 0 ? -1 : h5file_has(f, "train/tokens");
    h5file_close(f);
    if (corpus < 0)
        return -1;
    if (checkpoint)
        return print_checkpoint(path, out);
    return corpus ? print_corpus(path, out) : err("%s: neither a checkpoint nor a corpus", path);
}
