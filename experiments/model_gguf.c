#include "experiments/model_gguf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "autograd/base/err.h"
#include "autograd/base/file.h"
#include "autograd/base/mem.h"
#include "autograd/base/names.h"
#include "compress/codecs/codecs.h"
#include "compress/gguf_meta.h"

enum { KEY = 128, MOST = 1 << 24, ASKED = 64 };

/* Metadata of one architecture: keys are "<arch>.<name>". */
struct meta {
    const struct gguf *g;
    const char *arch;
    char key[KEY];
    const char *asked[ASKED]; /* [n_asked] names that were looked up: others are refuse_rest()'s */
    int n_asked;
};

static const char *key_of(struct meta *m, const char *name)
{
    if (m->n_asked == ASKED)
        BUG("more than %d keys of metadata", ASKED);
    m->asked[m->n_asked++] = name;
    snprintf(m->key, sizeof m->key, "%s.%s", m->arch, name);
    return m->key;
}

/* rc of a reader, where the key has to be there. */
static int needed(const struct meta *m, int rc)
{
    return rc > 0 ? err("metadata '%s' is missing", m->key) : rc;
}

static int read_int(struct meta *m, const char *name, int64_t least, int *value, bool must)
{
    int64_t x = *value;
    int rc = gguf_meta_int(m->g, key_of(m, name), least, MOST, &x);
    rc = must ? needed(m, rc) : rc;
    *value = (int)x;
    return rc < 0 ? -1 : 0;
}

static int read_real(struct meta *m, const char *name, double *value)
{
    return gguf_meta_real(m->g, key_of(m, name), value) < 0 ? -1 : 0;
}

/* ---- what would change what a model computes, and is not done here ---- */

/* A number that has to have this value, if it is there. */
static int refuse_unless(struct meta *m, const char *name, double value, const char *what)
{
    double x = value;
    if (read_real(m, name, &x))
        return -1;
    return x == value ? 0 : err("metadata '%s' is %g: %s is not supported", m->key, x, what);
}

/* Is a key of the architecture's one that was read, or that changes nothing? */
static bool is_known(const struct meta *m, const char *name, size_t n)
{
    // the latter: only for other types of scaling, or for nobody
    static const char *const harmless[] = {"rope.scaling.original_context_length",
                                           "rope.scaling.finetuned", "tensor_data_layout"};
    bool known = false;
    for (int i = 0; i < m->n_asked; i++)
        known = known || (strlen(m->asked[i]) == n && !memcmp(m->asked[i], name, n));
    for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++)
        known = known || (strlen(harmless[i]) == n && !memcmp(harmless[i], name, n));
    return known;
}

/* Keys of the architecture's that nothing here looked at may change what a model computes. */
static int refuse_rest(const struct meta *m, bool rotary)
{
    struct names rest = {0};
    const size_t arch = strlen(m->arch);
    for (size_t i = 0; i < m->g->n_pairs; i++) {
        const struct gguf_string k = m->g->pair[i].key;
        const bool own = k.n > arch && !memcmp(k.s, m->arch, arch) && k.s[arch] == '.';
        if (!own || is_known(m, k.s + arch + 1, k.n - arch - 1))
            continue;
        if (rotary || k.n < arch + 6 || memcmp(k.s + arch, ".rope.", 6) != 0) // or nobody turns
            names_add(&rest, k.s, k.n);
    }
    if (rest.n)
        err("metadata %s: not known here, and so perhaps a change of what the model computes",
            names_text(&rest));
    const int rc = rest.n ? -1 : 0;
    names_free(&rest);
    return rc;
}

static int refuse(struct meta *m, const struct transformer_dims *d)
{
    int window = 0;
    bool causal = true;
    if (read_int(m, "attention.sliding_window", 0, &window, false))
        return -1;
    if (window && window < d->context)
        return err("metadata '%s' is %d, the context is %d: attention over a sliding window "
                   "shorter than the context is not supported",
                   m->key, window, d->context);
    if (gguf_meta_bool(m->g, key_of(m, "attention.causal"), &causal) < 0)
        return -1;
    if (!causal)
        return err("metadata '%s' is false: only causal attention is supported", m->key);
    return refuse_unless(m, "expert_count", 0, "a mixture of experts") ||
                   refuse_unless(m, "nextn_predict_layers", 0, "prediction of further tokens") ||
                   refuse_unless(m, "expert_used_count", 0, "a mixture of experts") ||
                   refuse_unless(m, "vocab_size", d->vocab, "another number than of embeddings") ||
                   refuse_unless(m, "pooling_type", 0, "pooling") ||
                   refuse_unless(m, "attention.max_alibi_bias", 0, "a bias by distance") ||
                   refuse_unless(m, "attention.clamp_kqv", 0, "clamping") ||
                   refuse_unless(m, "attention.scale", 0, "another scale of attention") ||
                   refuse_unless(m, "rope.scaling.attn_factor", 1, "a factor on attention") ||
                   refuse_unless(m, "logit_scale", 1, "a scale on logits") ||
                   refuse_unless(m, "embedding_scale", 1, "a scale on embeddings") ||
                   refuse_unless(m, "residual_scale", 1, "a scale on the residual stream")
               ? -1
               : refuse_rest(m, !(arch_rows[d->arch].traits & ARCH_LEARNED));
}

/* ---- dims ---- */

/* What deci has, and is not computed here. */
static int refuse_halves(const struct transformer_dims *d)
{
    for (int l = 0; l < d->n_layers; l++) {
        const char *what = !d->n_heads[l]      ? "no attention (0 heads)"
                           : !d->n_kv_heads[l] ? "linear attention (0 heads of keys and values)"
                           : !d->d_ff[l]       ? "no feed-forward half (a width of 0)"
                                               : NULL;
        if (what)
            return err("layer %d has %s: not supported", l, what);
    }
    return 0;
}

static int read_heads(struct meta *m, struct transformer_dims *d)
{
    const size_t L = (size_t)d->n_layers;
    int value_dim;
    if (needed(m,
               gguf_meta_ints(m->g, key_of(m, "attention.head_count"), 0, 1 << 16, L, d->n_heads)))
        return -1;
    memcpy(d->n_kv_heads, d->n_heads, sizeof d->n_kv_heads);
    if (gguf_meta_ints(m->g, key_of(m, "attention.head_count_kv"), 0, 1 << 16, L, d->n_kv_heads) <
            0 ||
        needed(m, gguf_meta_ints(m->g, key_of(m, "feed_forward_length"), 0, MOST, L, d->d_ff)) ||
        refuse_halves(d))
        return -1;
    d->head_dim = d->d_model / d->n_heads[0];
    if (read_int(m, "attention.key_length", 1, &d->head_dim, false))
        return -1;
    value_dim = d->head_dim;
    if (read_int(m, "attention.value_length", 1, &value_dim, false))
        return -1;
    return value_dim == d->head_dim ? 0
                                    : err("metadata '%s' is %d, keys have %d: not supported",
                                          m->key, value_dim, d->head_dim);
}

/* rope_freqs.weight, f32 [D/2] */
static int read_divisors(const struct gguf *g, struct transformer_dims *d)
{
    const struct gguf_tensor *t = gguf_tensor(g, "rope_freqs.weight");
    if (!t)
        return 0;
    if (t->type_id != 0 || t->nd != 1 || t->dim[0] != (uint64_t)d->head_dim / 2 ||
        t->dim[0] > ROPE_TABLE)
        return err("tensor 'rope_freqs.weight' is no F32 of %d (at most %d) elements",
                   d->head_dim / 2, ROPE_TABLE);
    if (d->rope.scaling != ROPE_SCALING_NONE)
        return err("tensor 'rope_freqs.weight' beside linear scaling is not supported");
    d->rope.scaling = ROPE_SCALING_TABLE;
    memcpy(d->rope.divisor, t->data, (size_t)t->bytes);
    return 0;
}

static int read_rope(struct meta *m, struct transformer_dims *d)
{
    struct gguf_string type = {"none", 4};
    int turned = d->head_dim;
    double factor = 1;
    d->rope.base = 10000;
    if (arch_rows[d->arch].traits & ARCH_LEARNED)
        return 0;
    if (read_real(m, "rope.freq_base", &d->rope.base) ||
        read_int(m, "rope.dimension_count", 1, &turned, false))
        return -1;
    if (turned != d->head_dim)
        return err("metadata '%s' is %d, heads have %d: turning a part is not supported", m->key,
                   turned, d->head_dim);
    if (read_real(m, "rope.scale_linear", &factor) || read_real(m, "rope.scaling.factor", &factor))
        return -1;
    const bool given = factor != 1;
    if (given)
        type = (struct gguf_string){"linear", 6};
    if (gguf_meta_text(m->g, key_of(m, "rope.scaling.type"), &type) < 0)
        return -1;
    if (type.n == 6 && !memcmp(type.s, "linear", 6)) {
        if (!(factor > 0))
            return err("rope scaling by the factor %g", factor);
        if (given) {
            d->rope.scaling = ROPE_SCALING_LINEAR;
            d->rope.factor = factor;
        }
    } else if (type.n != 4 || memcmp(type.s, "none", 4)) {
        return err("metadata '%s' is '%.*s'; none and linear are supported", m->key,
                   (int)(type.n < 40 ? type.n : 40), type.s);
    }
    return read_divisors(m->g, d);
}

const char *model_gguf_arch(const struct gguf *g, enum arch *arch)
{
    struct gguf_string text;
    const char *name;
    const int rc = gguf_meta_text(g, "general.architecture", &text);
    if (rc > 0)
        err("metadata 'general.architecture' is missing: not a model");
    if (rc)
        return NULL;
    const int a = arch_find_gguf(text.s, text.n, &name);
    if (a >= 0) {
        *arch = (enum arch)a;
        return name;
    }
    struct buf known = {0};
    for (int i = 0; i < ARCH_N; i++)
        buf_printf(&known, "%s%s%s%s", i ? ", " : "", arch_rows[i].name,
                   arch_rows[i].varied ? ", " : "", arch_rows[i].varied ? arch_rows[i].varied : "");
    err("architecture '%.*s' is not supported; these are: %s", (int)(text.n < 40 ? text.n : 40),
        text.s, known.p ? known.p : "");
    buf_free(&known);
    return NULL;
}

int model_gguf_kind(const struct gguf *g)
{
    static const struct {
        const char *type, *what;
    } others[] = {
        {"adapter", "an adapter, not a model: give it by --lora"},
        {"imatrix", "a matrix of importance, not a model: give it by --imatrix"},
        {"mmproj", "a projector of images or sound, not a language model"},
    };
    struct gguf_string s = {"", 0};
    if (gguf_meta_text(g, "general.type", &s) < 0)
        return -1;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (s.n == strlen(others[i].type) && !memcmp(s.s, others[i].type, s.n))
            return err("%s", others[i].what);
    return 0;
}

int model_gguf_dims(const struct gguf *g, struct transformer_dims *d)
{
    struct meta m = {.g = g};
    *d = (struct transformer_dims){0};
    if (model_gguf_kind(g) || !(m.arch = model_gguf_arch(g, &d->arch)))
        return -1;
    const struct gguf_tensor *embd = gguf_tensor(g, "token_embd.weight");
    if (!embd)
        return err(g->n_tensors ? "tensor 'token_embd.weight' is missing"
                                : "the file has no tensors, only metadata");
    if (embd->dim[1] > MOST)
        return err("tensor 'token_embd.weight' has %llu rows", (unsigned long long)embd->dim[1]);
    d->vocab = (int)embd->dim[1];
    d->tied = !gguf_tensor(g, "output.weight");
    const bool norms = arch_rows[d->arch].traits & ARCH_LAYERNORM;
    if (read_int(&m, "block_count", 1, &d->n_layers, true) ||
        read_int(&m, "embedding_length", 1, &d->d_model, true) ||
        read_int(&m, "context_length", 1, &d->context, true))
        return -1;
    if (d->n_layers > LAYERS_MAX)
        return err("%d layers, at most %d are possible", d->n_layers, LAYERS_MAX);
    const char *eps = norms ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon";
    if (read_heads(&m, d) || needed(&m, gguf_meta_real(g, key_of(&m, eps), &d->norm_eps)) ||
        read_rope(&m, d) || refuse(&m, d))
        return -1;
    return transformer_check(d);
}

/* Names what is missing, up to a handful. */
static int check_missing(const struct gguf *g, const struct store *s, bool biases)
{
    struct names missing = {0};
    for (int i = 0; i < s->n; i++)
        if ((biases || !strstr(s->p[i].name, ".bias")) && !gguf_tensor(g, s->p[i].name))
            names_add(&missing, s->p[i].name, strlen(s->p[i].name));
    if (missing.n)
        err(missing.n > 1 ? "tensors %s are missing" : "tensor %s is missing",
            names_text(&missing));
    const int rc = missing.n ? -1 : 0;
    names_free(&missing);
    return rc;
}

int model_gguf_check(const struct gguf *g)
{
    struct transformer_dims d;
    struct transformer shapes;
    if (model_gguf_dims(g, &d))
        return 0;
    if (transformer_init(&shapes, &d, STORE_SHAPES))
        return -1;
    const int rc = check_missing(g, &shapes.store, false); // llama.cpp's qwen2 may lack biases
    transformer_free(&shapes);
    return rc;
}

/* ---- weights ---- */

static const struct dtype *dtype_of(uint32_t id)
{
    const struct dtype *dt = codecs_by_id(id);
    return dt && dt->decode ? dt : NULL;
}

/* The tensor of a parameter: there, of its shape and of a type that can be decoded; or NULL. */
static const struct gguf_tensor *find(const struct gguf *g, const struct param *p)
{
    const struct gguf_tensor *t = gguf_tensor(g, p->name);
    const uint64_t cols = (uint64_t)tensor_cols(&p->used);
    const uint64_t rows = (uint64_t)tensor_rows(&p->used);
    if (!t)
        BUG("tensor %s was not looked for", p->name); // check_missing()
    if (t->dim[0] != cols || t->dim[1] != rows || t->numel != cols * rows) {
        err("tensor '%s' is %llu x %llu (%llu elements), by the metadata it is %llu x %llu",
            p->name, (unsigned long long)t->dim[0], (unsigned long long)t->dim[1],
            (unsigned long long)t->numel, (unsigned long long)cols, (unsigned long long)rows);
        return NULL;
    }
    if (!dtype_of(t->type_id)) {
        err("tensor '%s' is of type %s, which cannot be decoded here", p->name,
            t->type ? t->type->name : "unknown");
        return NULL;
    }
    return t;
}

/* Tensors that no parameter stands for would silently be left out of the computation. */
static int check_all_used(const struct gguf *g, const struct transformer *m)
{
    const bool divided = m->dims.rope.scaling == ROPE_SCALING_TABLE;
    for (size_t i = 0; i < g->n_tensors; i++) {
        char name[GGUF_NAME];
        snprintf(name, sizeof name, "%.*s", (int)g->tensor[i].name.n, g->tensor[i].name.s);
        if (!store_find(&m->store, name) && !(divided && !strcmp(name, "rope_freqs.weight")))
            return err("tensor '%s' has no place in this architecture", name);
    }
    return 0;
}

static int map(const struct gguf *g, struct transformer *m)
{
    if (check_missing(g, &m->store, true))
        return -1;
    for (int i = 0; i < m->store.n; i++) {
        struct param *p = &m->store.p[i];
        const struct gguf_tensor *t = find(g, p);
        if (!t || store_map(p, dtype_of(t->type_id), t->data))
            return -1;
    }
    return check_all_used(g, m);
}

static int decode(const struct gguf *g, struct transformer *m)
{
    for (int i = 0; i < m->store.n; i++) {
        const struct param *p = &m->store.p[i];
        const struct gguf_tensor *t = find(g, p);
        if (!t)
            return -1;
        struct tensor from = p->used;
        from.dt = dtype_of(t->type_id);
        from.data = (void *)(uintptr_t)t->data;
        const int64_t rows = tensor_rows(&from), cols = tensor_cols(&from);
#pragma omp parallel for schedule(static)
        for (int64_t r = 0; r < rows; r++)
            from.dt->decode(&from, r, p->latent + r * cols);
    }
    store_project(&m->store);
    return check_all_used(g, m);
}

static void close_file(void *file)
{
    gguf_close(file);
    free(file);
}

/* ---- files ---- */

int model_gguf_is(const char *path)
{
    char magic[4];
    const int there = file_exists(path);
    if (there <= 0)
        return there;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    const ssize_t n = fd < 0 ? -1 : file_fill(fd, magic, sizeof magic, -1);
    const int error = errno;
    if (fd >= 0)
        close(fd);
    if (n < 0 && error != EISDIR)
        return err("%s: %s", path, strerror(error));
    return n == sizeof magic && !memcmp(magic, "GGUF", sizeof magic);
}

static int open_model(const struct gguf *g, struct transformer *m, struct tokenizer **tok,
                      enum store_use use)
{
    struct transformer_dims d;
    if (model_gguf_dims(g, &d) || !(*tok = model_gguf_tokenizer(g)))
        return -1;
    if (tokenizer_vocab_size(*tok) > d.vocab)
        return err("%d tokens in the tokenizer, %d in the model", tokenizer_vocab_size(*tok),
                   d.vocab);
    // shapes, before memory is asked for
    struct transformer shapes;
    if (transformer_init(&shapes, &d, STORE_MAPPED))
        return -1;
    const int rc = map(g, &shapes);
    if (rc || use == STORE_MAPPED) {
        *m = shapes;
        return rc;
    }
    transformer_free(&shapes);
    return transformer_init(m, &d, use) || decode(g, m);
}

static int open_path(const char *path, struct transformer *m, struct tokenizer **tok,
                     enum store_use use)
{
    struct gguf *g = mem_new(1, sizeof *g);
    *m = (struct transformer){0};
    *tok = NULL;
    if (!g || gguf_open(g, path)) {
        free(g);
        return -1;
    }
    file_enlarge(g->base, g->size);
    for (int i = 0; i < g->n_parts; i++)
        file_enlarge(g->part[i].base, g->part[i].size);
    const int rc = open_model(g, m, tok, use);
    if (!rc && use == STORE_MAPPED) {
        m->store.file = g;
        m->store.close = close_file;
        return 0;
    }
    close_file(g);
    if (!rc)
        return 0;
    transformer_free(m);
    tokenizer_free(*tok);
    *tok = NULL;
    return err_in("%s", path);
}

int model_gguf_use(const char *path, struct transformer *m, struct tokenizer **tok)
{
    return open_path(path, m, tok, STORE_MAPPED);
}

int model_gguf_load(const char *path, struct transformer *m, struct tokenizer **tok)
{
    return open_path(path, m, tok, STORE_FROZEN);
}
