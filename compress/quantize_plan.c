#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/mem.h"
#include "compress/codecs/codecs.h"
#include "compress/gguf_meta.h"
#include "compress/quantize.h"

enum {
    LAYERS_MOST = 65536,
    HEADS_MOST = 65536,
    WIDTH_MOST = 1 << 24,
    KEY = 80,
    QUANTIZATION_VERSION = 2
};

/* ---- facts ---- */

/* Of layer l, if there is a list; `other` if there is no such key. */
static int of_layer(const struct gguf *g, const char *arch, const char *what, int64_t layers, int l,
                    int other, int *x)
{
    char key[KEY];
    int *list = mem_new((size_t)layers, sizeof *list);
    snprintf(key, sizeof key, "%s.%s", arch, what);
    const int rc = list ? gguf_meta_ints(g, key, 0, WIDTH_MOST, (size_t)layers, list) : -1;
    *x = rc ? other : list[l];
    free(list);
    return rc < 0 ? -1 : 0;
}

/* Has layer l no tensors by the metadata: neither heads nor a feed-forward half (as in deci)? 1, 0,
   or -1 with err() set. */
static int is_empty(const struct gguf *g, const char *arch, int layers, int l)
{
    int heads, width;
    if (of_layer(g, arch, "attention.head_count", layers, l, 1, &heads) ||
        of_layer(g, arch, "feed_forward_length", layers, l, 1, &width))
        return -1;
    return !heads && !width;
}

/* A model of which whole layers were lost would become a smaller file that says nothing of it. */
static int check_layers(const struct gguf *g, const char *arch, int n)
{
    bool *there = mem_new((size_t)n, sizeof *there);
    if (!there)
        return -1;
    for (size_t i = 0; i < g->n_tensors; i++) {
        const struct gguf_string *s = &g->tensor[i].name;
        static const char prefix[] = "blk.";
        size_t at = sizeof prefix - 1;
        int64_t l = 0;
        if (s->n < at || memcmp(s->s, prefix, at))
            continue;
        for (; at < s->n && s->s[at] >= '0' && s->s[at] <= '9' && l < n; at++)
            l = 10 * l + s->s[at] - '0';
        if (l < n)
            there[l] = true;
    }
    int whole = 1;
    for (int l = 0; l < n && whole > 0; l++)
        if (!there[l] && !(whole = is_empty(g, arch, n, l)))
            err("layer %d of %d has no tensors: a part of the model is missing", l, n);
    free(there);
    return whole > 0 ? 0 : -1;
}

static int find_facts(const struct gguf *g, const char *arch, struct recipe_facts *f)
{
    int64_t layers = 0, experts = 0;
    char key[KEY];
    snprintf(key, sizeof key, "%s.block_count", arch);
    int rc = gguf_meta_int(g, key, 1, LAYERS_MOST, &layers);
    if (rc)
        return rc < 0 ? -1 : err("metadata '%s' is missing", key);
    snprintf(key, sizeof key, "%s.expert_count", arch);
    if (gguf_meta_int(g, key, 0, HEADS_MOST, &experts) < 0)
        return -1;
    if (experts)
        return err("the model has %lld experts: mixtures of experts are not supported",
                   (long long)experts);
    *f = (struct recipe_facts){.n_layers = (int)layers, .tied = !gguf_tensor(g, "output.weight")};
    if (of_layer(g, arch, "attention.head_count", layers, 0, 1, &f->n_heads) ||
        of_layer(g, arch, "attention.head_count_kv", layers, 0, f->n_heads, &f->n_kv_heads))
        return -1;
    f->is_70b = recipe_is_70b(arch, f->n_layers, f->n_heads, f->n_kv_heads);
    return check_layers(g, arch, (int)layers);
}

/* ---- plan ---- */

static int plan_tensor(struct quantize_plan *p, size_t i, const struct recipe *r,
                       const struct recipe_facts *f, bool allow_requantize)
{
    const struct gguf_tensor *t = &p->in->tensor[i];
    struct recipe_choice *c = &p->choice[i];
    char name[GGUF_NAME];
    if (!t->type)
        return err("tensor '%.*s' is of type %u, which is unknown to this program", (int)t->name.n,
                   t->name.s, t->type_id);
    snprintf(name, sizeof name, "%.*s", (int)t->name.n, t->name.s);
    const struct recipe_tensor rt = {.name = name,
                                     .nd = t->nd,
                                     .cols = (int64_t)t->dim[0],
                                     .from = codecs_by_id(t->type_id)};
    p->old_bytes += t->bytes;
    p->elements += t->numel;
    if (recipe_choose(r, f, &rt, c))
        return -1;
    if (!c->matrix || c->dt == rt.from) {
        p->new_bytes += t->bytes;
        return 0;
    }
    if (!rt.from || !rt.from->decode)
        return err("tensor '%s': %s cannot be decoded by this program", name, t->type->name);
    if (rt.from->block > 1 && !allow_requantize)
        return err("tensor '%s' is %s already: quantizing it again loses more than once from the "
                   "original; --allow-requantize does it nevertheless",
                   name, rt.from->name);
    p->matrices++;
    p->fallbacks += c->dt != c->wanted;
    p->new_bytes +=
        t->numel / t->dim[0] * (t->dim[0] / (uint64_t)c->dt->block) * (uint64_t)c->dt->bytes;
    return 0;
}

int quantize_plan(struct quantize_plan *p, const struct gguf *in, const char *arch,
                  const struct recipe *r, bool weighed, bool allow_requantize)
{
    struct recipe_facts facts;
    *p = (struct quantize_plan){.in = in, .mix = r->mix};
    if (find_facts(in, arch, &facts))
        return -1;
    facts.weighed = weighed;
    p->choice = mem_new(in->n_tensors, sizeof *p->choice);
    if (!p->choice)
        return -1;
    for (size_t i = 0; i < in->n_tensors; i++)
        if (plan_tensor(p, i, r, &facts, allow_requantize)) {
            quantize_plan_free(p);
            return -1;
        }
    return 0;
}

void quantize_plan_free(struct quantize_plan *p)
{
    free(p->choice);
    *p = (struct quantize_plan){0};
}

/* ---- the new file ---- */

/* Keys that are written anew, or that were true of the old file alone. */
static bool replaced(const struct gguf_string *key)
{
    static const char *const names[] = {"general.alignment",
                                        "general.file_type",
                                        "general.quantization_version",
                                        "general.quantized_by",
                                        "quantize.imatrix.file",
                                        "quantize.imatrix.dataset",
                                        "quantize.imatrix.entries_count",
                                        "quantize.imatrix.chunks_count",
                                        "split.no",
                                        "split.count",
                                        "split.tensors.count"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (key->n == strlen(names[i]) && !memcmp(key->s, names[i], key->n))
            return true;
    return false;
}

void quantize_declare_importance(struct gguf_write *w, const struct imatrix *m, const char *path)
{
    if (!m)
        return;
    gguf_write_text(w, "quantize.imatrix.file", path);
    if (m->n_datasets)
        gguf_write_text(w, "quantize.imatrix.dataset", m->dataset[0]);
    gguf_write_u32(w, "quantize.imatrix.entries_count", (uint32_t)m->n);
    if (m->chunks)
        gguf_write_u32(w, "quantize.imatrix.chunks_count", m->chunks);
}

void quantize_declare_mix(struct gguf_write *w, const struct recipe_mix *mix)
{
    gguf_write_u32(w, "general.quantization_version", QUANTIZATION_VERSION);
    gguf_write_u32(w, "general.file_type", mix->id);
}

void quantize_declare(const struct quantize_plan *p, struct gguf_write *w, const struct imatrix *m,
                      const char *imatrix_path)
{
    w->alignment = p->in->alignment == 32 ? 0 : p->in->alignment;
    for (size_t i = 0; i < p->in->n_pairs; i++)
        if (!replaced(&p->in->pair[i].key))
            gguf_write_pair(w, &p->in->pair[i]);
    quantize_declare_mix(w, p->mix);
    quantize_declare_importance(w, m, imatrix_path);
    for (size_t i = 0; i < p->in->n_tensors; i++) {
        const struct gguf_tensor *t = &p->in->tensor[i];
        const struct recipe_choice *c = &p->choice[i];
        char name[GGUF_NAME];
        snprintf(name, sizeof name, "%.*s", (int)t->name.n, t->name.s);
        gguf_write_tensor(w, name, c->dt ? gguf_type((uint32_t)c->dt->gguf_id) : t->type, t->nd,
                          t->dim);
    }
}

struct quantize_source quantize_from(const struct gguf *g, const struct gguf_tensor *t,
                                     const char *name)
{
    struct quantize_source s = {.name = name, .bytes = (size_t)t->bytes, .mapped = g->mapped};
    s.t = (struct tensor){.dt = codecs_by_id(t->type_id),
                          .nd = 2,
                          .dim = {(int64_t)(t->numel / t->dim[0]), (int64_t)t->dim[0]},
                          .data = (void *)(uintptr_t)t->data};
    return s;
}
