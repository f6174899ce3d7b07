/* tokenizer.json: reading. */
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/file.h"
#include "autograd/base/jsontext.h"
#include "autograd/base/mem.h"
#include "autograd/base/once.h"
#include "datasets/bytelevel.h"
#include "datasets/tokenizer_parse.h"

enum { FILE_MOST = 256 << 20 };

const char *tokenizer_parse_type(const json_t *step)
{
    const char *type = json_string_value(json_object_get(step, "type"));
    return type ? type : "(none)";
}

bool tokenizer_parse_set(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    return v && !json_is_null(v) && !json_is_false(v) &&
           !(json_is_number(v) && json_number_value(v) == 0) &&
           !(json_is_string(v) && !json_string_length(v));
}

/* A token of SentencePiece's BPE to vocab: spaces are U+2581, bytes <0x0A>. */
static int read_piece(struct tokenizer *t, int32_t id, const char *text, size_t n)
{
    const int byte = spm_byte(text, n);
    if (byte >= 0) {
        t->bpe.byte_id[byte] = id;
        return vocab_set(&t->vocab, id, &(char){(char)byte}, 1, VOCAB_BYTE);
    }
    if (!n || memchr(text, ' ', n)) // no text has such a space
        return vocab_set(&t->vocab, id, text, n, VOCAB_UNUSED);
    struct buf bytes = {0};
    const int rc =
        spm_spaces(text, n, &bytes) ? -1 : vocab_set(&t->vocab, id, bytes.p, bytes.n, VOCAB_NORMAL);
    buf_free(&bytes);
    return rc;
}

/* One of byte-level BPE: bytes in the byte alphabet. */
static int read_bytes(struct tokenizer *t, int32_t id, const char *text, size_t n)
{
    char *bytes = mem_new(n + 1, 1);
    if (!bytes)
        return -1;
    const long len = bytelevel_decode(text, n, bytes);
    int rc;
    if (len < 0)
        rc = vocab_set(&t->vocab, id, text, n, VOCAB_UNUSED);
    else
        rc = vocab_set(&t->vocab, id, bytes, (size_t)len, VOCAB_NORMAL);
    if (len == 1)
        t->bpe.byte_id[(uint8_t)*bytes] = id;
    free(bytes);
    return rc;
}

/* A token to vocab; its id is checked. */
static int read_token(struct tokenizer_reading *r, const char *text, size_t n, json_t *value)
{
    const json_int_t id = json_integer_value(value);
    if (!json_is_integer(value) || id < 0 || (size_t)id >= r->id_end)
        return err("vocab: the id of '%s' is no number from 0 to %zu", text, r->id_end - 1);
    const int rc =
        r->t->spm ? read_piece(r->t, (int32_t)id, text, n) : read_bytes(r->t, (int32_t)id, text, n);
    return rc ? err_in("vocab") : 0;
}

static int read_vocab(struct tokenizer_reading *r)
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
static int32_t id_of(const struct tokenizer_reading *r, const char *text, size_t n)
{
    const json_t *id = json_object_getn(r->vocab, text, n);
    return id ? (int32_t)json_integer_value(id) : -1;
}

/* One merge: "left right", or ["left", "right"]. */
static int read_merge(struct tokenizer_reading *r, const json_t *m, struct buf *both)
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

static int read_merges(struct tokenizer_reading *r, const json_t *merges)
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

static int read_model(struct tokenizer_reading *r, const json_t *model)
{
    static const char *const unsupported[] = {"dropout", "continuing_subword_prefix",
                                              "end_of_word_suffix", NULL};
    const json_t *type = json_object_get(model, "type");
    if (!json_is_object(model))
        return err("no object \"model\": not a tokenizer.json");
    if (type && strcmp(tokenizer_parse_type(model), "BPE") != 0)
        return err("model.type is %s; only BPE is supported", tokenizer_parse_type(model));
    for (const char *const *key = unsupported; *key; key++)
        if (tokenizer_parse_set(model, *key))
            return err("model.%s is set; only BPE without it is supported", *key);
    r->t->spm = tokenizer_parse_set(model, "byte_fallback");
    r->vocab = json_object_get(model, "vocab");
    if (read_vocab(r) || read_merges(r, json_object_get(model, "merges")))
        return -1;
    const bool whole = json_is_true(json_object_get(model, "ignore_merges"));
    if (whole && r->t->spm)
        return err("model.ignore_merges beside byte_fallback is not supported");
    if (whole)
        r->t->bpe.whole = &r->t->vocab;
    if (tokenizer_parse_set(model, "unk_token")) {
        const json_t *unk = json_object_get(model, "unk_token");
        r->unk =
            json_is_string(unk) ? id_of(r, json_string_value(unk), json_string_length(unk)) : -1;
        r->fuse_unk = json_is_true(json_object_get(model, "fuse_unk"));
    }
    return 0;
}

static int read_added_token(struct tokenizer_reading *r, const json_t *o)
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
        if (tokenizer_parse_set(o, *key))
            return err("'%s' has %s; only added tokens without it are supported", text, *key);
    const bool special = tokenizer_parse_set(o, "special");
    const enum vocab_type type = !special                    ? VOCAB_USER
                                 : r->t->spm && id == r->unk ? VOCAB_UNKNOWN
                                                             : VOCAB_CONTROL;
    const int32_t known = id_of(r, text, n);
    if (r->t->spm && known == id && spm_byte(text, n) >= 0)
        return 0; // stays what it is: others' bytes are added tokens too
    if (known >= 0 && known != id)
        return err("'%s' has id %lld here and %d before", text, (long long)id, known);
    if (known < 0 && (size_t)id < v->n && v->token[id].type != VOCAB_HOLE)
        return err("id %lld of '%s' belongs to another token", (long long)id, text);
    if (known >= 0)
        v->token[id].type = VOCAB_HOLE;
    else if (json_object_setn_new(r->vocab, text, n, json_integer(id)))
        return err("out of memory");
    if (vocab_set(v, (int32_t)id, text, n, type))
        return -1;
    v->token[id].normalized = tokenizer_parse_set(o, "normalized");
    return 0;
}

/* Without a normalizer text is the same behind it. */
static void settle_normalized(struct tokenizer_reading *r)
{
    struct vocab *v = &r->t->vocab;
    for (size_t id = 0; id < v->n && !r->normalizes; id++)
        v->token[id].normalized = false;
}

static int read_added(struct tokenizer_reading *r, const json_t *added)
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

/* Bytes that no token stands for: as in Hugging Face's library they become unk_token, or nothing.
 */
static int settle_bytes(struct tokenizer_reading *r)
{
    int missing = 0;
    if (r->t->spm)
        r->t->bpe.unk = r->unk;
    for (int b = 0; b < 256; b++) {
        if (r->t->bpe.byte_id[b] >= 0)
            continue;
        if (!r->t->spm)
            r->t->bpe.byte_id[b] = r->unk;
        // bytes that UTF-8 never uses are no loss
        missing += b != 0xc0 && b != 0xc1 && b < 0xf5;
    }
    // a run of characters without bytes is one unk there, a run of bytes as many as it has; without
    // an unk both are nothing
    if (missing && r->unk >= 0 && r->fuse_unk != r->t->spm)
        return err("model.fuse_unk is %s; with a vocabulary that lacks %d bytes this is not "
                   "supported",
                   r->fuse_unk ? "true" : "false", missing);
    if (missing)
        once_warn("the tokenizer lacks %d of the 256 bytes: where text has them, they are lost",
                  missing);
    return 0;
}

static int read_root(struct tokenizer_reading *r, const json_t *root)
{
    const json_t *vocab = json_object_get(json_object_get(root, "model"), "vocab");
    // the slack bounds what an id can make us allocate by the size of the file
    r->id_end =
        4 * (json_object_size(vocab) + json_array_size(json_object_get(root, "added_tokens"))) +
        1024;
    if (read_model(r, json_object_get(root, "model")) ||
        read_added(r, json_object_get(root, "added_tokens")) || tokenizer_parse_steps(r, root) ||
        settle_bytes(r) ||
        tokenizer_parse_extras(r, json_object_get(json_object_get(root, "model"), "attar")))
        return -1;
    settle_normalized(r);
    return tokenizer_finish(r->t);
}

struct tokenizer *tokenizer_parse_root(const json_t *root)
{
    struct tokenizer_reading r = {.t = tokenizer_new_empty(NULL), .unk = -1};
    if (r.t && read_root(&r, root)) {
        tokenizer_free(r.t);
        r.t = NULL;
    }
    return r.t;
}

struct tokenizer *tokenizer_parse(const char *json, size_t n)
{
    json_t *root = jsontext_parse(json, n, false);
    struct tokenizer *t = root ? tokenizer_parse_root(root) : NULL;
    json_decref(root);
    return t;
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
