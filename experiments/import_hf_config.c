#include <math.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/jsontext.h"
#include "autograd/base/names.h"
#include "experiments/import_hf.h"

enum { MOST = 1 << 24 };

/* An object of config.json; *bad stays set once one of its values was wrong. */
struct reading {
    const json_t *root;
    json_t *asked; /* the keys that were looked up: the others are check_rest()'s */
    bool bad;
};

static int fail(struct reading *r)
{
    r->bad = true;
    return -1;
}

/* NULL: the key is missing, or null. */
static const json_t *get(struct reading *r, const char *key)
{
    const json_t *v = json_object_get(r->root, key);
    if (!r->bad && json_object_set_new(r->asked, key, json_true())) {
        err("out of memory");
        fail(r);
    }
    return json_is_null(v) ? NULL : v;
}

static bool is_null(const struct reading *r, const char *key)
{
    return json_is_null(json_object_get(r->root, key));
}

/* A whole number; `otherwise` where the key is missing or null, -1: it must be there. */
static int number(struct reading *r, const char *key, int least, int otherwise)
{
    const json_t *v = get(r, key);
    if (r->bad)
        return 1;
    if (!v && otherwise >= 0)
        return otherwise;
    const json_int_t x = json_integer_value(v);
    if (json_is_integer(v) && x >= least && x <= MOST)
        return (int)x;
    if (v)
        err("'%s' is no whole number from %d to %d", key, least, MOST);
    else
        err("'%s' is missing", key);
    fail(r);
    return 1;
}

static int count(struct reading *r, const char *key, int otherwise)
{
    return number(r, key, 1, otherwise);
}

static double real(struct reading *r, const char *key, double otherwise)
{
    const json_t *v = get(r, key);
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
    const json_t *v = get(r, key);
    if (r->bad || !v)
        return otherwise;
    if (json_is_boolean(v))
        return json_is_true(v);
    err("'%s' is neither true nor false", key);
    fail(r);
    return otherwise;
}

static const char *text(struct reading *r, const char *key)
{
    const char *s = json_string_value(get(r, key));
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
    const char *s = get(r, key) ? text(r, key) : otherwise;
    if (r->bad || !strcmp(s, a) || !strcmp(s, b))
        return;
    err("'%s' is '%.40s'; %s is supported", key, s, a);
    fail(r);
}

static void refuse_key(struct reading *r, const char *key, const char *what)
{
    const json_t *v = get(r, key);
    if (r->bad || !v || json_is_false(v) || (json_is_number(v) && json_number_value(v) == 0) ||
        (json_is_array(v) && !json_array_size(v)))
        return;
    err("'%s': %s not supported", key, what);
    fail(r);
}

/* Is it a kind of layer that this program knows? `sliding`: attention over a window. */
static bool is_layer_type(const char *s, bool *sliding)
{
    *sliding = s && !strcmp(s, "sliding_attention");
    return *sliding || (s && (!strcmp(s, "full_attention") || !strcmp(s, "attention")));
}

/* Does 'layer_types' name a layer with a window? All layers have to have a type that is known. */
static bool types_slide(struct reading *r, const struct transformer_dims *d, const json_t *types)
{
    bool any = false, sliding = false;
    size_t i;
    json_t *type;
    json_array_foreach(types, i, type)
    {
        const char *s = json_string_value(type);
        if (!r->bad && !is_layer_type(s, &sliding)) {
            err("'layer_types': '%.40s' is not supported", s ? s : "");
            fail(r);
        }
        any = any || sliding;
    }
    if (!r->bad && (!json_is_array(types) || json_array_size(types) != (size_t)d->n_layers)) {
        err("'layer_types' is no list of %d, one for each layer", d->n_layers);
        fail(r);
    }
    return any;
}

/*
 * A window shorter than the context. transformers gives it to every layer of a Mistral model, to
 * those of Qwen's from 'max_window_layers' on, or which 'layer_types' names, if
 * 'use_sliding_window' is true; a Llama model has none. A key that is missing means 4096 there,
 * null none.
 */
static void refuse_window(struct reading *r, const struct transformer_dims *d, bool mistral)
{
    const bool null = is_null(r, "sliding_window");
    const bool missing = !json_object_get(r->root, "sliding_window");
    const bool used = mistral ? !null : yes(r, "use_sliding_window", false) && !null;
    const int first = mistral ? 0 : number(r, "max_window_layers", 0, 28);
    const json_t *types = get(r, "layer_types");
    const bool named = types && types_slide(r, d, types);
    const bool slides = mistral || (types ? named : first < d->n_layers);
    if (!used) // the window is not looked at
        get(r, "sliding_window");
    const int window = used ? count(r, "sliding_window", 4096) : MOST;
    if (!r->bad && named && !used) {
        err("'layer_types' names layers with a sliding window, but there is none%s",
            mistral ? "" : " ('use_sliding_window')");
        fail(r);
    }
    if (r->bad || !used || !slides || window >= d->context)
        return;
    err("'sliding_window' is %d%s, the context is %d: attention over a sliding window shorter than "
        "the context is not supported%s",
        window, missing ? " where it is missing" : "", d->context,
        missing ? " (\"sliding_window\": null says that the model has none)" : "");
    fail(r);
}

/* Llama: 'layer_types' and 'sliding_window' change what is kept while text is generated. */
static void refuse_llama_window(struct reading *r, const struct transformer_dims *d)
{
    const json_t *types = get(r, "layer_types");
    const bool named = types && types_slide(r, d, types);
    const int window = count(r, "sliding_window", MOST);
    if (r->bad || (!named && window >= d->context))
        return;
    err("'%s' beside model_type 'llama', which has no sliding window, is not supported",
        named ? "layer_types" : "sliding_window");
    fail(r);
}

/* Keys that nothing here looked at: known not to matter, or refused, all by name. */
static void check_rest(struct reading *r, const char *const harmless[])
{
    struct names rest = {0};
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)r->root, key, value)
    {
        const char *const *known = harmless;
        while (*known && strcmp(*known, key) != 0)
            known++;
        if (!*known && !json_is_null(value) && !json_object_get(r->asked, key))
            names_add(&rest, key, strlen(key));
    }
    if (rest.n && !r->bad) {
        err("%s: not known here, and so perhaps a change of what the model computes; where it is "
            "none, take %s out of config.json",
            names_text(&rest), rest.n > 1 ? "them" : "it");
        fail(r);
    }
    names_free(&rest);
}

/* ---- rotary positions ---- */

/* The type of scaling: "rope_type", or "type" where that is missing. */
static const char *rope_type(struct reading *in)
{
    const bool is_new = json_object_get(in->root, "rope_type");
    const json_t *type = json_object_get(in->root, is_new ? "rope_type" : "type");
    get(in, "rope_type");
    get(in, "type");
    if (type && !json_is_string(type)) {
        err("'rope_type' is no text");
        fail(in);
    }
    return type && json_is_string(type) ? json_string_value(type) : "default";
}

/* `beside`: the original context that the config itself has; 0: none. */
static void read_scaling(struct reading *in, struct transformer_dims *d, double beside)
{
    const char *type = rope_type(in);
    struct rope_args *a = &d->rope;
    const double low = real(in, "low_freq_factor", 0), high = real(in, "high_freq_factor", 0);
    const double factor = real(in, "factor", 0);
    const double inside = real(in, "original_max_position_embeddings", d->context);
    if (in->bad || !strcmp(type, "default"))
        return;
    a->factor = factor;
    if (!strcmp(type, "linear")) {
        a->scaling = ROPE_SCALING_LINEAR;
    } else if (!strcmp(type, "llama3")) {
        a->scaling = ROPE_SCALING_LLAMA3;
        a->low_freq = low;
        a->high_freq = high;
        a->original_context = beside > 0 ? beside : inside;
        if (!(a->high_freq > a->low_freq && a->original_context > 0)) {
            err("llama3 with factors %g and %g and a context of %g", a->low_freq, a->high_freq,
                a->original_context);
            fail(in);
        }
    } else {
        err("the type is '%.40s'; default, linear and llama3 are supported", type);
        fail(in);
    }
    if (!in->bad && !(a->factor >= 1)) {
        err("scaling by the factor %g", a->factor);
        fail(in);
    }
}

static bool is_empty(const json_t *v)
{
    return !v || json_is_false(v) || (json_is_number(v) && json_number_value(v) == 0) ||
           (json_is_string(v) && !json_string_length(v)) ||
           (json_is_array(v) && !json_array_size(v)) || (json_is_object(v) && !json_object_size(v));
}

static void refuse_partial(struct reading *r)
{
    if (real(r, "partial_rotary_factor", 1) == 1 || r->bad)
        return;
    err("'partial_rotary_factor': turning a part of each head is not supported");
    fail(r);
}

/*
 * As transformers 5 does (RotaryEmbeddingConfigMixin): 'rope_scaling', unless it is empty, else
 * 'rope_parameters'; what that object lacks, 'rope_theta' for one, comes from the config itself;
 * but 'original_max_position_embeddings' beside the object wins.
 */
static void read_rope(struct reading *r, struct transformer_dims *d)
{
    static const char *const none[] = {NULL};
    const json_t *old = get(r, "rope_scaling"), *new = get(r, "rope_parameters");
    const char *name = is_empty(old) ? "rope_parameters" : "rope_scaling";
    const json_t *object = is_empty(old) ? new : old;
    const double beside = real(r, "original_max_position_embeddings", 0);
    const bool null = is_null(r, "rope_theta") && !json_object_get(object, "rope_theta");
    d->rope.base = real(r, "rope_theta", 10000);
    refuse_partial(r);
    if (!r->bad && null) {
        err("'rope_theta' is null");
        fail(r);
    }
    if (!r->bad && object && !json_is_object(object)) {
        err("'%s' is no object", name);
        fail(r);
    }
    if (r->bad || !object)
        return;
    struct reading in = {.root = object, .asked = json_object()};
    d->rope.base = real(&in, "rope_theta", is_null(&in, "rope_theta") ? 0 : d->rope.base);
    refuse_partial(&in);
    read_scaling(&in, d, beside);
    check_rest(&in, none);
    json_decref(in.asked);
    if (in.bad) {
        err_in("'%s'", name);
        fail(r);
    }
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

static const struct family {
    const char *name; /* config.json's model_type */
    enum arch arch;
    int kv_heads; /* where num_key_value_heads is missing; 0: as many as heads */
    const char *classes[5];
} families[] = {
    {"llama", ARCH_LLAMA, 0, {"LlamaForCausalLM", "LLaMAForCausalLM", "LlamaModel"}},
    {"mistral", ARCH_LLAMA, 8, {"MistralForCausalLM", "MistralModel"}},
    {"qwen2", ARCH_QWEN2, 32, {"Qwen2ForCausalLM", "Qwen2Model"}},
    {"qwen3", ARCH_QWEN3, 32, {"Qwen3ForCausalLM", "Qwen3Model"}},
    {"gpt2", ARCH_GPT2, 0, {"GPT2LMHeadModel", "GPT2Model"}},
};

static void read_llama(struct reading *r, const struct family *f, struct transformer_dims *d)
{
    const int heads = count(r, "num_attention_heads", -1);
    // null is not missing there
    const int kv = f->kv_heads && !is_null(r, "num_key_value_heads") ? f->kv_heads : heads;
    d->n_layers = count(r, "num_hidden_layers", -1);
    d->d_model = count(r, "hidden_size", -1);
    d->vocab = count(r, "vocab_size", -1);
    d->context = count(r, "max_position_embeddings", -1);
    d->head_dim = count(r, "head_dim", d->arch == ARCH_QWEN3 ? 128 : d->d_model / heads);
    d->norm_eps = real(r, "rms_norm_eps", 1e-6);
    d->tied = yes(r, "tie_word_embeddings", false);
    per_layer(r, d, heads, count(r, "num_key_value_heads", kv), count(r, "intermediate_size", -1));
    read_rope(r, d);
    want_one_of(r, "hidden_act", "silu", "silu", "swish");
    if (d->arch == ARCH_QWEN2)
        get(r, "attention_bias"); // it always has them
    else
        want(r, "attention_bias", false);
    want(r, "mlp_bias", false);
    want(r, "rope_interleaved", false);
    if (!strcmp(f->name, "llama"))
        refuse_llama_window(r, d);
    else
        refuse_window(r, d, d->arch == ARCH_LLAMA);
}

/* GPT-2's names and those of the other families say the same; where both are there, they agree. */
static int count_twice(struct reading *r, const char *key, const char *other)
{
    const int x = count(r, key, get(r, other) ? count(r, other, -1) : -1);
    const int again = count(r, other, x);
    if (!r->bad && again != x) {
        err("'%s' is %d, '%s' is %d", key, x, other, again);
        fail(r);
    }
    return x;
}

static void read_gpt2(struct reading *r, struct transformer_dims *d)
{
    const int heads = count_twice(r, "n_head", "num_attention_heads");
    d->n_layers = count_twice(r, "n_layer", "num_hidden_layers");
    d->d_model = count_twice(r, "n_embd", "hidden_size");
    d->vocab = count(r, "vocab_size", -1);
    d->context = count_twice(r, "n_positions", "max_position_embeddings");
    d->head_dim = d->d_model / heads;
    d->norm_eps = real(r, "layer_norm_epsilon", 1e-5);
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

/* Classes of other names may be other models: encoders, classifiers. */
static void read_classes(struct reading *r, const struct family *f)
{
    const json_t *list = get(r, "architectures");
    size_t i;
    json_t *name;
    json_array_foreach(list, i, name)
    {
        const char *s = json_string_value(name);
        const char *const *known = f->classes;
        while (s && *known && strcmp(*known, s) != 0)
            known++;
        if (!r->bad && (!s || !*known)) {
            err("'architectures' says '%.60s'; %s is supported", s ? s : "", f->classes[0]);
            fail(r);
        }
    }
}

static void read_root(struct reading *r, struct transformer_dims *d)
{
    static const char *const harmless[] = {
#define KEY(name) name,
#include "experiments/import_hf_keys.def"
#undef KEY
        NULL};
    const char *name = text(r, "model_type");
    size_t i = 0, n = sizeof families / sizeof *families;
    while (i < n && strcmp(families[i].name, name))
        i++;
    if (!json_is_object(r->root) || i == n) {
        err("'model_type' is '%.40s'; llama, mistral, qwen2, qwen3 and gpt2 are supported", name);
        fail(r);
        return;
    }
    d->arch = families[i].arch;
    d->init_std = real(r, "initializer_range", 0.02);
    if (d->arch == ARCH_GPT2)
        read_gpt2(r, d);
    else
        read_llama(r, &families[i], d);
    read_classes(r, &families[i]);
    want(r, "is_causal", true);
    want(r, "is_encoder_decoder", false);
    refuse_key(r, "quantization_config", "weights that are quantized already are");
    refuse_key(r, "num_local_experts", "a mixture of experts is");
    refuse_key(r, "num_experts", "a mixture of experts is");
    refuse_key(r, "auto_map", "code that the model brings is");
    check_rest(r, harmless);
}

int import_hf_dims(const char *json, size_t n, struct transformer_dims *dims)
{
    json_t *root = jsontext_parse(json, n, false);
    if (!root)
        return -1;
    struct reading r = {.root = root, .asked = json_object()};
    *dims = (struct transformer_dims){0};
    read_root(&r, dims);
    json_decref(r.asked);
    json_decref(root);
    return r.bad || transformer_check(dims) ? -1 : 0;
}
