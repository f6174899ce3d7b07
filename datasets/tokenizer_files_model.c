/*
 * tokenizer.model: a protobuf message, read by hand (sentencepiece_model.proto of the SentencePiece
 * project). Of a message's fields, each a varint `number << 3 | wire type` and a value:
 *
 *     ModelProto      1 pieces*   2 trainer_spec   3 normalizer_spec
 *     SentencePiece   1 piece (text)   2 score (f32)   3 type
 *     TrainerSpec     3 model_type   24 treat_whitespace_as_suffix   40-43 unk, bos, eos, pad ids
 *     NormalizerSpec  1 name   2 precompiled_charsmap   3 add_dummy_prefix
 *                     4 remove_extra_whitespaces   5 escape_whitespaces
 */
#include <stdlib.h>
#include <string.h>

#include "autograd/base/cursor.h"
#include "autograd/base/jsontext.h"
#include "autograd/base/mem.h"
#include "datasets/tokenizer_files.h"

enum { WIRE_VARINT, WIRE_64, WIRE_BYTES, WIRE_32 = 5 };
enum { MODEL_UNIGRAM = 1, MODEL_BPE };

struct model {
    struct tokenizer_text *token;
    float *score;
    int32_t *type;
    size_t n, cap_token, cap_score, cap_type;
    int64_t kind, id[4]; /* unk, bos, eos, pad */
    bool suffix, prefix, extra, escape;
    size_t charsmap; /* bytes of it */
    json_t *config;
};

struct field {
    uint64_t number;
    int wire;
    uint64_t x;          /* of a varint or a number */
    struct cursor bytes; /* of a message or a text */
};

static uint64_t varint(struct cursor *c)
{
    uint64_t x = 0;
    for (int shift = 0; shift < 70; shift += 7) {
        const uint8_t byte = cursor_u8(c);
        x |= shift < 64 ? (uint64_t)(byte & 0x7f) << shift : 0;
        if (!(byte & 0x80))
            return x;
    }
    cursor_fail(c, "a number of more than ten bytes");
    return 0;
}

/* The next field; false at the end or when failed. */
static bool next(struct cursor *c, struct field *f)
{
    if (c->failed || !cursor_left(c))
        return false;
    const uint64_t tag = varint(c);
    *f = (struct field){.number = tag >> 3, .wire = (int)(tag & 7)};
    if (f->wire == WIRE_VARINT) {
        f->x = varint(c);
    } else if (f->wire == WIRE_64) {
        f->x = cursor_u64(c);
    } else if (f->wire == WIRE_32) {
        f->x = cursor_u32(c);
    } else if (f->wire == WIRE_BYTES) {
        const uint64_t n = varint(c);
        const void *p = cursor_bytes(c, n);
        f->bytes = (struct cursor){.base = p ? p : c->base, .size = p ? (size_t)n : 0};
    } else {
        cursor_fail(c, "a field of wire type %d", f->wire);
    }
    return !c->failed;
}

/* Fails unless the field is of the wire type that it has to have. */
static bool is(struct cursor *c, const struct field *f, uint64_t number, int wire)
{
    if (f->number != number)
        return false;
    if (f->wire == wire)
        return true;
    cursor_fail(c, "field %d is of wire type %d, not %d", (int)number, f->wire, wire);
    return false;
}

static float real(uint64_t bits)
{
    const uint32_t low = (uint32_t)bits;
    float x;
    memcpy(&x, &low, sizeof x);
    return x;
}

static int add_piece(struct model *m, struct tokenizer_text text, float score, int32_t type)
{
    if (mem_grow(&m->token, &m->cap_token, m->n + 1, sizeof *m->token) ||
        mem_grow(&m->score, &m->cap_score, m->n + 1, sizeof *m->score) ||
        mem_grow(&m->type, &m->cap_type, m->n + 1, sizeof *m->type))
        return -1;
    m->token[m->n] = text;
    m->score[m->n] = score;
    m->type[m->n++] = type;
    return 0;
}

static int read_piece(struct model *m, struct cursor *c)
{
    struct field f;
    struct tokenizer_text text = {"", 0};
    float score = 0;
    int64_t type = VOCAB_NORMAL;
    while (next(c, &f)) {
        if (is(c, &f, 1, WIRE_BYTES))
            text = (struct tokenizer_text){(const char *)f.bytes.base, f.bytes.size};
        else if (is(c, &f, 2, WIRE_32))
            score = real(f.x);
        else if (is(c, &f, 3, WIRE_VARINT))
            type = (int64_t)f.x;
    }
    if (c->failed)
        return err_in("piece %zu", m->n);
    if (type < VOCAB_NORMAL || type > VOCAB_BYTE)
        return err("piece %zu is of type %lld", m->n, (long long)type);
    return add_piece(m, text, score, (int32_t)type);
}

static int read_trainer(struct model *m, struct cursor *c)
{
    struct field f;
    while (next(c, &f)) {
        if (is(c, &f, 3, WIRE_VARINT))
            m->kind = (int64_t)f.x;
        else if (is(c, &f, 24, WIRE_VARINT))
            m->suffix = f.x != 0;
        for (uint64_t i = 0; i < 4; i++)
            if (is(c, &f, 40 + i, WIRE_VARINT))
                m->id[i] = (int64_t)f.x;
    }
    return c->failed ? err_in("trainer_spec") : 0;
}

static int read_normalizer(struct model *m, struct cursor *c)
{
    struct field f;
    while (next(c, &f)) {
        if (is(c, &f, 2, WIRE_BYTES))
            m->charsmap = f.bytes.size;
        else if (is(c, &f, 3, WIRE_VARINT))
            m->prefix = f.x != 0;
        else if (is(c, &f, 4, WIRE_VARINT))
            m->extra = f.x != 0;
        else if (is(c, &f, 5, WIRE_VARINT))
            m->escape = f.x != 0;
    }
    return c->failed ? err_in("normalizer_spec") : 0;
}

static int read_model(struct model *m, struct cursor *c)
{
    struct field f;
    int rc = 0;
    while (!rc && next(c, &f)) {
        if (is(c, &f, 1, WIRE_BYTES))
            rc = read_piece(m, &f.bytes);
        else if (is(c, &f, 2, WIRE_BYTES))
            rc = read_trainer(m, &f.bytes);
        else if (is(c, &f, 3, WIRE_BYTES))
            rc = read_normalizer(m, &f.bytes);
    }
    return rc || c->failed ? -1 : 0;
}

static int check(const struct model *m)
{
    if (m->kind != MODEL_BPE)
        return err("model_type is %lld%s; only BPE (2) is supported", (long long)m->kind,
                   m->kind == MODEL_UNIGRAM ? " (Unigram)" : "");
    if (m->charsmap)
        return err("the normalizer has a table of characters; only identity is supported");
    if (m->extra)
        return err("remove_extra_whitespaces is true: not supported");
    if (m->suffix || !m->escape)
        return err("treat_whitespace_as_suffix, or no escape_whitespaces: not supported");
    return 0;
}

/* Tokens of tokenizer_config.json behind the pieces: "added_tokens_decoder": {"32000":
   {"content": "<pad>", "special": true}, ...}. */
static int add_tokens(struct model *m)
{
    json_t *added = json_object_get(m->config, "added_tokens_decoder"), *o;
    const size_t pieces = m->n, most = m->n + json_object_size(added);
    const char *key;
    json_object_foreach(added, key, o)
    {
        char *end;
        const unsigned long id = strtoul(key, &end, 10);
        const json_t *content = json_object_get(o, "content");
        if (*end || end == key || !json_is_string(content))
            return err("added_tokens_decoder: '%.40s' is no id, or has no content", key);
        if (id < pieces)
            continue; // said again
        if (id >= most)
            return err("added_tokens_decoder: id %lu leaves a gap behind %zu pieces", id, pieces);
        while (m->n <= id)
            if (add_piece(m, (struct tokenizer_text){"", 0}, 0, VOCAB_UNUSED))
                return -1;
        m->token[id] =
            (struct tokenizer_text){json_string_value(content), json_string_length(content)};
        m->type[id] = json_is_true(json_object_get(o, "special")) ? VOCAB_CONTROL : VOCAB_USER;
    }
    return 0;
}

/* User pieces match text, which has spaces. */
static int unmark(const struct model *m, struct buf *text)
{
    for (int pass = 0; pass < 2; pass++) { // the buffer moves while it grows
        size_t at = 0;
        buf_clear(text);
        for (size_t i = 0; i < m->n; i++) {
            if (m->type[i] != VOCAB_USER || !m->token[i].n ||
                !spm_has_mark(m->token[i].s, m->token[i].n))
                continue;
            at = text->n;
            if (!pass) {
                if (spm_spaces(m->token[i].s, m->token[i].n, text))
                    return -1;
                continue;
            }
            spm_spaces(m->token[i].s, m->token[i].n, text);
            m->token[i] = (struct tokenizer_text){text->p + at, text->n - at};
        }
    }
    return 0;
}

static int32_t role(const struct model *m, int i)
{
    return m->id[i] >= 0 && m->id[i] < (int64_t)m->n ? (int32_t)m->id[i] : -1;
}

static struct tokenizer *make(struct model *m)
{
    struct buf text = {0};
    struct tokenizer *t = NULL;
    if (!check(m) && !add_tokens(m) && !unmark(m, &text)) {
        const struct tokenizer_parts parts = {
            .spm = true,
            .n = m->n,
            .token = m->token,
            .score = m->score,
            .type = m->type,
            .role = {[TOKENIZER_BOS] = role(m, 1),
                     [TOKENIZER_EOS] = role(m, 2),
                     [TOKENIZER_EOT] = -1,
                     [TOKENIZER_EOM] = -1,
                     [TOKENIZER_UNK] = role(m, 0),
                     [TOKENIZER_SEP] = -1,
                     [TOKENIZER_PAD] = role(m, 3)},
            .add_bos = role(m, 1) >= 0,
            .space = m->prefix ? TOKENIZER_SPACE_EACH : TOKENIZER_NO_SPACE,
        };
        t = tokenizer_make(&parts);
    }
    buf_free(&text);
    return t;
}

bool tokenizer_files_is_model(const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    return n > 4 && p[0] == 0x0a && p[1] < 0x80 && p[2] == 0x0a && p[3] < p[1];
}

struct tokenizer *tokenizer_files_model(const void *bytes, size_t n, const char *config,
                                        size_t n_config)
{
    struct cursor c = {.base = bytes, .size = n};
    // the message's defaults
    struct model m = {
        .kind = MODEL_UNIGRAM, .id = {0, 1, 2, -1}, .prefix = true, .extra = true, .escape = true};
    struct tokenizer *t = NULL;
    if (config && !(m.config = jsontext_parse(config, n_config, false)))
        err_in("tokenizer_config.json");
    else if (!read_model(&m, &c))
        t = make(&m);
    json_decref(m.config);
    free(m.token);
    free(m.score);
    free(m.type);
    return t;
}
