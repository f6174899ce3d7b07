#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/mem.h"
#include "autograd/base/names.h"
#include "experiments/import_hf.h"

enum { NAME = 160 };

static const char head_name[] = "lm_head.weight";

/* ---- names ---- */

enum how { HOW_PLAIN, HOW_TURNED, HOW_HEADS }; /* as it is; [in,out]; rows of q and k */

struct name {
    const char *ours, *theirs; /* without ".weight", ".bias"; %d: the layer */
    enum how how;
};

static const struct name llama_names[] = {
    {"token_embd", "model.embed_tokens", HOW_PLAIN},
    {"blk.%d.attn_norm", "model.layers.%d.input_layernorm", HOW_PLAIN},
    {"blk.%d.attn_q", "model.layers.%d.self_attn.q_proj", HOW_HEADS},
    {"blk.%d.attn_k", "model.layers.%d.self_attn.k_proj", HOW_HEADS},
    {"blk.%d.attn_v", "model.layers.%d.self_attn.v_proj", HOW_PLAIN},
    {"blk.%d.attn_q_norm", "model.layers.%d.self_attn.q_norm", HOW_PLAIN},
    {"blk.%d.attn_k_norm", "model.layers.%d.self_attn.k_norm", HOW_PLAIN},
    {"blk.%d.attn_output", "model.layers.%d.self_attn.o_proj", HOW_PLAIN},
    {"blk.%d.ffn_norm", "model.layers.%d.post_attention_layernorm", HOW_PLAIN},
    {"blk.%d.ffn_gate", "model.layers.%d.mlp.gate_proj", HOW_PLAIN},
    {"blk.%d.ffn_up", "model.layers.%d.mlp.up_proj", HOW_PLAIN},
    {"blk.%d.ffn_down", "model.layers.%d.mlp.down_proj", HOW_PLAIN},
    {"output_norm", "model.norm", HOW_PLAIN},
    {"output", "lm_head", HOW_PLAIN},
    {0},
};

static const struct name gpt2_names[] = {
    {"token_embd", "transformer.wte", HOW_PLAIN},
    {"position_embd", "transformer.wpe", HOW_PLAIN},
    {"blk.%d.attn_norm", "transformer.h.%d.ln_1", HOW_PLAIN},
    {"blk.%d.attn_qkv", "transformer.h.%d.attn.c_attn", HOW_TURNED},
    {"blk.%d.attn_output", "transformer.h.%d.attn.c_proj", HOW_TURNED},
    {"blk.%d.ffn_norm", "transformer.h.%d.ln_2", HOW_PLAIN},
    {"blk.%d.ffn_up", "transformer.h.%d.mlp.c_fc", HOW_TURNED},
    {"blk.%d.ffn_down", "transformer.h.%d.mlp.c_proj", HOW_TURNED},
    {"output_norm", "transformer.ln_f", HOW_PLAIN},
    {"output", "lm_head", HOW_PLAIN},
    {0},
};

static const struct name *names_of(enum arch arch)
{
    return arch == ARCH_GPT2 ? gpt2_names : llama_names;
}

/* The row of the table that a parameter is, and its layer (-1: none); theirs becomes its name. */
static const struct name *name_of(enum arch arch, const char *ours, char theirs[NAME], int *layer)
{
    const char *what = strrchr(ours, '.');
    for (const struct name *n = names_of(arch); n->ours; n++) {
        char stem[NAME];
        *layer = -1;
        if (!strncmp(ours, "blk.", 4))
            *layer = atoi(ours + 4);
        snprintf(stem, sizeof stem, n->ours, *layer);
        if (strlen(stem) != (size_t)(what - ours) || strncmp(stem, ours, (size_t)(what - ours)))
            continue;
        const int at = snprintf(theirs, NAME, n->theirs, *layer);
        snprintf(theirs + at, (size_t)(NAME - at), "%s", what);
        return n;
    }
    BUG("%s has no other name", ours);
}

struct found {
    const struct safetensors *file;
    const struct safetensors_tensor *tensor;
};

static bool find_exactly(const struct import_hf_shards *s, const char *name, struct found *f)
{
    for (size_t i = 0; i < s->n; i++)
        if ((f->tensor = safetensors_find(&s->file[i], name))) {
            f->file = &s->file[i];
            return true;
        }
    return false;
}

/* Some files leave the first part of the names off: those of the model without its head. */
static const char *short_name(const char *name)
{
    static const char *const first[] = {"model.", "transformer."};
    for (size_t i = 0; i < sizeof first / sizeof *first; i++)
        if (!strncmp(name, first[i], strlen(first[i])))
            return name + strlen(first[i]);
    return name;
}

static bool find(const struct import_hf_shards *s, const char *name, struct found *f)
{
    return find_exactly(s, name, f) || find_exactly(s, short_name(name), f);
}

/* ---- values ---- */

static const struct dtype *dtype_of(const char *name)
{
    static const struct {
        const char *name;
        const struct dtype *dt;
    } known[] = {{"F32", &dtype_f32}, {"F16", &dtype_f16}, {"BF16", &dtype_bf16}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(known[i].name, name))
            return known[i].dt;
    return NULL;
}

static int check_shape(const struct param *p, const char *name, const struct safetensors_tensor *t,
                       bool turned)
{
    const uint64_t rows = (uint64_t)tensor_rows(&p->used), cols = (uint64_t)tensor_cols(&p->used);
    const bool fits = p->used.nd == 1
                          ? t->nd == 1 && t->dim[0] == cols
                          : t->nd == 2 && t->dim[turned] == rows && t->dim[!turned] == cols;
    if (!fits)
        return err("tensor '%s' is of %d dimensions, %llu x %llu; by config.json %s is %llu x "
                   "%llu%s",
                   name, t->nd, (unsigned long long)t->dim[0],
                   (unsigned long long)(t->nd > 1 ? t->dim[1] : 1), p->name,
                   (unsigned long long)rows, (unsigned long long)cols, turned ? ", turned" : "");
    return 0;
}

/* Row r of q or k as GGUF has it lies there in the file: pairs (i, i + D/2) become (2i, 2i + 1). */
static int64_t row_of(int64_t r, int64_t D)
{
    const int64_t in = r % D;
    return r - in + in / 2 + (in % 2 ? D / 2 : 0);
}

/* Decodes a tensor to latent, in the order that `how` says. */
static int decode(struct param *p, const struct found *f, const struct dtype *dt, enum how how,
                  int64_t D)
{
    const int64_t rows = (int64_t)(f->tensor->nd > 1 ? f->tensor->dim[0] : 1);
    const int64_t cols = (int64_t)(f->tensor->numel / (uint64_t)rows);
    const bool turned = how == HOW_TURNED && p->used.nd > 1, heads = how == HOW_HEADS;
    const size_t bytes = (size_t)cols * (size_t)dt->bytes;
    const unsigned char *data = safetensors_bytes(f->file, f->tensor);
    bool failed = false;
#pragma omp parallel
    {
        // a row in the file may lie at any address
        struct tensor row = {.dt = dt, .nd = 1, .dim = {cols}, .data = malloc(bytes + 1)};
        float *x = malloc(((size_t)cols + 1) * sizeof *x);
        if (!row.data || !x) {
#pragma omp atomic write
            failed = true;
        }
#pragma omp for schedule(static)
        for (int64_t r = 0; r < rows; r++) {
            if (!row.data || !x)
                continue;
            const int64_t from = heads && p->used.nd > 1 ? row_of(r, D) : r;
            memcpy(row.data, data + (size_t)from * bytes, bytes);
            dt->decode(&row, 0, x);
            for (int64_t c = 0; c < cols; c++)
                if (turned)
                    p->latent[c * rows + r] = x[c];
                else
                    p->latent[r * cols + c] = x[c];
        }
        free(row.data);
        free(x);
    }
    return failed ? err("out of memory") : 0;
}

/* The tensor that a parameter is; false: there is none. Where the head is tied to the embedding,
   either is the other. */
static bool find_param(const struct import_hf_shards *s, const struct transformer *m,
                       const struct param *p, char name[NAME], const struct name **row,
                       struct found *f)
{
    int layer;
    *row = name_of(m->dims.arch, p->name, name, &layer);
    return find(s, name, f) ||
           (m->dims.tied && !strcmp(p->name, "token_embd.weight") && find(s, head_name, f));
}

static int read_param(const struct import_hf_shards *s, const struct transformer *m,
                      struct param *p)
{
    char name[NAME];
    struct found f;
    const struct name *n;
    if (!find_param(s, m, p, name, &n, &f))
        return err("tensor '%s' is missing", name);
    const enum how how = n->how == HOW_HEADS && (arch_rows[m->dims.arch].traits & ARCH_ROPE_HALF)
                             ? HOW_PLAIN
                             : n->how;
    return decode(p, &f, dtype_of(f.tensor->type->name), how, m->dims.head_dim);
}

/* ---- checks, before memory is asked for: config.json may say anything ---- */

static int check_missing(const struct import_hf_shards *s, const struct transformer *m)
{
    struct names missing = {0};
    bool head = false;
    for (int i = 0; i < m->store.n; i++) {
        char name[NAME];
        struct found f;
        const struct name *row;
        if (find_param(s, m, &m->store.p[i], name, &row, &f))
            continue;
        head = head || !strcmp(name, head_name);
        names_add(&missing, name, strlen(name));
    }
    if (missing.n)
        err("by config.json %s missing: %s%s", missing.n > 1 ? "tensors are" : "a tensor is",
            names_text(&missing),
            head ? " (a head that is the embedding says \"tie_word_embeddings\": true)" : "");
    const int rc = missing.n ? -1 : 0;
    names_free(&missing);
    return rc;
}

static int check_param(const struct import_hf_shards *s, const struct transformer *m,
                       const struct param *p)
{
    char name[NAME];
    struct found f;
    const struct name *n;
    if (!find_param(s, m, p, name, &n, &f))
        return err("tensor '%s' is missing", name);
    if (!dtype_of(f.tensor->type->name))
        return err("tensor '%s' is %s; F32, F16 and BF16 are supported", name,
                   f.tensor->type->name);
    return check_shape(p, name, f.tensor, n->how == HOW_TURNED && p->used.nd > 1);
}

/* Is it of no use: a constant that older files hold, or a head that is the embedding? */
static bool needless(const struct transformer *m, const char *name)
{
    static const char *const ends[] = {".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq"};
    const size_t n = strlen(name);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (n > strlen(ends[i]) && !strcmp(name + n - strlen(ends[i]), ends[i]))
            return true;
    return m->dims.tied && !strcmp(name, head_name);
}

/* Their names of all parameters [n], to be freed. */
static char (*all_names(const struct transformer *m))[NAME]
{
    char(*theirs)[NAME] = mem_new((size_t)m->store.n, sizeof *theirs);
    int layer;
    for (int i = 0; theirs && i < m->store.n; i++)
        name_of(m->dims.arch, m->store.p[i].name, theirs[i], &layer);
    return theirs;
}

/* The parameter that a tensor is; -1: none. */
static int place_of(const char (*theirs)[NAME], int n, const char *name)
{
    int p = 0;
    while (p < n && strcmp(theirs[p], name) != 0 && strcmp(short_name(theirs[p]), name) != 0)
        p++;
    return p < n ? p : -1;
}

/* A tensor that no parameter is would silently be left out of the computation; one of two of the
   same would be. */
static int check_places(const struct import_hf_shards *s, const struct transformer *m)
{
    char(*theirs)[NAME] = all_names(m);
    bool *taken = mem_new((size_t)m->store.n, sizeof *taken);
    int rc = theirs && taken ? 0 : -1;
    for (size_t i = 0; i < s->n && !rc; i++)
        for (size_t k = 0; k < s->file[i].n && !rc; k++) {
            const char *name = s->file[i].tensor[k].name;
            const int p =
                needless(m, name) ? -1 : place_of((const char(*)[NAME])theirs, m->store.n, name);
            if (p < 0 && !needless(m, name))
                rc = err("tensor '%.100s' has no place in this architecture", name);
            else if (p >= 0 && taken[p])
                rc = err("tensor '%.100s' is there twice", name);
            else if (p >= 0)
                taken[p] = true;
        }
    free(taken);
    free(theirs);
    return rc;
}

int import_hf_check(const struct import_hf_shards *s, const struct transformer *m)
{
    if (check_missing(s, m) || check_places(s, m))
        return -1;
    for (int i = 0; i < m->store.n; i++)
        if (check_param(s, m, &m->store.p[i]))
            return -1;
    return 0;
}

/* ---- the whole ---- */

void import_hf_settle_head(const struct import_hf_shards *s, struct transformer_dims *d)
{
    struct found head, embd;
    if (!d->tied || !find(s, head_name, &head) ||
        !find(s, d->arch == ARCH_GPT2 ? "transformer.wte.weight" : "model.embed_tokens.weight",
              &embd))
        return;
    const uint64_t n = head.tensor->end - head.tensor->begin;
    d->tied = head.tensor->type == embd.tensor->type &&
              n == embd.tensor->end - embd.tensor->begin &&
              !memcmp(safetensors_bytes(head.file, head.tensor),
                      safetensors_bytes(embd.file, embd.tensor), (size_t)n);
    if (!d->tied)
        err_warn("config.json ties the head to the embedding ('tie_word_embeddings'), but "
                 "'lm_head.weight' is another one: it is used, as in transformers");
}

int import_hf_weights(const struct import_hf_shards *s, struct transformer *m)
{
    if (import_hf_check(s, m))
        return -1;
    for (int i = 0; i < m->store.n; i++)
        if (read_param(s, m, &m->store.p[i]))
            return -1;
    store_project(&m->store);
    return 0;
}
