/* tokenizer.json: reading. */
#include <jansson.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/file.h"
#include "autograd/base/mem.h"
#include "datasets/bytelevel.h"
#include "datasets/tokenizer.h"

enum { FILE_MOST = 256 << 20 };

/* What the readers of the parts share. */
struct reading {
    struct tokenizer *t;
    json_t *vocab; /* text -> id, of added tokens too                                            */
    size_t id_end; /* ids lie below: room for all tokens of the file, and for gaps */
    int32_t unk;   /* stands for bytes without a token; -1: they are dropped */
    bool fuse_unk;
};

static const char *type_of(const json_t *step)
{
    const char *type = json_string_value(json_object_get(step, "type"));
    return type ? type : "(none)";
}

/* True if o has the key with anything but null, false, 0 or "". */
static bool is_set(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    return v && !json_is_null(v) && !json_is_false(v) &&
           !(json_is_number(v) && json_number_value(v) == 0) &&
           !(json_is_string(v) && !json_string_length(v));
}

/* A token's bytes in the byte alphabet to vocab; its id is checked. */
static int read_token(struct reading *r, const char *text, size_t n, json_t *value)
{
    const json_int_t id = json_integer_value(value);
    if (!json_is_integer(value) || id < 0 || (size_t)id >= r->id_end)
        return err("vocab: the id of '%s' is no number from 0 to %zu", text, r->id_end - 1);
    char *bytes = mem_new(n + 1, 1);
    if (!bytes)
        return -1;
    const long len = bytelevel_decode(text, n, bytes);
    int rc;
    if (len < 0)
        rc = vocab_set(&r->t->vocab, (int32_t)id, text, n, VOCAB_UNUSED);
    else
        rc = vocab_set(&r->t->vocab, (int32_t)id, bytes, (size_t)len, VOCAB_NORMAL);
    if (len == 1)
        r->t->bpe.byte_id[(uint8_t)*bytes] = (int32_t)id;
    free(bytes);
    return rc ? err_in("vocab") : 0;
}

static int read_vocab(struct reading *r)
{
    if (!json_is_object(r->vocab) || !json_object_size(r->vocab))
        return err("model.vocab is missing or no object");
    const char *text;
    size_t n;
    json_t *id;
    json_object_keylen_foreach(r->vocab, text, n, id)
    {
        if (read_token(r, text, n, id))
            return -1;
    }
    return 0;
}

/* The id of text [n] in vocab, or -1. */
static int32_t id_of(const struct reading *r, const char *text, size_t n)
{
    const json_t *id = json_object_getn(r->vocab, text, n);
    return id ? (int32_t)json_integer_value(id) : -1;
}

/* One merge: "left right", or ["left", "right"]. */
static int read_merge(struct reading *r, const json_t *m, struct buf *both)
{
    const char *left, *right;
    size_t n_left, n_right;
    if (json_is_string(m)) {
        left = json_string_value(m);
        const char *space = strchr(left, ' ');
        if (!space)
            return err("'%s' has no space", left);
        n_left = (size_t)(space - left);
        right = space + 1;
        n_right = json_string_length(m) - n_left - 1;
    } else {
        left = json_string_value(json_array_get(m, 0));
        right = json_string_value(json_array_get(m, 1));
        if (json_array_size(m) != 2 || !left || !right)
            return err("neither \"left right\" nor [\"left\", \"right\"]");
        n_left = json_string_length(json_array_get(m, 0));
        n_right = json_string_length(json_array_get(m, 1));
    }
    buf_clear(both);
    buf_add(both, left, n_left);
    buf_add(both, right, n_right);
    if (both->failed)
        return -1;
    const struct bpe_merge ids = {.left = id_of(r, left, n_left),
                                  .right = id_of(r, right, n_right),
                                  .into = id_of(r, both->p, both->n)};
    if (!n_left || !n_right || ids.left < 0 || ids.right < 0 || ids.into < 0)
        return err("'%.*s' + '%.*s': not all of the two and what they make are in vocab",
                   (int)n_left, left, (int)n_right, right);
    return bpe_add(&r->t->bpe, ids);
}

static int read_merges(struct reading *r, const json_t *merges)
{
    if (!json_is_array(merges))
        return err("model.merges is missing or no array");
    struct buf both = {0};
    size_t i;
    json_t *m;
    int rc = 0;
    json_array_foreach(merges, i, m)
    {
        if (read_merge(r, m, &both)) {
            rc = err_in("model.merges[%zu]", i);
            break;
        }
    }
    buf_free(&both);
    return rc;
}

static int read_model(struct reading *r, const json_t *model)
{
    static const char *const unsupported[] = {"dropout", "continuing_subword_prefix",
                                              "end_of_word_suffix", "byte_fallback", NULL};
    const json_t *type = json_object_get(model, "type");
    if (!json_is_object(model))
        return err("no object \"model\": not a tokenizer.json");
    if (type && strcmp(type_of(model), "BPE") != 0)
        return err("model.type is %s; only byte-level BPE is supported", type_of(model));
    for (const char *const *key = unsupported; *key; key++)
        if (is_set(model, *key))
            return err("model.%s is set; only byte-level BPE without it is supported", *key);
    r->vocab = json_object_get(model, "vocab");
    if (read_vocab(r) || read_merges(r, json_object_get(model, "merges")))
        return -1;
    if (json_is_true(json_object_get(model, "ignore_merges")))
        r->t->bpe.whole = &r->t->vocab;
    if (is_set(model, "unk_token")) {
        const json_t *unk = json_object_get(model, "unk_token");
        r->unk =
            json_is_string(unk) ? id_of(r, json_string_value(unk), json_string_length(unk)) : -1;
        r->fuse_unk = json_is_true(json_object_get(model, "fuse_unk"));
    }
    return 0;
}

static int read_added_token(struct reading *r, const json_t *o)
{
    static const char *const unsupported[] = {"single_word", "lstrip", "rstrip", NULL};
    struct vocab *v = &r->t->vocab;
    const json_t *content = json_object_get(o, "content"), *number = json_object_get(o, "id");
    if (!json_is_string(content) || !json_is_integer(number))
        return err("no \"content\" or no \"id\"");
    const char *text = json_string_value(content);
    const size_t n = json_string_length(content);
    const json_int_t id = json_integer_value(number);
    if (id < 0 || (size_t)id >= r->id_end)
        return err("id %lld of '%s' is out of range", (long long)id, text);
    for (const char *const *key = unsupported; *key; key++)
        if (is_set(o, *key))
            return err("'%s' has %s; only added tokens without it are supported", text, *key);
    const int32_t known = id_of(r, text, n);
    if (known >= 0 && known != id)
        return err("'%s' has id %lld here and %d before", text, (long long)id, known);
    if (known < 0 && (size_t)id < v->n && v->token[id].type != VOCAB_HOLE)
        return err("id %lld of '%s' belongs to another token", (long long)id, text);
    if (known >= 0)
        v->token[id].type = VOCAB_HOLE;
    else if (json_object_setn_new(r->vocab, text, n, json_integer(id)))
        return err("out of memory");
    return vocab_set(v, (int32_t)id, text, n, is_set(o, "special") ? VOCAB_CONTROL : VOCAB_USER);
}

static int read_added(struct reading *r, const json_t *added)
{
    if (added && !json_is_null(added) && !json_is_array(added))
        return err("added_tokens is no array");
    size_t i;
    json_t *o;
    json_array_foreach(added, i, o)
    {
        if (read_added_token(r, o))
            return err_in("added_tokens[%zu]", i);
    }
    return 0;
}

static int read_normalizer(struct reading *r, const json_t *step)
{
    if (!step || json_is_null(step))
        return 0;
    if (!strcmp(type_of(step), "Sequence")) {
        size_t i;
        json_t *inner;
        json_array_foreach(json_object_get(step, "normalizers"), i, inner)
        {
            if (!json_is_object(inner) || !strcmp(type_of(inner), "Sequence"))
                return err("normalizer: a sequence in a sequence is not supported");
            if (read_normalizer(r, inner))
                return -1;
        }
        return 0;
    }
    if (strcmp(type_of(step), "NFC") != 0)
        return err("normalizer %s is not supported; NFC and none are", type_of(step));
    r->t->nfc = true;
    return 0;
}

/* The steps of a pre_tokenizer, flat. */
struct steps {
    bool digits, byte_level;
    const char *regex;     /* of the Split step */
    bool byte_level_regex; /* ByteLevel cuts with its own expression */
};

static int read_step(struct steps *s, const json_t *step)
{
    const char *type = type_of(step);
    if (s->byte_level)
        return err("a step behind ByteLevel is not supported");
    if (!strcmp(type, "ByteLevel")) {
        if (is_set(step, "add_prefix_space"))
            return err("add_prefix_space is not supported; set it to false if the model allows");
        s->byte_level = true;
        const json_t *own = json_object_get(step, "use_regex");
        s->byte_level_regex = !own || json_is_true(own);
        return 0;
    }
    if (s->regex)
        return err("a step %s behind Split is not supported", type);
    if (!strcmp(type, "Digits")) {
        if (!is_set(step, "individual_digits"))
            return err("Digits is supported with individual_digits only");
        s->digits = true;
        return 0;
    }
    if (strcmp(type, "Split") != 0)
        return err("step %s is not supported; ByteLevel, Split and Digits are", type);
    s->regex = json_string_value(json_object_get(json_object_get(step, "pattern"), "Regex"));
    const char *behavior = json_string_value(json_object_get(step, "behavior"));
    const bool invert = is_set(step, "invert");
    // what matches is everything: keeping the matches, or setting them apart, is the same
    if (!s->regex || !behavior ||
        !((!strcmp(behavior, "Isolated") && !invert) || (!strcmp(behavior, "Removed") && invert)))
        return err("Split is supported with a Regex that is Isolated, or Removed inverted");
    return 0;
}

static int read_pre_tokenizer(struct reading *r, const json_t *pre)
{
    struct steps s = {0};
    if (!strcmp(type_of(pre), "Sequence")) {
        size_t i;
        json_t *step;
        json_array_foreach(json_object_get(pre, "pretokenizers"), i, step)
        {
            if (read_step(&s, step))
                return err_in("pre_tokenizer");
        }
    } else if (read_step(&s, pre)) {
        return err_in("pre_tokenizer");
    }
    if (!s.byte_level)
        return err("pre_tokenizer has no ByteLevel step; only byte-level BPE is supported");
    if (s.regex && s.byte_level_regex)
        return err("pre_tokenizer cuts twice, by Split and by ByteLevel; not supported");
    if (s.regex || s.byte_level_regex)
        r->t->pre = pretok_recognize(s.digits, s.regex);
    else
        return err("pre_tokenizer cuts nowhere (use_regex is false); not supported");
    if (!r->t->pre)
        return err("pre_tokenizer: not one of the rules gpt-2, llama-bpe, qwen2, smollm%s%s",
                   s.regex ? ": " : "", s.regex ? s.regex : "");
    return 0;
}

static int read_template(struct reading *r, const json_t *step)
{
    const json_t *single = json_object_get(step, "single");
    const json_t *head = json_object_get(json_array_get(single, 0), "SpecialToken");
    const size_t n = json_array_size(single);
    if (!n || n > 2 || !json_object_get(json_array_get(single, n - 1), "Sequence") ||
        (n == 2 && !head))
        return err("post_processor: a template other than one token before the text is not "
                   "supported");
    if (n == 1)
        return 0;
    const char *name = json_string_value(json_object_get(head, "id"));
    const json_t *token =
        json_object_get(json_object_get(step, "special_tokens"), name ? name : "");
    const json_t *ids = json_object_get(token, "ids");
    const json_t *id = json_array_get(ids, 0);
    if (json_array_size(ids) != 1 || !json_is_integer(id))
        return err("post_processor: '%s' is not one id in special_tokens", name ? name : "");
    const json_int_t bos = json_integer_value(id);
    if (bos < 0 || (size_t)bos >= r->t->vocab.n || r->t->vocab.token[bos].type == VOCAB_HOLE)
        return err("post_processor: no token has id %lld", (long long)bos);
    r->t->bos = (int32_t)bos;
    return 0;
}

static int read_post_processor(struct reading *r, const json_t *step)
{
    if (!step || json_is_null(step) || !strcmp(type_of(step), "ByteLevel"))
        return 0;
    if (!strcmp(type_of(step), "TemplateProcessing"))
        return read_template(r, step);
    if (strcmp(type_of(step), "Sequence") != 0)
        return err("post_processor %s is not supported; TemplateProcessing is", type_of(step));
    size_t i;
    json_t *inner;
    json_array_foreach(json_object_get(step, "processors"), i, inner)
    {
        if (!strcmp(type_of(inner), "Sequence"))
            return err("post_processor: a sequence in a sequence is not supported");
        if (read_post_processor(r, inner))
            return -1;
    }
    return 0;
}

static int read_decoder(const json_t *step)
{
    if (!step || json_is_null(step) || !strcmp(type_of(step), "ByteLevel"))
        return 0;
    return err("decoder %s is not supported; ByteLevel is", type_of(step));
}

/* Bytes that no token stands for: as in Hugging Face's library they become unk_token, or nothing.
 */
static int settle_bytes(struct reading *r)
{
    int missing = 0;
    for (int b = 0; b < 256; b++) {
        if (r->t->bpe.byte_id[b] >= 0)
            continue;
        r->t->bpe.byte_id[b] = r->unk;
        // bytes that UTF-8 never uses are no loss
        missing += b != 0xc0 && b != 0xc1 && b < 0xf5;
    }
    if (missing && r->fuse_unk)
        return err("model.fuse_unk with a vocabulary that lacks %d bytes is not supported",
                   missing);
    if (missing)
        err_warn("the tokenizer lacks %d of the 256 bytes: text with them does not round-trip",
                 missing);
    return 0;
}

static int read_root(struct reading *r, const json_t *root)
{
    const json_t *vocab = json_object_get(json_object_get(root, "model"), "vocab");
    // the slack bounds what an id can make us allocate by the size of the file
    r->id_end =
        4 * (json_object_size(vocab) + json_array_size(json_object_get(root, "added_tokens"))) +
        1024;
    if (read_model(r, json_object_get(root, "model")) ||
        read_added(r, json_object_get(root, "added_tokens")) ||
        read_normalizer(r, json_object_get(root, "normalizer")) ||
        read_pre_tokenizer(r, json_object_get(root, "pre_tokenizer")) ||
        read_post_processor(r, json_object_get(root, "post_processor")) ||
        read_decoder(json_object_get(root, "decoder")) || settle_bytes(r))
        return -1;
    return tokenizer_finish(r->t);
}

struct tokenizer *tokenizer_parse(const char *json, size_t n)
{
    json_error_t e;
    json_t *root = json_loadb(json, n, JSON_REJECT_DUPLICATES, &e);
    if (!root) {
        err("line %d, column %d: %s", e.line, e.column, e.text);
        return NULL;
    }
    struct reading r = {.t = tokenizer_new_empty(NULL), .unk = -1};
    if (r.t && read_root(&r, root)) {
        tokenizer_free(r.t);
        r.t = NULL;
    }
    json_decref(root);
    return r.t;
}

struct tokenizer *tokenizer_load(const char *path)
{
    struct buf json = {0};
    struct tokenizer *t = NULL;
    if (!file_read(path, FILE_MOST, &json)) {
        t = tokenizer_parse(json.p ? json.p : "", json.n);
        if (!t)
            err_in("%s", path);
    }
    buf_free(&json);
    return t;
}
