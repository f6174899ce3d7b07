#include "experiments/checkpoint_parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/mem.h"
#include "datasets/h5file.h"
#include "experiments/cmd.h"
#include "optim/ema.h"

/* FORMAT_BLOCKS: there are blocks, which a program that does not know them would not use.
   FORMAT_LORA: /weights is not whole, and there are factors. */
enum { FORMAT = 1, FORMAT_BLOCKS = 2, FORMAT_LORA = 3, GROUP_MAX = 96 };

/* ---- struct members kept as attributes: a table each, read and written by the same rows ---- */

enum kind { KIND_INT32, KIND_INT64, KIND_DOUBLE, KIND_BOOL, KIND_LAYERS };

struct attr {
    const char *name;
    enum kind kind;
    size_t offset;
};

#define STATE(member, kind)                                                                        \
    {                                                                                              \
#member, kind, offsetof(struct checkpoint_state, member)                                   \
    }
static const struct attr state_attrs[] = {
    STATE(step, KIND_INT64),        STATE(sample, KIND_INT64),    STATE(tokens, KIND_INT64),
    STATE(seconds, KIND_DOUBLE),    STATE(smooth, KIND_DOUBLE),   STATE(smooth_min, KIND_DOUBLE),
    STATE(best_valid, KIND_DOUBLE), STATE(best_step, KIND_INT64), STATE(last_valid, KIND_DOUBLE),
    STATE(last_bpb, KIND_DOUBLE),   STATE(left, KIND_INT32),      {0},
};

/* The average's group, and an attribute that it has. */
static const char average[] = "optim/ema", unaveraged[] = "last_unaveraged";

#define DIMS(name, member, kind)                                                                   \
    {                                                                                              \
        name, kind, offsetof(struct transformer_dims, member)                                      \
    }
static const struct attr dims_attrs[] = {
    DIMS("n_layers", n_layers, KIND_INT32),
    DIMS("d_model", d_model, KIND_INT32),
    DIMS("vocab_size", vocab, KIND_INT32),
    DIMS("head_dim", head_dim, KIND_INT32),
    DIMS("context", context, KIND_INT32),
    DIMS("n_heads", n_heads, KIND_LAYERS),
    DIMS("n_kv_heads", n_kv_heads, KIND_LAYERS),
    DIMS("d_ff", d_ff, KIND_LAYERS),
    DIMS("tie_embeddings", tied, KIND_BOOL),
    DIMS("norm_eps", norm_eps, KIND_DOUBLE),
    DIMS("rope_scaling", rope.scaling, KIND_INT32),
    DIMS("rope_base", rope.base, KIND_DOUBLE),
    DIMS("rope_factor", rope.factor, KIND_DOUBLE),
    DIMS("rope_low_freq_factor", rope.low_freq, KIND_DOUBLE),
    DIMS("rope_high_freq_factor", rope.high_freq, KIND_DOUBLE),
    DIMS("rope_original_context", rope.original_context, KIND_DOUBLE),
    DIMS("dropout", dropout, KIND_DOUBLE),
    DIMS("init_std", init_std, KIND_DOUBLE),
    {0},
};

static int write_layers(struct h5file *f, const char *at, const struct attr *a, const int *list,
                        int64_t n)
{
    char name[CHECKPOINT_NAME];
    snprintf(name, sizeof name, "%s/%s", at, a->name);
    return h5file_write(f, name, H5_I32, 1, &n, list);
}

static int write_attrs(struct h5file *f, const char *at, const struct attr *a, const void *base,
                       int64_t n_layers)
{
    for (int bad = 0; a->name; a++) {
        const void *p = (const char *)base + a->offset;
        if (a->kind == KIND_DOUBLE)
            bad = h5file_set_double(f, at, a->name, *(const double *)p);
        else if (a->kind == KIND_LAYERS)
            bad = write_layers(f, at, a, p, n_layers);
        else
            bad = h5file_set_int(f, at, a->name,
                                 a->kind == KIND_INT64  ? *(const int64_t *)p
                                 : a->kind == KIND_BOOL ? *(const bool *)p
                                                        : *(const int *)p);
        if (bad)
            return -1;
    }
    return 0;
}

static int read_layers(struct h5file *f, const char *at, const struct attr *a, int *list)
{
    char name[CHECKPOINT_NAME];
    struct h5shape s;
    snprintf(name, sizeof name, "%s/%s", at, a->name);
    if (h5file_shape(f, name, &s))
        return -1;
    if (s.ndim != 1 || s.n > LAYERS_MAX)
        return err_damaged("%s: %s has %lld entries, at most %d layers are possible",
                           h5file_path(f), name, (long long)s.n, LAYERS_MAX);
    return h5file_read(f, name, H5_I32, 1, s.dim, list);
}

static int read_attrs(struct h5file *f, const char *at, const struct attr *a, void *base)
{
    for (; a->name; a++) {
        void *p = (char *)base + a->offset;
        int64_t n = 0;
        if (a->kind == KIND_DOUBLE) {
            if (h5file_get_double(f, at, a->name, p))
                return -1;
            continue;
        }
        if (a->kind == KIND_LAYERS) {
            if (read_layers(f, at, a, p))
                return -1;
            continue;
        }
        if (h5file_get_int(f, at, a->name, &n))
            return -1;
        if (a->kind == KIND_INT64)
            *(int64_t *)p = n;
        else if (a->kind == KIND_BOOL)
            *(bool *)p = n != 0;
        else if (n < INT32_MIN || n > INT32_MAX)
            return err_damaged("%s: %s is %lld", h5file_path(f), a->name, (long long)n);
        else
            *(int *)p = (int)n;
    }
    return 0;
}

/* ---- rotary frequencies with a divisor each ---- */

static const char table_name[] = "model/rope_divisor"; // f32 [D/2], only with that scaling

static int write_table(struct h5file *f, const struct transformer_dims *d)
{
    const int64_t n = d->head_dim / 2;
    return d->rope.scaling == ROPE_SCALING_TABLE
               ? h5file_write(f, table_name, H5_F32, 1, &n, d->rope.divisor)
               : 0;
}

static int read_table(struct h5file *f, struct transformer_dims *d)
{
    const int64_t n = d->head_dim / 2;
    if (d->rope.scaling != ROPE_SCALING_TABLE)
        return 0;
    if (n < 1 || n > ROPE_TABLE)
        return err_damaged("%s: a table of rotary frequencies for heads of %d", h5file_path(f),
                           d->head_dim);
    return h5file_read(f, table_name, H5_F32, 1, &n, d->rope.divisor);
}

/* ---- what the model says about itself ---- */

static const char about_name[] = "about";
enum { ABOUT_MOST = 1 << 24 };

static int write_about(struct h5file *f, const struct buf *about)
{
    const int64_t n = about ? (int64_t)about->n : 0;
    return n ? h5file_write(f, about_name, H5_U8, 1, &n, about->p) : 0;
}

static int read_about(struct h5file *f, struct buf *about)
{
    struct h5shape s;
    if (!h5file_has(f, about_name))
        return 0;
    if (h5file_shape(f, about_name, &s))
        return -1;
    if (s.ndim != 1 || s.n < 1 || s.n > ABOUT_MOST)
        return err("%s: %s has %lld entries", h5file_path(f), about_name, (long long)s.n);
    void *bytes = mem_new((size_t)s.n, 1);
    const int rc = bytes ? h5file_read(f, about_name, H5_U8, 1, s.dim, bytes) : -1;
    if (!rc)
        buf_add(about, bytes, (size_t)s.n);
    free(bytes);
    return rc || about->failed ? -1 : 0;
}

/* ---- writing ---- */

static int write_slab(struct h5file *f, const char *group, const struct transformer *m,
                      const float *slab)
{
    for (int i = 0; i < m->store.n; i++) {
        const struct param *p = &m->store.p[i];
        char name[CHECKPOINT_NAME];
        snprintf(name, sizeof name, "%s/%s", group, p->name);
        if (h5file_write(f, name, H5_F32, p->used.nd, p->used.dim,
                         slab + (p->latent - m->store.latent)))
            return -1;
    }
    return 0;
}

/* Of a base under factors: what is not in blocks. */
static int write_base(struct h5file *f, const struct transformer *m, const struct qat *q)
{
    for (int i = 0; i < m->store.n; i++) {
        const struct param *p = &m->store.p[i];
        char name[CHECKPOINT_NAME];
        snprintf(name, sizeof name, "weights/%s", p->name);
        if (!qat_find(q, p->name) &&
            h5file_write(f, name, H5_F32, p->used.nd, p->used.dim, p->used.data))
            return -1;
    }
    return 0;
}

static int write_text(struct h5file *f, const char *name, const char *text)
{
    return h5file_write_text(f, name, text, strlen(text));
}

static int write_all(struct h5file *f, const struct transformer *m,
                     const struct checkpoint_state *state, const struct checkpoint_source *source)
{
    const bool lora = m->lora.factors.n > 0;
    const bool blocks = lora || (source->qat && source->qat->attached);
    if (h5file_set_int(f, "/", "format",
                       lora     ? FORMAT_LORA
                       : blocks ? FORMAT_BLOCKS
                                : FORMAT) ||
        h5file_set_text(f, "/", "attar", CMD_VERSION) ||
        h5file_set_text(f, "/", "stage", source->stage) ||
        h5file_set_text(f, "/", "config_hash", source->config_hash) ||
        h5file_set_text(f, "/", "corpus_hash", source->corpus_hash) ||
        h5file_set_text(f, "model", "arch", arch_rows[m->dims.arch].name) ||
        write_attrs(f, "/", state_attrs, state, 0) ||
        write_attrs(f, "model", dims_attrs, &m->dims, m->dims.n_layers) ||
        write_table(f, &m->dims) || write_text(f, "config", source->config) ||
        write_text(f, "tokenizer", source->tokenizer) || write_about(f, source->about) ||
        (lora ? write_base(f, m, source->qat) || checkpoint_write_factors(f, &m->lora)
              : write_slab(f, "weights", m, m->store.latent)) ||
        (blocks && checkpoint_write_blocks(f, source->qat, source->mix)))
        return -1;
    for (int i = 0; i < m->store.n_states; i++) {
        char group[GROUP_MAX];
        snprintf(group, sizeof group, "optim/%s", m->store.state[i].name);
        if (write_slab(f, group, m, m->store.state[i].slab))
            return -1;
        if (!strcmp(group, average) &&
            h5file_set_double(f, average, unaveraged, state->last_unaveraged))
            return -1;
    }
    return 0;
}

int checkpoint_save(const char *path, const struct transformer *m,
                    const struct checkpoint_state *state, const struct checkpoint_source *source)
{
    struct h5file *f;
    if (h5file_create(&f, path))
        return -1;
    if (write_all(f, m, state, source)) {
        h5file_abandon(f);
        return -1;
    }
    return h5file_commit(f);
}

/* ---- reading ---- */

static int read_header(struct checkpoint *c)
{
    struct h5file *f = c->file;
    struct buf arch = {0};
    int64_t format;
    if (h5file_get_int(f, "/", "format", &format))
        return err_is_damage() ? err_in("not a checkpoint") : -1;
    if (format < FORMAT || format > FORMAT_LORA)
        return err("%s: checkpoint format %lld, this program reads up to %d", h5file_path(f),
                   (long long)format, FORMAT_LORA);
    c->lora = format == FORMAT_LORA;
    int bad = h5file_get_text(f, "model", "arch", &arch);
    const int known = bad ? -1 : arch_find(arch.p ? arch.p : "");
    if (!bad && known < 0)
        bad = err("%s: architecture '%s' is unknown to this program", h5file_path(f),
                  arch.p ? arch.p : "");
    c->dims.arch = (enum arch)known;
    buf_free(&arch);
    if (bad || h5file_get_text(f, "/", "stage", &c->stage) ||
        h5file_get_text(f, "/", "config_hash", &c->config_hash) ||
        h5file_get_text(f, "/", "corpus_hash", &c->corpus_hash) ||
        read_attrs(f, "/", state_attrs, &c->state) ||
        read_attrs(f, "model", dims_attrs, &c->dims) || read_table(f, &c->dims) ||
        h5file_read_text(f, "config", &c->config) ||
        h5file_read_text(f, "tokenizer", &c->tokenizer) || read_about(f, &c->about) ||
        (format != FORMAT && checkpoint_read_mix(c)))
        return -1;
    c->state.last_unaveraged = NAN;
    const int averaged = h5file_has(f, average);
    if (averaged < 0)
        return -1;
    c->averaged = averaged;
    if (c->averaged && h5file_get_double(f, average, unaveraged, &c->state.last_unaveraged))
        return -1;
    enum { FEWEST = 5 }; // weights of a byte, in the smallest blocks
    // what a file claims must fit into it, before anything that large is allocated
    int64_t rest;
    if (transformer_check(&c->dims))
        return err_in("%s", h5file_path(f));
    const int64_t most =
        c->lora ? FEWEST * h5file_size(f) : h5file_size(f) / (int64_t)sizeof(float);
    if (transformer_params(&c->dims, &rest) > most)
        return err_damaged("%s: the file is too short for its model", h5file_path(f));
    return 0;
}

int checkpoint_open(struct checkpoint *c, const char *path)
{
    *c = (struct checkpoint){0};
    if (h5file_open(&c->file, path))
        return -1;
    if (read_header(c)) {
        checkpoint_close(c);
        return -1;
    }
    return 0;
}

void checkpoint_close(struct checkpoint *c)
{
    h5file_close(c->file);
    buf_free(&c->stage);
    buf_free(&c->config);
    buf_free(&c->config_hash);
    buf_free(&c->corpus_hash);
    buf_free(&c->tokenizer);
    buf_free(&c->mix);
    buf_free(&c->about);
    *c = (struct checkpoint){0};
}

static int read_slab(struct h5file *f, const char *group, const struct transformer *m, float *slab)
{
    for (int i = 0; i < m->store.n; i++) {
        const struct param *p = &m->store.p[i];
        char name[CHECKPOINT_NAME];
        snprintf(name, sizeof name, "%s/%s", group, p->name);
        if (h5file_read(f, name, H5_F32, p->used.nd, p->used.dim,
                        slab + (p->latent - m->store.latent)))
            return -1;
    }
    return 0;
}

const char *const checkpoint_state_names[] = {"adam.m", "adam.v", "sgd.momentum", "muon.m",
                                              "muon.v", "lion.m", ema_name,       NULL};

int checkpoint_states(struct checkpoint *c, const char *names[STORE_STATES])
{
    int n = 0;
    for (int i = 0; checkpoint_state_names[i]; i++) {
        char group[GROUP_MAX];
        snprintf(group, sizeof group, "optim/%s", checkpoint_state_names[i]);
        const int there = h5file_has(c->file, group);
        if (there < 0)
            return -1;
        if (there && n == STORE_STATES)
            return err("%s: more than %d optimizer states", h5file_path(c->file), STORE_STATES);
        if (there)
            names[n++] = checkpoint_state_names[i];
    }
    const int64_t all = h5file_count(c->file, "optim");
    if (all >= 0 && all != n)
        return err("%s: %lld optimizer states, of which this program knows %d",
                   h5file_path(c->file), (long long)all, n);
    return all < 0 ? -1 : n;
}

/* A base, and, if the model is asked for, what its factors add. */
static int load_base(struct checkpoint *c, struct transformer *m, enum checkpoint_what what)
{
    for (int i = 0; i < m->store.n; i++) {
        const struct param *p = &m->store.p[i];
        char name[CHECKPOINT_NAME];
        snprintf(name, sizeof name, "blocks/%s", p->name);
        const int there = h5file_has(c->file, name);
        if (there < 0)
            return -1;
        if (there)
            continue;
        snprintf(name, sizeof name, "weights/%s", p->name);
        if (h5file_read(c->file, name, H5_F32, p->used.nd, p->used.dim, p->latent))
            return -1;
    }
    if (checkpoint_decode_blocks(c, m))
        return -1;
    if ((what == CHECKPOINT_MODEL || what == CHECKPOINT_LATENT) &&
        (checkpoint_use_factors(c, m) || lora_merge(m)))
        return -1;
    store_project(&m->store);
    return 0;
}

int checkpoint_load(struct checkpoint *c, struct transformer *m, enum checkpoint_what what)
{
    if (c->lora)
        return load_base(c, m, what);
    const char *states[STORE_STATES];
    const bool with_optim = what == CHECKPOINT_TRAINING;
    const char *weights = c->averaged && !with_optim ? average : "weights";
    if (read_slab(c->file, weights, m, m->store.latent))
        return -1;
    const int n = with_optim ? checkpoint_states(c, states) : 0;
    if (n < 0)
        return -1;
    for (int i = 0; i < n; i++) {
        char group[GROUP_MAX];
        float *slab = store_state(&m->store, states[i]);
        snprintf(group, sizeof group, "optim/%s", states[i]);
        if (!slab || read_slab(c->file, group, m, slab))
            return -1;
    }
    if ((what == CHECKPOINT_MODEL || what == CHECKPOINT_BASE) && c->mix.n &&
        checkpoint_decode_blocks(c, m))
        return -1;
    store_project(&m->store);
    return 0;
}

static int use(const char *path, struct transformer *m, struct tokenizer **tok,
               enum checkpoint_what what)
{
    struct checkpoint c;
    *tok = NULL;
    *m = (struct transformer){0};
    if (checkpoint_open(&c, path))
        return -1;
    int bad = transformer_init(m, &c.dims, STORE_FROZEN) || checkpoint_load(&c, m, what);
    if (!bad && !(*tok = tokenizer_parse(c.tokenizer.p, c.tokenizer.n)))
        bad = err_in("%s: tokenizer", path);
    if (!bad && tokenizer_vocab_size(*tok) > m->dims.vocab)
        bad = err("%s: %d tokens in the tokenizer, %d in the model", path,
                  tokenizer_vocab_size(*tok), m->dims.vocab);
    checkpoint_close(&c);
    if (bad) {
        transformer_free(m);
        tokenizer_free(*tok);
        *tok = NULL;
    }
    return bad ? -1 : 0;
}

int checkpoint_use(const char *path, struct transformer *m, struct tokenizer **tok)
{
    return use(path, m, tok, CHECKPOINT_MODEL);
}

int checkpoint_use_base(const char *path, struct transformer *m, struct tokenizer **tok)
{
    return use(path, m, tok, CHECKPOINT_BASE);
}
