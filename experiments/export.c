#include "experiments/export.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/file.h"
#include "autograd/base/mem.h"
#include "compress/quantize.h"
#include "experiments/about.h"
#include "experiments/mix_lines.h"

static const char head_name[] = "output.weight", rope_name[] = "rope_freqs.weight";

const char *export_arch(const struct transformer_dims *d)
{
    const struct arch_row *row = &arch_rows[d->arch];
    return row->varied && !transformer_even(d) ? row->varied : row->name;
}

int export_check(const struct transformer_dims *d)
{
    return arch_rows[d->arch].varied || transformer_even(d)
               ? 0
               : err("layers differ in heads or widths, and llama.cpp's %s has one width for all: "
                     "it would refuse the file",
                     arch_rows[d->arch].name);
}

/* ---- plan ---- */

static uint64_t bytes_of(const struct export_tensor *t)
{
    uint64_t rows = 1;
    for (int i = 1; i < t->nd; i++)
        rows *= t->dim[i];
    return rows * (t->dim[0] / (uint64_t)t->choice.dt->block) * (uint64_t)t->choice.dt->bytes;
}

static int add(struct export_plan *p, const char *name, const struct tensor *from,
               const struct recipe *r, const struct recipe_facts *f)
{
    struct export_tensor *t = &p->tensor[p->n];
    const struct recipe_tensor rt = {name, from->nd, tensor_cols(from), &dtype_f32};
    *t = (struct export_tensor){.from = from, .nd = from->nd, .dim = {1, 1, 1, 1}};
    snprintf(t->name, sizeof t->name, "%s", name);
    for (int i = 0; i < from->nd; i++)
        t->dim[i] = (uint64_t)from->dim[from->nd - 1 - i];
    if (p->blocks)
        t->choice = (struct recipe_choice){.dt = from->dt, .wanted = from->dt};
    else if (recipe_choose(r, f, &rt, &t->choice))
        return -1;
    t->bytes = bytes_of(t);
    p->bytes += t->bytes;
    p->elements += (uint64_t)tensor_numel(from);
    p->fallbacks += t->choice.dt != t->choice.wanted;
    p->n++;
    return 0;
}

/* What llama.cpp divides the frequencies of llama's rotary pairs by. */
static int add_rope(struct export_plan *p, const struct recipe *r, const struct recipe_facts *f)
{
    const struct transformer_dims *d = &p->m->dims;
    const struct rope_args *a = &p->m->rope.args;
    if (a->scaling != ROPE_SCALING_LLAMA3 && a->scaling != ROPE_SCALING_TABLE)
        return 0;
    if (d->arch != ARCH_LLAMA)
        return err("rope_scaling: llama.cpp's %s has no scaling by frequency",
                   arch_rows[d->arch].name);
    const int64_t half = d->head_dim / 2;
    struct rope_args plain = *a;
    plain.scaling = ROPE_SCALING_NONE;
    p->rope = mem_new((size_t)half, sizeof *p->rope);
    if (!p->rope)
        return -1;
    for (int i = 0; i < half; i++)
        p->rope[i] = (float)(rope_frequency(&plain, i) / rope_frequency(a, i));
    p->rope_row = (struct tensor){.dt = &dtype_f32, .nd = 1, .dim = {half}, .data = p->rope};
    return add(p, rope_name, &p->rope_row, r, f);
}

static int add_all(struct export_plan *p, const struct recipe *r, bool weighed)
{
    const struct transformer *m = p->m;
    const struct recipe_facts f = {.n_layers = m->dims.n_layers,
                                   .n_heads = m->dims.n_heads[0],
                                   .n_kv_heads = m->dims.n_kv_heads[0],
                                   .tied = m->dims.tied,
                                   .weighed = weighed,
                                   .is_70b =
                                       recipe_is_70b(export_arch(&m->dims), m->dims.n_layers,
                                                     m->dims.n_heads[0], m->dims.n_kv_heads[0])};
    for (int i = 0; i < m->store.n; i++)
        if (add(p, m->store.p[i].name, &m->store.p[i].used, r, &f))
            return -1;
    if (m->dims.arch == ARCH_GPT2 && m->dims.tied) {
        if (add(p, head_name, &m->token_embd->used, r, &f))
            return -1;
        // one matrix twice: to the byte
        struct export_tensor *head = &p->tensor[p->n - 1];
        p->bytes += p->tensor[0].bytes - head->bytes;
        head->choice = p->tensor[0].choice;
        head->bytes = p->tensor[0].bytes;
    }
    return add_rope(p, r, &f);
}

int export_plan(struct export_plan *p, const struct transformer *m, const struct recipe *r,
                bool weighed)
{
    *p = (struct export_plan){.m = m, .mix = r->mix};
    for (int i = 0; i < m->store.n; i++)
        p->blocks |= m->store.p[i].used.dt != &dtype_f32;
    p->tensor = mem_new((size_t)m->store.n + 2, sizeof *p->tensor);
    if (!p->tensor)
        return -1;
    if (!add_all(p, r, weighed))
        return 0;
    export_plan_free(p);
    return -1;
}

void export_plan_free(struct export_plan *p)
{
    free(p->tensor);
    free(p->rope);
    *p = (struct export_plan){0};
}

/* ---- metadata ---- */

static const char *key(const struct transformer_dims *d, const char *name)
{
    static _Thread_local char text[96];
    snprintf(text, sizeof text, "%s.%s", export_arch(d), name);
    return text;
}

static void put(struct gguf_write *w, const struct transformer_dims *d, const char *name, int x)
{
    gguf_write_u32(w, key(d, name), (uint32_t)x);
}

/* One number, or one a layer. */
static void put_layers(struct gguf_write *w, const struct transformer_dims *d, const char *name,
                       const int *list)
{
    bool same = true;
    for (int l = 1; l < d->n_layers; l++)
        same = same && list[l] == list[0];
    if (same)
        put(w, d, name, list[0]);
    else
        gguf_write_list(w, key(d, name), GGUF_I32, (size_t)d->n_layers, list);
}

static void put_rope(struct gguf_write *w, const struct transformer_dims *d)
{
    put(w, d, "rope.dimension_count", d->head_dim);
    gguf_write_f32(w, key(d, "rope.freq_base"), (float)d->rope.base);
    if (d->rope.scaling != ROPE_SCALING_LINEAR)
        return;
    gguf_write_text(w, key(d, "rope.scaling.type"), "linear");
    gguf_write_f32(w, key(d, "rope.scaling.factor"), (float)d->rope.factor);
}

static void put_dims(struct gguf_write *w, const struct transformer_dims *d)
{
    const unsigned traits = arch_rows[d->arch].traits;
    put(w, d, "vocab_size", d->vocab);
    put(w, d, "context_length", d->context);
    put(w, d, "embedding_length", d->d_model);
    put(w, d, "block_count", d->n_layers);
    put_layers(w, d, "feed_forward_length", d->d_ff);
    put_layers(w, d, "attention.head_count", d->n_heads);
    put_layers(w, d, "attention.head_count_kv", d->n_kv_heads);
    put(w, d, "attention.key_length", d->head_dim);
    put(w, d, "attention.value_length", d->head_dim);
    gguf_write_f32(w,
                   key(d, traits & ARCH_LAYERNORM ? "attention.layer_norm_epsilon"
                                                  : "attention.layer_norm_rms_epsilon"),
                   (float)d->norm_eps);
    if (!(traits & ARCH_LEARNED))
        put_rope(w, d);
}

/* "124M": as Hugging Face's names of models have it */
static void put_size(struct gguf_write *w, double n)
{
    char text[32];
    static const char units[] = "KMBT";
    int u = 0;
    for (n /= 1e3; n >= 999.5 && u < 3; u++)
        n /= 1e3;
    snprintf(text, sizeof text, n < 9.95 ? "%.1f%c" : "%.0f%c", n, units[u]);
    gguf_write_text(w, "general.size_label", text);
}

void export_declare(const struct export_plan *p, const struct tokenizer *t,
                    const struct export_origin *o, const struct imatrix *m,
                    const char *imatrix_path, struct gguf_write *w)
{
    const struct transformer_dims *d = &p->m->dims;
    int64_t rest;
    gguf_write_text(w, "general.architecture", export_arch(d));
    gguf_write_text(w, "general.type", "model");
    gguf_write_text(w, "general.name", o->name);
    if (about_declare(o->about, o->trained, w))
        w->failed = true;
    put_size(w, (double)transformer_params(d, &rest));
    put_dims(w, d);
    export_declare_tokenizer(t, d->vocab, w);
    quantize_declare_mix(w, p->mix);
    quantize_declare_importance(w, m, imatrix_path);
    gguf_write_text(w, "attar.stage", o->stage);
    gguf_write_text(w, "attar.config_hash", o->config_hash);
    gguf_write_u64(w, "attar.steps", o->steps);
    gguf_write_u64(w, "attar.tokens", o->tokens);
    for (int i = 0; i < p->n; i++) {
        const struct export_tensor *e = &p->tensor[i];
        gguf_write_tensor(w, e->name, gguf_type((uint32_t)e->choice.dt->gguf_id), e->nd, e->dim);
    }
}

/* ---- data ---- */

static int write_tensor(const struct export_plan *p, int i, const struct export_args *a,
                        struct gguf_write *w)
{
    const struct export_tensor *e = &p->tensor[i];
    const double from = (double)tensor_bytes(e->from);
    struct quantize_source s = {.name = e->name, .t = *e->from};
    float *mean;
    bool missing;
    const bool changes = e->choice.dt != e->from->dt;
    if (quantize_importance(changes ? a->imatrix : NULL, e->name, tensor_cols(e->from), &mean,
                            &missing))
        return -1;
    if (a->lines)
        mix_lines_head((size_t)i, (size_t)p->n,
                       &(struct mix_lines_tensor){e->name, (int)strlen(e->name), e->dim,
                                                  e->from->dt->name, from});
    if (a->lines && changes)
        mix_lines_start(e->choice.dt);
    s.importance = mean;
    const int rc = quantize_tensor(w, &s, e->choice.dt, a->stop);
    if (a->lines && !rc && changes)
        mix_lines_end(from, (double)e->bytes, missing ? " (no importance)" : "");
    if (a->lines && !rc && !changes)
        mix_lines_kept(from);
    free(mean);
    return rc;
}

int export_write(const struct export_plan *p, const struct tokenizer *t,
                 const struct export_args *a, const char *path)
{
    struct gguf_write w = {0};
    if (export_check(&p->m->dims))
        return -1;
    export_warn_tokenizer(t);
    export_declare(p, t, &a->origin, a->imatrix, a->imatrix_path, &w);
    int rc = gguf_write_open(&w, path);
    for (int i = 0; i < p->n && !rc; i++)
        rc = write_tensor(p, i, a, &w);
    if (!rc)
        return gguf_write_commit(&w);
    gguf_write_abandon(&w);
    return rc;
}

int export_round_trip(struct transformer *m, const struct recipe *r, const struct imatrix *im)
{
    struct export_plan p;
    if (export_plan(&p, m, r, im != NULL))
        return -1;
    int rc = 0;
    for (int i = 0; i < m->store.n && !rc; i++) { // the plan's first tensors
        const struct export_tensor *e = &p.tensor[i];
        const struct tensor *t = e->from;
        float *mean;
        bool missing;
        rc = quantize_importance(im, e->name, tensor_cols(t), &mean, &missing);
        if (!rc && t->dt != e->choice.dt)
            rc = quantize_round_trip(e->name, m->store.p[i].latent, tensor_rows(t), tensor_cols(t),
                                     e->choice.dt, mean);
        free(mean);
    }
    export_plan_free(&p);
    if (!rc)
        store_project(&m->store);
    return rc;
}

/* ---- Modelfile ---- */

static void put_stop(const struct tokenizer *t, int32_t id, struct buf *out)
{
    size_t n;
    const char *bytes = tokenizer_bytes(t, id, &n);
    if (!bytes)
        return;
    buf_text(out, "PARAMETER stop ");
    buf_json(out, bytes, n);
    buf_text(out, "\n");
}

int export_modelfile(const char *path, const struct transformer *m, const struct tokenizer *t)
{
    const char *slash = strrchr(path, '/');
    struct buf text = {0}, name = {0};
    buf_printf(&name, "%.*sModelfile", slash ? (int)(slash - path) + 1 : 0, path);
    buf_printf(&text, "# ollama create NAME -f Modelfile\nFROM ./%s\n", slash ? slash + 1 : path);
    if (!t->chat_template) // with one, Ollama finds its own in the file
        buf_text(&text, "TEMPLATE \"\"\"{{ .Prompt }}\"\"\"\n");
    if (m->lora.factors.n) {
        struct buf adapter = {0};
        export_adapter_path(slash ? slash + 1 : path, &adapter);
        buf_printf(&text, "ADAPTER ./%s\n", adapter.p ? adapter.p : "");
        buf_free(&adapter);
    }
    buf_printf(&text, "PARAMETER num_ctx %d\n", m->dims.context);
    put_stop(t, tokenizer_eot(t), &text);
    for (int r = TOKENIZER_EOS; r <= TOKENIZER_EOM; r++)
        if (t->role[r] >= 0 && t->role[r] != tokenizer_eot(t))
            put_stop(t, t->role[r], &text);
    const int rc = text.failed || name.failed ? -1 : file_replace(name.p, text.p, text.n);
    buf_free(&text);
    buf_free(&name);
    return rc;
}
