#include "datasets/corpus.h"

#include <stdlib.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/mem.h"
#include "datasets/corpus_format.h"

const char *const corpus_side_names[2] = {"train", "valid"};

static int read_format(struct corpus *c)
{
    struct buf format = {0}, content = {0};
    int64_t version = 0, vocab = 0, eot = 0;
    const char *path = h5file_path(c->file);
    int r = 0;
    if (h5file_get_text(c->file, "/", "format", &format))
        r = -1;
    else if (!format.n || strcmp(format.p, CORPUS_FORMAT))
        r = err("%s: not a corpus", path);
    else if (h5file_get_int(c->file, "/", "version", &version))
        r = -1;
    else if (version != CORPUS_VERSION)
        r = err("%s: corpus version %lld; this attar reads version %d (make it again)", path,
                (long long)version, CORPUS_VERSION);
    else if (h5file_get_int(c->file, "/", "vocab_size", &vocab) ||
             h5file_get_int(c->file, "/", "eot", &eot) ||
             h5file_get_text(c->file, "/", "content", &content))
        r = -1;
    else if (content.n != CORPUS_HEX - 1)
        r = err("%s: content is no hash", path);
    else if (vocab < 1 || vocab > INT32_MAX || eot < -1 || eot >= vocab)
        r = err("%s: vocab_size %lld and eot %lld do not fit", path, (long long)vocab,
                (long long)eot);
    c->vocab_size = (int)vocab;
    c->eot = (int32_t)eot;
    if (!r)
        memcpy(c->content, content.p, CORPUS_HEX);
    buf_free(&format);
    buf_free(&content);
    return r;
}

/* A one-dimensional dataset of n values. */
static int check_dataset(const struct corpus *c, enum corpus_side side, const char *what,
                         enum h5type type, int64_t n)
{
    char name[CORPUS_NAME];
    struct h5shape s;
    if (h5file_shape(c->file, corpus_name(name, side, what), &s))
        return -1;
    if (s.type != type || s.ndim != 1 || s.n != n)
        return err("%s: `%s` has not the type and length that belong to it", h5file_path(c->file),
                   name);
    return 0;
}

static int read_part(struct corpus *c, enum corpus_side side)
{
    struct corpus_part *p = &c->part[side];
    const char *at = corpus_side_names[side];
    int64_t masked = 0;
    const int there = h5file_has(c->file, at);
    if (there <= 0)
        return there;
    if (h5file_get_int(c->file, at, "tokens", &p->tokens) ||
        h5file_get_int(c->file, at, "documents", &p->documents) ||
        h5file_get_int(c->file, at, "bytes", &p->bytes) ||
        h5file_get_int(c->file, at, "loss_bytes", &p->loss_bytes) ||
        h5file_get_int(c->file, at, "masked", &masked))
        return -1;
    p->masked = masked != 0;
    if (p->bytes < 0 || p->loss_bytes < 0 || p->loss_bytes > p->bytes)
        return err("%s: %s: numbers of bytes that cannot be", h5file_path(c->file), at);
    if (check_dataset(c, side, "tokens", corpus_token_type(c->vocab_size), p->tokens) ||
        check_dataset(c, side, "documents", H5_I64, p->documents))
        return -1;
    return p->masked ? check_dataset(c, side, "mask", H5_U8, p->tokens) : 0;
}

int corpus_open(struct corpus *c, const char *path)
{
    *c = (struct corpus){0};
    if (h5file_open(&c->file, path))
        return -1;
    if (!read_format(c) && !read_part(c, CORPUS_TRAIN) && !read_part(c, CORPUS_VALID))
        return 0;
    corpus_close(c);
    return -1;
}

void corpus_close(struct corpus *c)
{
    h5file_close(c->file);
    *c = (struct corpus){0};
}

static int check_tokens(const struct corpus *c, enum corpus_side side, int64_t start, int64_t n,
                        const int32_t *token)
{
    for (int64_t i = 0; i < n; i++)
        if (token[i] < 0 || token[i] >= c->vocab_size)
            return err("%s: token %lld of %s is %d, the vocabulary has %d", h5file_path(c->file),
                       (long long)(start + i), corpus_side_names[side], token[i], c->vocab_size);
    return 0;
}

int corpus_read(const struct corpus *c, enum corpus_side side, int64_t start, int64_t n,
                int32_t *token)
{
    char name[CORPUS_NAME];
    const enum h5type type = corpus_token_type(c->vocab_size);
    // the narrow values go to the upper half and are widened from the front
    void *to = type == H5_I32 ? (void *)token : (void *)((uint16_t *)(void *)token + n);
    if (h5file_read_rows(c->file, corpus_name(name, side, "tokens"), type, start, n, to))
        return -1;
    if (type == H5_U16) {
        const char *narrow = to;
        for (int64_t i = 0; i < n; i++) {
            uint16_t v;
            memcpy(&v, narrow + 2 * i, sizeof v);
            token[i] = v;
        }
    }
    return check_tokens(c, side, start, n, token);
}

int corpus_read_mask(const struct corpus *c, enum corpus_side side, int64_t start, int64_t n,
                     uint8_t *mask)
{
    char name[CORPUS_NAME];
    memset(mask, 1, (size_t)n);
    if (!c->part[side].masked)
        return 0;
    return h5file_read_rows(c->file, corpus_name(name, side, "mask"), H5_U8, start, n, mask);
}

int64_t *corpus_documents(const struct corpus *c, enum corpus_side side)
{
    char name[CORPUS_NAME];
    const struct corpus_part *p = &c->part[side];
    int64_t *start = mem_new((size_t)p->documents, sizeof *start), before = -1;
    if (!start)
        return NULL;
    corpus_name(name, side, "documents");
    bool ok = !h5file_read_rows(c->file, name, H5_I64, 0, p->documents, start);
    for (int64_t i = 0; ok && i < p->documents; before = start[i++])
        if (start[i] <= before || start[i] >= p->tokens)
            ok = err("%s: `%s` is not increasing at %lld", h5file_path(c->file), name,
                     (long long)i) == 0;
    if (ok)
        return start;
    free(start);
    return NULL;
}

struct tokenizer *corpus_tokenizer(const struct corpus *c)
{
    struct buf json = {0};
    struct tokenizer *t = NULL;
    if (!h5file_read_text(c->file, "tokenizer", &json))
        t = tokenizer_parse(json.n ? json.p : "", json.n);
    if (!t)
        err_in("%s", h5file_path(c->file));
    else if (tokenizer_vocab_size(t) != c->vocab_size) {
        err("%s: its tokenizer has %d tokens, vocab_size is %d", h5file_path(c->file),
            tokenizer_vocab_size(t), c->vocab_size);
        tokenizer_free(t);
        t = NULL;
    }
    buf_free(&json);
    return t;
}

const char *corpus_hash(const struct corpus *c)
{
    return c->content;
}
