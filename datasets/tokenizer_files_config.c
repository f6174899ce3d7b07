/* tokenizer_config.json */
#include <stdlib.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/jsontext.h"
#include "autograd/base/mem.h"
#include "datasets/tokenizer_files.h"

/* The id of a token by its text, added or not, or -1. */
static int32_t find(const struct tokenizer *t, const char *text)
{
    const int32_t id = tokenizer_find(t, text);
    return id >= 0 ? id : vocab_find(&t->vocab, text, strlen(text));
}

/* "bos_token": "<s>", or {"content": "<s>", ...}; a name that no token has is left out. */
static void read_role(struct tokenizer *t, const json_t *root, const char *key, int role)
{
    const json_t *o = json_object_get(root, key);
    const json_t *content = json_is_object(o) ? json_object_get(o, "content") : o;
    const int32_t id = json_is_string(content) ? find(t, json_string_value(content)) : -1;
    if (id >= 0)
        t->role[role] = id;
    else if (json_is_string(content))
        err_warn("tokenizer_config.json: the %s '%.60s' is no token of the tokenizer, and left out",
                 key, json_string_value(content));
}

/* A text, or [{"name": "default", "template": "..."}, ...]. */
static const json_t *chat_template(const json_t *root)
{
    const json_t *chat = json_object_get(root, "chat_template");
    size_t i;
    json_t *o;
    json_array_foreach(chat, i, o)
    {
        const char *name = json_string_value(json_object_get(o, "name"));
        if (name && !strcmp(name, "default"))
            return json_object_get(o, "template");
    }
    return chat;
}

int tokenizer_files_chat(struct tokenizer *t, const char *text, size_t n)
{
    char *copy = mem_text(text, n);
    if (!copy)
        return -1;
    free(t->chat_template);
    t->chat_template = copy;
    return 0;
}

static bool is_flag(const json_t *o)
{
    return !o || json_is_boolean(o) || json_is_null(o);
}

static int read_flags(struct tokenizer *t, const json_t *root)
{
    const json_t *bos = json_object_get(root, "add_bos_token");
    const json_t *eos = json_object_get(root, "add_eos_token");
    if (!is_flag(bos) || !is_flag(eos))
        return err("'%s' is neither true nor false",
                   is_flag(bos) ? "add_eos_token" : "add_bos_token");
    if (json_is_true(bos) && t->bos < 0) {
        t->bos = t->role[TOKENIZER_BOS];
        if (t->bos < 0)
            return err("add_bos_token is true, but no token is the bos_token");
    }
    if (json_is_false(bos))
        t->bos = -1;
    if (json_is_boolean(eos))
        t->add_eos = json_is_true(eos);
    return 0;
}

/* A token that ends texts gets the first of these roles that is free. */
static void take_end(struct tokenizer *t, const json_t *value)
{
    static const enum tokenizer_role roles[] = {TOKENIZER_EOS, TOKENIZER_EOT, TOKENIZER_EOM};
    const json_int_t id = json_integer_value(value);
    const bool is = json_is_integer(value) && id >= 0 && (size_t)id < t->vocab.n &&
                    t->vocab.token[id].type != VOCAB_HOLE;
    for (size_t i = 0; is && i < 3 && !tokenizer_ends(t, (int32_t)id); i++)
        if (t->role[roles[i]] < 0)
            t->role[roles[i]] = (int32_t)id;
    if (is && t->eot < 0)
        t->eot = (int32_t)id;
    if (!is || !tokenizer_ends(t, (int32_t)id))
        err_warn("'eos_token_id' names %lld, %s: no text will end with it", (long long)id,
                 is ? "but all roles of such tokens are taken" : "which is no token's id");
}

int tokenizer_files_ends(struct tokenizer *t, const char *json, size_t n)
{
    json_t *root = jsontext_parse(json, n, false), *value;
    if (!root)
        return -1;
    json_t *ids = json_object_get(root, "eos_token_id");
    size_t i;
    if (json_is_integer(ids))
        take_end(t, ids);
    json_array_foreach(ids, i, value)
    {
        take_end(t, value);
    }
    json_decref(root);
    return 0;
}

int tokenizer_files_config(struct tokenizer *t, const char *json, size_t n)
{
    static const struct {
        const char *key;
        enum tokenizer_role role;
    } roles[] = {{"bos_token", TOKENIZER_BOS},
                 {"eos_token", TOKENIZER_EOS},
                 {"unk_token", TOKENIZER_UNK},
                 {"sep_token", TOKENIZER_SEP},
                 {"pad_token", TOKENIZER_PAD}};
    json_t *root = jsontext_parse(json, n, false);
    if (!root)
        return -1;
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        read_role(t, root, roles[i].key, roles[i].role);
    if (t->role[TOKENIZER_EOS] >= 0)
        t->eot = t->role[TOKENIZER_EOS];
    const json_t *chat = chat_template(root);
    int rc = read_flags(t, root);
    if (!rc && json_is_string(chat))
        rc = tokenizer_files_chat(t, json_string_value(chat), json_string_length(chat));
    json_decref(root);
    return rc;
}
