#include "experiments/adapter.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/err.h"
#include "compress/codecs/codecs.h"
#include "compress/gguf_meta.h"
#include "experiments/about.h"
#include "experiments/model_gguf.h"

static const char suffix_a[] = ".lora_a", suffix_b[] = ".lora_b",
                  alpha_key[] = "adapter.lora.alpha";

/* ---- reading ---- */

/* The text behind the key has to be this. */
static int want_text(const struct gguf *g, const char *key, const char *value)
{
    struct gguf_string s = {"", 0};
    if (gguf_meta_text(g, key, &s) < 0)
        return -1;
    return s.n == strlen(value) && !memcmp(s.s, value, s.n)
               ? 0
               : err("metadata '%s' is '%.*s', not '%s'", key, (int)(s.n < 40 ? s.n : 40), s.s,
                     value);
}

static bool ends_with(const char *name, const char *suffix)
{
    const size_t n = strlen(name), k = strlen(suffix);
    return n > k && !strcmp(name + n - k, suffix);
}

/* Declares factors for one tensor of the file: NAME.lora_a; the others are looked at here, too. */
static int declare(const struct gguf_tensor *t, struct transformer *m)
{
    char name[GGUF_NAME], base[GGUF_NAME];
    snprintf(name, sizeof name, "%.*s", (int)t->name.n, t->name.s);
    if (ends_with(name, "_norm.weight")) // as llama.cpp does
        return err_warn("tensor '%s' of the adapter is left out: norms are not adapted", name), 0;
    if (!ends_with(name, suffix_a) && !ends_with(name, suffix_b))
        return err("tensor '%s' ends neither in %s nor in %s", name, suffix_a, suffix_b);
    snprintf(base, sizeof base, "%.*s", (int)(strlen(name) - strlen(suffix_a)), name);
    const struct param *p = store_find(&m->store, base);
    if (!p)
        return err("tensor '%s': the model has no '%s'", name, base);
    if (p == m->token_embd)
        return err("tensor '%s': factors of the embedding are not supported", name);
    const uint64_t rank = ends_with(name, suffix_a) ? t->dim[1] : t->dim[0];
    if (t->nd != 2 || rank < 1 || rank > INT32_MAX)
        return err("tensor '%s' is no factor of a matrix", name);
    return ends_with(name, suffix_a) ? lora_add(m, p, (int64_t)rank) : 0;
}

static int read_factor(const struct gguf *g, const struct param *p)
{
    const struct gguf_tensor *t = gguf_tensor(g, p->name);
    const int64_t rows = tensor_rows(&p->used), cols = tensor_cols(&p->used);
    if (!t)
        return err("tensor '%s' is missing", p->name);
    const struct dtype *dt = codecs_by_id(t->type_id);
    if (!dt || !dt->decode)
        return err("tensor '%s' is of type %s, which cannot be decoded here", p->name,
                   t->type ? t->type->name : "unknown");
    if (t->nd != 2 || t->dim[0] != (uint64_t)cols || t->dim[1] != (uint64_t)rows)
        return err("tensor '%s' is %llu x %llu, by the model it is %lld x %lld", p->name,
                   (unsigned long long)t->dim[1], (unsigned long long)t->dim[0], (long long)rows,
                   (long long)cols);
    struct tensor from = {.dt = dt, .nd = 2, .dim = {rows, cols}};
    from.data = (void *)(uintptr_t)t->data; // only read
    for (int64_t r = 0; r < rows; r++)
        dt->decode(&from, r, p->latent + r * cols);
    return 0;
}

static int want_arch(enum arch a, enum arch of)
{
    return a == of ? 0
                   : err("it is for %s, the model is %s", arch_rows[a].name, arch_rows[of].name);
}

/* Every tensor of a file is one of the factors; pairs are complete. */
static int read_all(const struct gguf *g, struct transformer *m, double scale)
{
    double alpha = 0;
    enum arch arch;
    if (want_text(g, "general.type", "adapter") || want_text(g, "adapter.type", "lora") ||
        !model_gguf_arch(g, &arch) || want_arch(arch, m->dims.arch) ||
        gguf_meta_real(g, alpha_key, &alpha) < 0)
        return -1;
    for (size_t i = 0; i < g->n_tensors; i++)
        if (declare(&g->tensor[i], m))
            return -1;
    if (!m->lora.factors.n)
        return err("there are no factors in it");
    if (lora_attach(m, alpha, STORE_FROZEN))
        return -1;
    for (int i = 0; i < m->lora.factors.n; i++)
        if (read_factor(g, &m->lora.factors.p[i]))
            return -1;
    for (size_t i = 0; i < g->n_tensors; i++) {
        char name[GGUF_NAME];
        snprintf(name, sizeof name, "%.*s", (int)g->tensor[i].name.n, g->tensor[i].name.s);
        if (ends_with(name, suffix_b) && !store_find(&m->lora.factors, name))
            return err("tensor '%s' has no %s", name, suffix_a);
    }
    for (int i = 0; i < m->lora.factors.n / 2; i++)
        m->lora.low[i].scale *= (float)scale;
    return 0;
}

int adapter_use(struct transformer *m, const char *path, double scale)
{
    struct gguf g;
    if (gguf_open(&g, path))
        return -1;
    const int rc = read_all(&g, m, scale);
    gguf_close(&g);
    if (!rc)
        return 0;
    lora_free(m);
    return err_in("%s", path);
}

int adapter_args_use(const struct adapter_args *a, struct transformer *m)
{
    if (!a->lora && !a->lora_scaled)
        return 0;
    if (a->lora && a->lora_scaled)
        return err("--lora and --lora-scaled exclude each other: one adapter at a time");
    if (a->lora)
        return adapter_use(m, a->lora, 1);
    const char *colon = strrchr(a->lora_scaled, ':');
    char path[4096], *end = NULL;
    const double scale = colon ? strtod(colon + 1, &end) : 0;
    if (!colon || end == colon + 1 || *end || !isfinite(scale) ||
        snprintf(path, sizeof path, "%.*s", (int)(colon - a->lora_scaled), a->lora_scaled) >=
            (int)sizeof path)
        return err("--lora-scaled %s: what is wanted is FILE:SCALE, such as a.gguf:0.5",
                   a->lora_scaled);
    return adapter_use(m, path, scale);
}

/* ---- writing ---- */

int adapter_write(const char *path, const struct transformer *m, const struct export_origin *o)
{
    const struct store *s = &m->lora.factors;
    struct gguf_write w = {0};
    gguf_write_text(&w, "general.architecture", export_arch(&m->dims));
    gguf_write_text(&w, "general.type", "adapter");
    gguf_write_text(&w, "general.name", o->name);
    if (about_declare(o->about, true, &w))
        w.failed = true;
    gguf_write_text(&w, "adapter.type", "lora");
    gguf_write_f32(&w, alpha_key, (float)m->lora.alpha);
    gguf_write_text(&w, "attar.stage", o->stage);
    gguf_write_text(&w, "attar.config_hash", o->config_hash);
    gguf_write_u64(&w, "attar.steps", o->steps);
    gguf_write_u64(&w, "attar.tokens", o->tokens);
    for (int i = 0; i < s->n; i++) {
        const struct tensor *t = &s->p[i].used;
        gguf_write_tensor(&w, s->p[i].name, gguf_type((uint32_t)t->dt->gguf_id), 2,
                          (uint64_t[]){(uint64_t)t->dim[1], (uint64_t)t->dim[0]});
    }
    int rc = gguf_write_open(&w, path);
    for (int i = 0; i < s->n && !rc; i++)
        rc = gguf_write_data(&w, s->p[i].used.data, tensor_bytes(&s->p[i].used));
    if (!rc)
        return gguf_write_commit(&w);
    gguf_write_abandon(&w);
    return rc;
}
