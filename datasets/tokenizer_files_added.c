/*
 * Tokens that the files beside a tokenizer.json add to it, as transformers 5 does (from_pretrained
 * and TokenizersBackend): those of added_tokens_decoder by their ids, then what tokenizer_config
 * names as special. A token that the vocabulary has keeps its id, another takes the next one.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/jsontext.h"
#include "autograd/base/mem.h"
#include "datasets/tokenizer_files.h"
#include "datasets/tokenizer_parse.h"

static const char *const named[] = {"bos_token", "eos_token", "unk_token",  "sep_token",
                                    "pad_token", "cls_token", "mask_token", NULL};
static const char *const flags[] = {"single_word", "lstrip",  "rstrip",
                                    "normalized",  "special", NULL};

/* A token as files write it: "<s>", or {"content": "<s>", ...}. */
static const json_t *content_of(const json_t *o)
{
    const json_t *text = json_is_object(o) ? json_object_get(o, "content") : o;
    return json_is_string(text) && json_string_length(text) ? text : NULL;
}

/* The special tokens without names of their own; the older key counts where the newer has none. */
static const json_t *listed(const json_t *config)
{
    const json_t *list = json_object_get(config, "extra_special_tokens");
    return json_is_array(list) && json_array_size(list)
               ? list
               : json_object_get(config, "additional_special_tokens");
}

/* An object. NULL with err() set, `name` in front. */
static json_t *parse(const struct tokenizer_text *text, const char *name)
{
    json_t *root = jsontext_parse(text->s, text->n, false);
    if (json_is_object(root))
        return root;
    if (root)
        err("no object");
    if (name)
        err_in("%s", name);
    json_decref(root);
    return NULL;
}

/* ---- older files ---- */

/* Is it one of the tokens that the config names as special? */
static bool is_special(const json_t *config, const char *text)
{
    for (const char *const *key = named; *key; key++) {
        const json_t *s = content_of(json_object_get(config, *key));
        if (s && !strcmp(json_string_value(s), text))
            return true;
    }
    size_t i;
    json_t *o;
    json_array_foreach(listed(config), i, o)
    {
        const json_t *s = content_of(o);
        if (s && !strcmp(json_string_value(s), text))
            return true;
    }
    return false;
}

/* added_tokens.json, {"<x>": 32000, ...}, becomes the config's added_tokens_decoder. */
static int take_added(json_t *config, const json_t *added)
{
    json_t *decoder = json_object(), *id;
    const char *text;
    int rc = json_object_set_new(config, "added_tokens_decoder", decoder);
    json_object_foreach((json_t *)(uintptr_t)added, text, id)
    {
        char key[32];
        const bool special = is_special(config, text);
        if (!json_is_integer(id))
            return err("added_tokens.json: '%.60s' has no id", text);
        snprintf(key, sizeof key, "%lld", (long long)json_integer_value(id));
        rc = rc ? rc
                : json_object_set_new(decoder, key,
                                      json_pack("{s:s, s:b, s:b}", "content", text, "special",
                                                special, "normalized", !special));
    }
    return rc ? err("out of memory") : 0;
}

/* special_tokens_map.json, whose keys come before the config's and whose objects are tokens. */
static int take_map(json_t **config, json_t *map)
{
    const char *key;
    json_t *o;
    int rc = 0;
    json_object_foreach(map, key, o)
    {
        if (json_is_object(o) && strcmp(key, "extra_special_tokens") != 0)
            rc |= json_object_set_new(o, "__type", json_string("AddedToken"));
    }
    rc |= json_object_update_missing(map, *config);
    json_decref(*config);
    *config = json_incref(map);
    return rc ? err("out of memory") : 0;
}

int tokenizer_files_settle(const struct tokenizer_text *config, const struct tokenizer_text *map,
                           const struct tokenizer_text *added, struct buf *out)
{
    const struct tokenizer_text none = {"{}", 2};
    json_t *root = parse(config->s ? config : &none, "tokenizer_config.json"), *other = NULL;
    int rc = root ? 0 : -1;
    if (!rc && !json_object_get(root, "added_tokens_decoder")) {
        if (map->s) {
            other = parse(map, "special_tokens_map.json");
            rc = !other ? -1 : take_map(&root, other);
            json_decref(other);
        }
        if (!rc && added->s) {
            other = parse(added, "added_tokens.json");
            rc = !other || take_added(root, other) ? -1 : 0;
            json_decref(other);
        }
    }
    char *text = rc ? NULL : json_dumps(root, JSON_COMPACT);
    if (text)
        buf_text(out, text);
    free(text);
    json_decref(root);
    return rc || !text || out->failed ? -1 : 0;
}

/* ---- a tokenizer.json with what is added ---- */

struct adding {
    json_t *added;       /* the file's array */
    json_t *known;       /* content -> entry of the array */
    const json_t *vocab; /* of the model */
    json_int_t next;     /* the id of a token that the vocabulary lacks */
};

static int note(struct adding *a, json_t *entry)
{
    const json_t *content = content_of(entry);
    const json_int_t id = json_integer_value(json_object_get(entry, "id"));
    a->next = id >= a->next ? id + 1 : a->next;
    return !content || !json_object_set(a->known, json_string_value(content), entry)
               ? 0
               : err("out of memory");
}

/* The id that a token gets, or has. */
static json_int_t id_of(const struct adding *a, const char *text)
{
    const json_t *entry = json_object_get(a->known, text);
    const json_t *id = entry ? json_object_get(entry, "id") : json_object_get(a->vocab, text);
    return json_is_integer(id) ? json_integer_value(id) : a->next;
}

/* Appends a token, or gives the one of this content the flags of `o`. */
static int add(struct adding *a, const char *text, const json_t *o, bool special)
{
    json_t *entry = json_object_get(a->known, text);
    if (!entry) {
        entry = json_pack("{s:I, s:s}", "id", id_of(a, text), "content", text);
        if (!entry || json_array_append_new(a->added, entry) || note(a, entry))
            return err("out of memory");
    }
    special = special || json_is_true(json_object_get(o, "special"));
    for (const char *const *flag = flags; *flag; flag++) {
        const json_t *given = json_is_object(o) ? json_object_get(o, *flag) : NULL;
        const bool otherwise =
            !strcmp(*flag, "special") ? special : !strcmp(*flag, "normalized") && !special;
        const bool set = json_is_boolean(given) && strcmp(*flag, "special") != 0
                             ? json_is_true(given)
                             : otherwise;
        if (json_object_set_new(entry, *flag, json_boolean(set)))
            return err("out of memory");
    }
    return 0;
}

struct numbered {
    long id;
    const json_t *token;
};

static int by_id(const void *a, const void *b)
{
    const struct numbered *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

static int add_numbered(struct adding *a, const struct numbered *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const json_t *content = content_of(list[i].token);
        const char *text = content ? json_string_value(content) : NULL;
        if (!text)
            return err("added_tokens_decoder: %ld has no content", list[i].id);
        if (id_of(a, text) != list[i].id)
            return err("added_tokens_decoder: '%.60s' has the id %ld, in tokenizer.json it is %lld",
                       text, list[i].id, (long long)id_of(a, text));
        if (add(a, text, list[i].token, false))
            return -1;
    }
    return 0;
}

static int add_decoder(struct adding *a, json_t *decoder)
{
    const size_t n = json_object_size(decoder);
    struct numbered *list = mem_new(n + 1, sizeof *list);
    const char *key;
    json_t *o;
    size_t at = 0;
    int rc = list ? 0 : -1;
    json_object_foreach(decoder, key, o)
    {
        char *end;
        if (rc)
            break;
        list[at++] = (struct numbered){strtol(key, &end, 10), o};
        if (*end || end == key)
            rc = err("added_tokens_decoder: '%.40s' is no id", key);
    }
    if (!rc) {
        qsort(list, n, sizeof *list, by_id);
        rc = add_numbered(a, list, n);
    }
    free(list);
    return rc;
}

/* A token that the config names; one beyond the model's vocabulary stays out: no text has it. */
static int add_named(struct adding *a, const json_t *o, int vocab)
{
    const json_t *content = content_of(o);
    const char *text = content ? json_string_value(content) : NULL;
    if (!text || json_object_get(a->known, text) || id_of(a, text) >= vocab)
        return 0;
    return add(a, text, o, true);
}

/* A name of the model's own: "image_token". */
static bool is_own(const char *key)
{
    const size_t n = strlen(key), tail = sizeof "_token" - 1;
    return n >= tail && !strcmp(key + n - tail, "_token");
}

/* name -> special token, in the order of their ids: the usual names, own names with an object of
   __type AddedToken, own names with a text, those of the object extra_special_tokens. A name that
   comes again keeps its place and takes the later token. NULL with err(). */
static json_t *specials_of(const json_t *config)
{
    const json_t *extra = json_object_get(config, "extra_special_tokens");
    json_t *all = json_object(), *o;
    const char *name;
    int rc = 0;
    for (const char *const *key = named; *key; key++) {
        o = json_object_get(config, *key);
        rc |= o ? json_object_set(all, *key, o) : json_object_set_new(all, *key, json_null());
    }
    for (int texts = 0; texts < 2; texts++)
        json_object_foreach((json_t *)(uintptr_t)config, name, o)
        {
            const bool counts = texts ? json_is_string(o) : json_object_get(o, "__type") != NULL;
            if (counts && is_own(name))
                rc |= json_object_set(all, name, o);
        }
    if (json_is_object(extra))
        rc |= json_object_update(all, (json_t *)(uintptr_t)extra);
    if (!rc)
        return all;
    json_decref(all);
    err("out of memory");
    return NULL;
}

static int add_specials(struct adding *a, const json_t *config, int vocab)
{
    json_t *all = specials_of(config), *o;
    const char *name;
    int rc = all ? 0 : -1;
    json_object_foreach(all, name, o)
    {
        rc = rc ? rc : add_named(a, o, vocab);
    }
    json_decref(all);
    return rc;
}

static int add_all(struct adding *a, const json_t *config, int vocab)
{
    size_t i;
    json_t *o;
    json_array_foreach(a->added, i, o)
    {
        if (note(a, o))
            return -1;
    }
    if (add_decoder(a, json_object_get(config, "added_tokens_decoder")))
        return err_in("tokenizer_config.json");
    if (add_specials(a, config, vocab))
        return -1;
    json_array_foreach(listed(config), i, o)
    {
        if (add_named(a, o, vocab))
            return -1;
    }
    return 0;
}

struct tokenizer *tokenizer_files_json(const struct tokenizer_text *json,
                                       const struct tokenizer_text *config, int vocab)
{
    json_t *root = parse(json, NULL);
    json_t *options = root ? parse(config, "tokenizer_config.json") : NULL;
    json_t *added = json_object_get(root, "added_tokens");
    struct tokenizer *t = NULL;
    if (options && !json_is_array(added)) {
        added = json_array();
        json_object_set_new(root, "added_tokens", added);
    }
    const json_t *model = json_object_get(json_object_get(root, "model"), "vocab");
    struct adding a = {added, json_object(), model, (json_int_t)json_object_size(model)};
    if (options && a.known && !add_all(&a, options, vocab))
        t = tokenizer_parse_root(root);
    json_decref(a.known);
    json_decref(options);
    json_decref(root);
    return t;
}
