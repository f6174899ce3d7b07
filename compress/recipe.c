#define PCRE2_CODE_UNIT_WIDTH 8

#include "compress/recipe.h"

#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "autograd/base/err.h"
#include "autograd/base/mem.h"
#include "autograd/base/number.h"
#include "autograd/base/spell.h"
#include "compress/codecs/codecs.h"

/* ---- tables ---- */

#define codecs_f32  dtype_f32
#define codecs_f16  dtype_f16
#define codecs_bf16 dtype_bf16

enum mix {
#define MIX(tag, name, id, base) MIX_##tag,
#include "compress/recipe.def"
    MIXES
};

static const struct recipe_mix mixes[] = {
#define MIX(tag, name, id, base) {name, id, &codecs_##base},
#include "compress/recipe.def"
};

static const struct {
    const char *name;
    enum mix mix;
} aliases[] = {
#define ALIAS(name, mix) {name, MIX_##mix},
#include "compress/recipe.def"
};

static const struct {
    const struct dtype *type, *other;
} fallbacks[] = {
#define FALLBACK(type, other) {&codecs_##type, &codecs_##other},
#include "compress/recipe.def"
};

enum role {
    ROLE_TOKEN_EMBD,
    ROLE_OUTPUT,
    ROLE_ATTN_V, /* also the fused attn_qkv: what holds attn_v is as delicate as it */
    ROLE_ATTN_OUTPUT,
    ROLE_FFN_DOWN,
    ROLE_OTHER
};

static const struct {
    enum role role;
    const char *name; // of a block's tensor: behind "blk.N."
    bool block;
} roles[] = {
    {ROLE_TOKEN_EMBD, "token_embd.weight", false},  {ROLE_OUTPUT, "output.weight", false},
    {ROLE_ATTN_V, "attn_v.weight", true},           {ROLE_ATTN_V, "attn_qkv.weight", true},
    {ROLE_ATTN_OUTPUT, "attn_output.weight", true}, {ROLE_FFN_DOWN, "ffn_down.weight", true},
};

/* i: the layer, n: their number. */
enum when {
    WHEN_ALWAYS,
    WHEN_SHARED_4,       /* four or more heads share a key and value head */
    WHEN_FIRST_2,        /* i < 2 */
    WHEN_FIRST_4,        /* i < 4 */
    WHEN_SIXTEENTH,      /* i < n / 16 */
    WHEN_EIGHTH,         /* i < n / 8 */
    WHEN_EIGHTH_WEIGHED, /* and there is an importance matrix */
    WHEN_EIGHTH_PLAIN,   /* and there is none */
    WHEN_MORE            /* the first and the last eighth, every third in between */
};

static const struct {
    enum mix mix;
    enum role role;
    enum when when;
    const struct dtype *type;
} rules[] = {
#define RULE(mix, role, when, type) {MIX_##mix, ROLE_##role, WHEN_##when, &codecs_##type},
#include "compress/recipe.def"
};

static bool holds(enum when when, const struct recipe_facts *f, int i)
{
    const int n = f->n_layers;
    switch (when) {
    case WHEN_ALWAYS:
        return true;
    case WHEN_SHARED_4:
        return f->n_kv_heads > 0 && f->n_heads / f->n_kv_heads >= 4;
    case WHEN_FIRST_2:
        return i < 2;
    case WHEN_FIRST_4:
        return i < 4;
    case WHEN_SIXTEENTH:
        return i < n / 16;
    case WHEN_EIGHTH:
        return i < n / 8;
    case WHEN_EIGHTH_WEIGHED:
        return f->weighed && i < n / 8;
    case WHEN_EIGHTH_PLAIN:
        return !f->weighed && i < n / 8;
    case WHEN_MORE:
        return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
    }
    return false;
}

/* ---- names ---- */

const struct recipe_mix *recipe_mix_at(int i)
{
    return i >= 0 && i < MIXES ? &mixes[i] : NULL;
}

const struct recipe_mix *recipe_mix_find(const char *name)
{
    struct spell near = {.word = name};
    int64_t id;
    const bool number = !number_int(name, strlen(name), &id);
    for (int i = 0; i < MIXES; i++) {
        if (!strcasecmp(mixes[i].name, name) || (number && id == (int64_t)mixes[i].id))
            return &mixes[i];
        spell_offer(&near, mixes[i].name);
    }
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
        if (!strcasecmp(aliases[i].name, name))
            return &mixes[aliases[i].mix];
    if (near.best)
        err("there is no type '%.40s'; did you mean %s?", name, near.best);
    else
        err("there is no type '%.40s'; Q4_K_M, Q6_K, Q8_0 or F16 are some", name);
    return NULL;
}

const struct dtype *recipe_type(const char *name)
{
    struct spell near = {.word = name};
    const struct dtype *dt = codecs_find(name);
    if (dt && dt->decode && dt != &codecs_q8_k)
        return dt;
    for (int i = 0; (dt = codecs_at(i)); i++)
        if (dt != &codecs_q8_k)
            spell_offer(&near, dt->name);
    if (near.best)
        err("a tensor cannot be of type '%.40s'; did you mean %s?", name, near.best);
    else
        err("a tensor cannot be of type '%.40s'; q4_k, q6_k, q8_0 or f16 are possible", name);
    return NULL;
}

bool recipe_is_70b(const char *arch, int n_layers, int n_heads, int n_kv_heads)
{
    if (n_layers != 80)
        return false;
    // without shared heads, 80 layers of llama are the first 65B
    return !strcmp(arch, "llama") ? n_heads != n_kv_heads
                                  : !strcmp(arch, "qwen2") || !strcmp(arch, "deci");
}

/* ---- options ---- */

struct recipe_rule {
    pcre2_code *pattern;
    const struct dtype *dt;
    const char *text; /* as it was given: not owned */
};

static int parse_rule(struct recipe_rule *rule, const char *text)
{
    const char *equals = strrchr(text, '=');
    int code;
    PCRE2_SIZE at;
    if (!equals || equals == text)
        return err("'%.80s' is not REGEX=TYPE", text);
    rule->text = text;
    rule->dt = recipe_type(equals + 1);
    if (!rule->dt)
        return err_in("'%.80s'", text);
    rule->pattern =
        pcre2_compile((PCRE2_SPTR)text, (PCRE2_SIZE)(equals - text), PCRE2_UTF, &code, &at, NULL);
    if (rule->pattern)
        return 0;
    PCRE2_UCHAR reason[128];
    pcre2_get_error_message(code, reason, sizeof reason);
    return err("'%.80s': the pattern is wrong at its byte %zu: %s", text, (size_t)at,
               (const char *)reason);
}

int recipe_init(struct recipe *r, const struct recipe_options *o)
{
    *r = (struct recipe){.pure = o->pure, .leave_output = o->leave_output};
    r->mix = recipe_mix_find(o->type);
    if (!r->mix)
        return -1;
    if (o->output && !(r->output = recipe_type(o->output)))
        return err_in("type of the head");
    if (o->embedding && !(r->embedding = recipe_type(o->embedding)))
        return err_in("type of the embedding");
    r->rule = mem_new((size_t)o->n_rules, sizeof *r->rule);
    if (!r->rule)
        return -1;
    for (; r->n_rules < o->n_rules; r->n_rules++)
        if (parse_rule(&r->rule[r->n_rules], o->rules[r->n_rules])) {
            recipe_free(r);
            return -1;
        }
    return 0;
}

void recipe_free(struct recipe *r)
{
    for (int i = 0; i < r->n_rules; i++)
        pcre2_code_free(r->rule[i].pattern);
    free(r->rule);
    *r = (struct recipe){0};
}

/* ---- choosing ---- */

/* The matching rule, NULL: none. A pattern that takes too long matches nothing: *failed. */
static const struct recipe_rule *match(const struct recipe *r, const char *name, bool *failed)
{
    *failed = false;
    for (int i = 0; i < r->n_rules; i++) {
        pcre2_match_data *data = pcre2_match_data_create(1, NULL);
        const int rc =
            data ? pcre2_match(r->rule[i].pattern, (PCRE2_SPTR)name, strlen(name), 0, 0, data, NULL)
                 : PCRE2_ERROR_NOMEMORY;
        pcre2_match_data_free(data);
        if (rc >= 0)
            return &r->rule[i];
        if (rc != PCRE2_ERROR_NOMATCH) {
            err("'%.80s': the pattern cannot be matched with '%.80s'", r->rule[i].text, name);
            *failed = true;
            return NULL;
        }
    }
    return NULL;
}

static bool ends_in(const char *name, const char *end)
{
    const size_t n = strlen(name), k = strlen(end);
    return n >= k && !strcmp(name + n - k, end);
}

static bool is_matrix(const struct recipe_tensor *t)
{
    return t->nd >= 2 && ends_in(t->name, "weight") && !strstr(t->name, "_norm.weight") &&
           !strstr(t->name, "position_embd") && strcmp(t->name, "token_types.weight") != 0;
}

/* "blk.12.attn_v.weight": the layer, and what is behind it; -1: of no layer. */
static int layer_of(const char *name, const char **rest)
{
    int layer = 0, digits = 0;
    *rest = name;
    if (strncmp(name, "blk.", 4))
        return -1;
    for (name += 4; *name >= '0' && *name <= '9' && digits < 6; name++, digits++)
        layer = 10 * layer + *name - '0';
    if (!digits || *name != '.')
        return -1;
    *rest = name + 1;
    return layer;
}

static enum role role_of(const char *rest, bool block)
{
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (roles[i].block == block && !strcmp(roles[i].name, rest))
            return roles[i].role;
    return ROLE_OTHER;
}

static bool is_blocks(const struct dtype *dt)
{
    return dt->block > 1;
}

/* The head's type where nobody asked for one. */
static const struct dtype *head_type(const struct dtype *base, int64_t cols)
{
    return cols % base->block || base == &codecs_q8_0 ? &codecs_q8_0 : &codecs_q6_k;
}

static const struct dtype *by_mix(const struct recipe *r, const struct recipe_facts *f,
                                  enum role role, int layer, int64_t cols)
{
    const struct dtype *dt = r->mix->base;
    if (r->pure || !is_blocks(dt))
        return dt;
    if (role == ROLE_OUTPUT || (role == ROLE_TOKEN_EMBD && f->tied))
        return head_type(dt, cols);
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (&mixes[rules[i].mix] == r->mix && rules[i].role == role &&
            holds(rules[i].when, f, layer)) {
            dt = rules[i].type;
            break;
        }
    // Llama-2 70B and its like: attn_v is a small part of them
    if (role == ROLE_ATTN_V && f->is_70b && (dt == &codecs_q3_k || dt == &codecs_q4_k))
        dt = &codecs_q5_k;
    return dt;
}

/* What somebody asked for by name; NULL: nothing. */
static const struct dtype *by_name(const struct recipe *r, const struct recipe_facts *f,
                                   enum role role, const char *name, const char **who, bool *failed)
{
    *failed = false;
    *who = "--token-embedding-type";
    if (r->embedding && role == ROLE_TOKEN_EMBD)
        return r->embedding;
    *who = "--output-tensor-type";
    if (r->output && (role == ROLE_OUTPUT || (role == ROLE_TOKEN_EMBD && f->tied)))
        return r->output;
    const struct recipe_rule *rule = match(r, name, failed);
    *who = rule ? rule->text : "";
    return rule ? rule->dt : NULL;
}

static const struct dtype *fitting(const struct dtype *dt, int64_t cols)
{
    if (cols % dt->block == 0)
        return dt;
    for (size_t i = 0; i < sizeof fallbacks / sizeof *fallbacks; i++)
        if (fallbacks[i].type == dt && cols % fallbacks[i].other->block == 0)
            return fallbacks[i].other;
    return &dtype_f16;
}

int recipe_choose(const struct recipe *r, const struct recipe_facts *f,
                  const struct recipe_tensor *t, struct recipe_choice *choice)
{
    const char *rest, *who;
    bool failed;
    *choice = (struct recipe_choice){.dt = t->from, .wanted = t->from, .matrix = is_matrix(t)};
    if (!choice->matrix)
        return 0;
    const int layer = layer_of(t->name, &rest);
    const enum role role = role_of(rest, layer >= 0);
    if (layer >= f->n_layers)
        return err("tensor '%.80s': the model has %d layers", t->name, f->n_layers);
    if (r->leave_output && role == ROLE_OUTPUT)
        return 0;
    const struct dtype *named = by_name(r, f, role, t->name, &who, &failed);
    if (failed)
        return -1;
    if (named && t->cols % named->block)
        return err("tensor '%.80s': rows of %lld are no whole blocks of %d, which %s has (%.80s)",
                   t->name, (long long)t->cols, named->block, named->name, who);
    choice->wanted = named ? named : by_mix(r, f, role, layer, t->cols);
    choice->dt = fitting(choice->wanted, t->cols);
    if (r->mix == &mixes[MIX_Q2_K_S] && choice->dt == &codecs_q2_k && !f->weighed && !named &&
        role != ROLE_TOKEN_EMBD && role != ROLE_OUTPUT)
        return err("Q2_K_S without an importance matrix makes garbage of '%.80s': give --imatrix, "
                   "or take Q2_K",
                   t->name);
    return 0;
}
