#include <jansson.h>
#include <math.h>
#include <string.h>

#include "autograd/base/err.h"
#include "experiments/import_hf.h"

enum { MOST = 1 << 24 };

/* Values of config.json; *bad stays set once one of them was wrong. */
struct reading {
    const json_t *root;
    bool bad;
};

static const json_t *get(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    return json_is_null(v) ? NULL : v;
}

static int fail(struct reading *r)
{
    r->bad = true;
    return -1;
}

/* A count; `otherwise` where the key is missing or null, -1: it must be there. */
static int count(struct reading *r, const char *key, int otherwise)
{
    const json_t *v = get(r->root, key);
    if (r->bad)
        return 1;
    if (!v && otherwise >= 0)
        return otherwise;
    const json_int_t x = json_integer_value(v);
    if (json_is_integer(v) && x >= 1 && x <= MOST)
        return (int)x;
    if (v)
        err("'%s' is no whole number from 1 to %d", key, MOST);
    else
        err("'%s' is missing", key);
    fail(r);
    return 1;
}

static double real(struct reading *r, const json_t *o, const char *key, double otherwise)
{
    const json_t *v = get(o, key);
    if (r->bad || !v)
        return otherwise;
    const double x = json_number_value(v);
    if (json_is_number(v) && isfinite(x))
        return x;
    err("'%s' is no number", key);
    fail(r);
    return otherwise;
}

static bool yes(struct reading *r, const char *key, bool otherwise)
{
    const json_t *v = get(r->root, key);
    if (r->bad || !v)
        return otherwise;
    if (json_is_boolean(v))
        return json_is_true(v);
    err("'%s' is neither true nor false", key);
    fail(r);
    return otherwise;
}

static const char *text(const json_t *o, const char *key)
{
    const char *s = json_string_value(get(o, key));
    return s ? s : "";
}

/* ---- what would be computed otherwise ---- */

static void want(struct reading *r, const char *key, bool value)
{
    if (yes(r, key, value) != value && !r->bad) {
        err("'%s' is %s: not supported", key, value ? "false" : "true");
        fail(r);
    }
}

static void want_one_of(struct reading *r, const char *key, const char *otherwise, const char *a,
                        const char *b)
{
    const char *s = get(r->root, key) ? text(r->root, key) : otherwise;
    if (r->bad || !strcmp(s, a) || !strcmp(s, b))
        return;
    err("'%s' is '%.40s'; %s is supported", key, s, a);
    fail(r);
}

static void refuse_key(struct reading *r, const char *key, const char *what)
{
    const json_t *v = get(r->root, key);
    if (r->bad || !v || json_is_false(v) || (json_is_number(v) && json_number_value(v) == 0))
        return;
    err("'%s': %s not supported", key, what);
    fail(r);
}

/* Windows shorter than the context; `used`: the architecture looks at sliding_window at all. */
static void refuse_window(struct reading *r, const struct transformer_dims *d, bool used)
{
    const json_t *layers = get(r->root, "layer_types");
    const int window = used ? count(r, "sliding_window", MOST) : MOST;
    size_t i;
    json_t *type;
    bool slides = !layers;
    json_array_foreach(layers, i, type)
    {
        const char *s = json_string_value(type);
        slides = slides || !s || strcmp(s, "full_attention");
        if (!r->bad && s && strcmp(s, "full_attention") && strcmp(s, "sliding_attention")) {
            err("'layer_types': '%.40s' is not supported", s);
            fail(r);
        }
    }
    if (r->bad || !slides || window >= d->context)
        return;
    err("'sliding_window' is %d, the context is %d: attention over a sliding window shorter than "
        "the context is not supported",
        window, d->context);
    fail(r);
}

/* ---- rotary positions ---- */

static void read_scaling(struct reading *r, const json_t *o, struct transformer_dims *d)
{
    const char *type = get(o, "rope_type") ? text(o, "rope_type") : text(o, "type");
    struct rope_args *a = &d->rope;
    if (r->bad || !o || !strcmp(type, "default") || !*type)
        return;
    a->factor = real(r, o, "factor", 0);
    if (!strcmp(type, "linear")) {
        a->scaling = ROPE_SCALING_LINEAR;
    } else if (!strcmp(type, "llama3")) {
        a->scaling = ROPE_SCALING_LLAMA3;
        a->low_freq = real(r, o, "low_freq_factor", 0);
        a->high_freq = real(r, o, "high_freq_factor", 0);
        a->original_context = real(r, o, "original_max_position_embeddings", 0);
        if (!r->bad && !(a->high_freq > a->low_freq && a->original_context > 0)) {
            err("'rope_scaling': llama3 with factors %g and %g and a context of %g", a->low_freq,
                a->high_freq, a->original_context);
            fail(r);
        }
    } else {
        err("'rope_scaling' is '%.40s'; linear and llama3 are supported", type);
        fail(r);
    }
    if (!r->bad && !(a->factor >= 1)) {
        err("'rope_scaling' by the factor %g", a->factor);
        fail(r);
    }
}

static void read_rope(struct reading *r, struct transformer_dims *d)
{
    const json_t *both = get(r->root, "rope_parameters"); // transformers 5
    const json_t *old = get(r->root, "rope_scaling");
    d->rope.base = real(r, both, "rope_theta", real(r, r->root, "rope_theta", 10000));
    if (real(r, both, "partial_rotary_factor", real(r, r->root, "partial_rotary_factor", 1)) != 1 &&
        !r->bad) {
        err("'partial_rotary_factor': turning a part of each head is not supported");
        fail(r);
    }
    if (!r->bad && ((both && !json_is_object(both)) || (old && !json_is_object(old)))) {
        err("'rope_scaling' or 'rope_parameters' is no object");
        fail(r);
    }
    read_scaling(r, both ? both : old, d);
}

/* ---- families ---- */

static void per_layer(struct reading *r, struct transformer_dims *d, int heads, int kv, int ff)
{
    if (d->n_layers > LAYERS_MAX && !r->bad) {
        err("%d layers, at most %d are possible", d->n_layers, LAYERS_MAX);
        fail(r);
    }
    for (int l = 0; l < d->n_layers && !r->bad; l++) {
        d->n_heads[l] = heads;
        d->n_kv_heads[l] = kv;
        d->d_ff[l] = ff;
    }
}

static void read_llama(struct reading *r, struct transformer_dims *d)
{
    const int heads = count(r, "num_attention_heads", -1);
    d->n_layers = count(r, "num_hidden_layers", -1);
    d->d_model = count(r, "hidden_size", -1);
    d->vocab = count(r, "vocab_size", -1);
    d->context = count(r, "max_position_embeddings", -1);
    d->head_dim = count(r, "head_dim", d->arch == ARCH_QWEN3 ? 128 : d->d_model / heads);
    d->norm_eps = real(r, r->root, "rms_norm_eps", 1e-6);
    d->tied = yes(r, "tie_word_embeddings", false);
    per_layer(r, d, heads, count(r, "num_key_value_heads", heads),
              count(r, "intermediate_size", -1));
    read_rope(r, d);
    want_one_of(r, "hidden_act", "silu", "silu", "swish");
    if (d->arch != ARCH_QWEN2) // which always has them
        want(r, "attention_bias", false);
    want(r, "mlp_bias", false);
}

static void read_gpt2(struct reading *r, struct transformer_dims *d)
{
    const int heads = count(r, "n_head", -1);
    d->n_layers = count(r, "n_layer", -1);
    d->d_model = count(r, "n_embd", -1);
    d->vocab = count(r, "vocab_size", -1);
    d->context = count(r, "n_positions", -1);
    d->head_dim = d->d_model / heads;
    d->norm_eps = real(r, r->root, "layer_norm_epsilon", 1e-5);
    d->tied = yes(r, "tie_word_embeddings", true);
    if (!r->bad && d->d_model % heads) {
        err("'n_embd' is %d, 'n_head' %d: no whole heads", d->d_model, heads);
        fail(r);
    }
    per_layer(r, d, heads, heads, count(r, "n_inner", d->d_model < MOST / 4 ? 4 * d->d_model : 1));
    want_one_of(r, "activation_function", "gelu_new", "gelu_new", "gelu_pytorch_tanh");
    want(r, "scale_attn_weights", true);
    want(r, "scale_attn_by_inverse_layer_idx", false);
    want(r, "add_cross_attention", false);
}

static const struct {
    const char *name; /* config.json's model_type */
    enum arch arch;
} families[] = {{"llama", ARCH_LLAMA},
                {"mistral", ARCH_LLAMA},
                {"qwen2", ARCH_QWEN2},
                {"qwen3", ARCH_QWEN3},
                {"gpt2", ARCH_GPT2}};

static void read_root(struct reading *r, struct transformer_dims *d)
{
    const char *name = text(r->root, "model_type");
    size_t i = 0, n = sizeof families / sizeof *families;
    while (i < n && strcmp(families[i].name, name))
        i++;
    if (!json_is_object(r->root) || i == n) {
        err("'model_type' is '%.40s'; llama, mistral, qwen2, qwen3 and gpt2 are supported", name);
        fail(r);
        return;
    }
    d->arch = families[i].arch;
    d->init_std = real(r, r->root, "initializer_range", 0.02);
    if (d->arch == ARCH_GPT2)
        read_gpt2(r, d);
    else
        read_llama(r, d);
    if (d->arch == ARCH_LLAMA)
        refuse_window(r, d, !strcmp(name, "mistral"));
    else if (d->arch != ARCH_GPT2)
        refuse_window(r, d, yes(r, "use_sliding_window", false));
    refuse_key(r, "quantization_config", "weights that are quantized already are");
    refuse_key(r, "num_local_experts", "a mixture of experts is");
    refuse_key(r, "num_experts", "a mixture of experts is");
}

int import_hf_dims(const char *json, size_t n, struct transformer_dims *dims)
{
    json_error_t e;
    json_t *root = json_loadb(json, n, JSON_REJECT_DUPLICATES, &e);
    if (!root)
        return err("line %d, column %d: %s", e.line, e.column, e.text);
    struct reading r = {.root = root};
    *dims = (struct transformer_dims){0};
    read_root(&r, dims);
    json_decref(root);
    return r.bad || transformer_check(dims) ? -1 : 0;
}
