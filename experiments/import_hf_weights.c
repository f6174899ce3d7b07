#include <errno.h>
#include <jansson.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "autograd/base/err.h"
#include "autograd/base/file.h"
#include "autograd/base/mem.h"
#include "experiments/import_hf.h"

enum { INDEX_MOST = 256 << 20, NAME = 160, PATH = 4096 };

/* ---- files ---- */

static int open_one(struct import_hf_shards *s, const char *folder, const char *name)
{
    char path[PATH];
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        return err("%s: the path is too long", folder);
    if (mem_grow(&s->file, &s->cap, s->n + 1, sizeof *s->file) ||
        safetensors_open(&s->file[s->n], path))
        return -1;
    s->n++;
    return 0;
}

/* A file's name in the index comes from elsewhere, and must not lead out of the folder. */
static int check_name(const char *name)
{
    const size_t n = strlen(name);
    if (n > 12 && n < 256 && !strchr(name, '/') && *name != '.' &&
        !strcmp(name + n - 12, ".safetensors"))
        return 0;
    return err("weight_map: '%.100s' is no name of a .safetensors file in the folder", name);
}

/* Opens each file that the index names, once; the index becomes name -> number of the file. */
static int open_shards(struct import_hf_shards *s, const char *folder, json_t *map)
{
    json_t *files = json_object(), *value;
    const char *tensor;
    int rc = files ? 0 : err("out of memory");
    s->index = files;
    if (!rc && (!json_is_object(map) || !json_object_size(map)))
        rc = err("weight_map is no object, or empty");
    json_object_foreach(map, tensor, value)
    {
        const char *name = json_string_value(value);
        if (rc)
            break;
        if (!name || check_name(name)) {
            rc = name ? -1 : err("weight_map: '%.100s' has no file's name", tensor);
            break;
        }
        if (json_object_get(files, name))
            continue;
        if (json_object_set_new(files, name, json_integer((json_int_t)s->n)))
            rc = err("out of memory");
        else
            rc = open_one(s, folder, name);
    }
    return rc;
}

static int open_index(struct import_hf_shards *s, const char *folder, const char *path)
{
    struct buf text = {0};
    json_error_t e;
    if (file_read(path, INDEX_MOST, &text)) {
        buf_free(&text);
        return -1;
    }
    json_t *root = json_loadb(text.p ? text.p : "", text.n, JSON_REJECT_DUPLICATES, &e);
    buf_free(&text);
    int rc = root ? open_shards(s, folder, json_object_get(root, "weight_map"))
                  : err("line %d, column %d: %s", e.line, e.column, e.text);
    json_decref(root);
    return rc ? err_in("%s", path) : 0;
}

int import_hf_open(struct import_hf_shards *s, const char *folder)
{
    char path[PATH], single[PATH];
    *s = (struct import_hf_shards){0};
    if (snprintf(path, sizeof path, "%s/model.safetensors.index.json", folder) >= (int)sizeof path)
        return err("%s: the path is too long", folder);
    snprintf(single, sizeof single, "%s/model.safetensors", folder);
    if (!access(path, F_OK))
        return open_index(s, folder, path);
    if (access(single, F_OK))
        return err("%s: neither model.safetensors nor model.safetensors.index.json (other formats "
                   "of weights are not read: save the model as safetensors)",
                   folder);
    return open_one(s, folder, "model.safetensors");
}

void import_hf_close(struct import_hf_shards *s)
{
    for (size_t i = 0; i < s->n; i++)
        safetensors_close(&s->file[i]);
    free(s->file);
    json_decref(s->index);
    *s = (struct import_hf_shards){0};
}

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

static int read_param(const struct import_hf_shards *s, const struct transformer *m,
                      struct param *p)
{
    char name[NAME];
    int layer;
    struct found f;
    const struct name *n = name_of(m->dims.arch, p->name, name, &layer);
    const enum how how = n->how == HOW_HEADS && (arch_rows[m->dims.arch].traits & ARCH_ROPE_HALF)
                             ? HOW_PLAIN
                             : n->how;
    if (!find(s, name, &f))
        return err("tensor '%s' is missing", name);
    const struct dtype *dt = dtype_of(f.tensor->type->name);
    if (!dt)
        return err("tensor '%s' is %s; F32, F16 and BF16 are supported", name,
                   f.tensor->type->name);
    return check_shape(p, name, f.tensor, how == HOW_TURNED && p->used.nd > 1) ||
                   decode(p, &f, dt, how, m->dims.head_dim)
               ? -1
               : 0;
}

/* ---- tensors that stay where they are ---- */

/* Is it of no use: a constant that older files hold, or a head that is the embedding? */
static bool needless(const struct transformer *m, const char *name)
{
    static const char *const ends[] = {".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq"};
    const size_t n = strlen(name);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (n > strlen(ends[i]) && !strcmp(name + n - strlen(ends[i]), ends[i]))
            return true;
    return m->dims.tied && !strcmp(name, "lm_head.weight");
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

/* A tensor that no parameter is would silently be left out of the computation. */
static int check_places(const struct import_hf_shards *s, const struct transformer *m)
{
    char(*theirs)[NAME] = all_names(m);
    int rc = theirs ? 0 : -1;
    for (size_t i = 0; i < s->n && !rc; i++)
        for (size_t k = 0; k < s->file[i].n && !rc; k++) {
            const char *name = s->file[i].tensor[k].name;
            bool known = needless(m, name);
            for (int p = 0; p < m->store.n && !known; p++)
                known = !strcmp(theirs[p], name) || !strcmp(short_name(theirs[p]), name);
            if (!known)
                rc = err("tensor '%.100s' has no place in this architecture", name);
        }
    free(theirs);
    return rc;
}

int import_hf_weights(const struct import_hf_shards *s, struct transformer *m)
{
    if (check_places(s, m))
        return -1;
    for (int i = 0; i < m->store.n; i++)
        if (read_param(s, m, &m->store.p[i]))
            return -1;
    store_project(&m->store);
    return 0;
}
