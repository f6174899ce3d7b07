#include "datasets/corpus_count.h"

#include <string.h>

#include "autograd/base/err.h"
#include "datasets/corpus_write.h"
#include "datasets/pass.h"

/* Prompts that are to leave room in a window. */
struct fitting {
    const struct tokenizer *tokenizer;
    int64_t T;
    bool *fits; /* [2] */
};

/* An address, or standard input, which can be read once. */
static bool is_remote(const struct corpus_spec *spec)
{
    for (size_t i = 0; i < spec->n_sources; i++) {
        const char *s = spec->source[i];
        if (!strncmp(s, "http://", 7) || !strncmp(s, "https://", 8) || !strcmp(s, "-"))
            return true;
    }
    return false;
}

static int fit(const struct fitting *f, const struct corpus_spec *spec, const struct document *doc,
               bool *fits)
{
    if (*fits || !doc->pair) {
        *fits = true;
        return 0;
    }
    const int64_t n = corpus_prompt_tokens(f->tokenizer, spec->parse_special, doc);
    *fits = n <= f->T;
    return n < 0 ? -1 : 0;
}

/* One reading; `before` is what an earlier one found; f may be NULL. */
static int read_once(const struct corpus_spec *spec, const struct inputs *in,
                     struct pass_total *before, struct corpus_count *n, const struct fitting *f)
{
    struct pass p;
    struct document doc;
    bool valid;
    int r;
    if (pass_open(&p, in, spec, before, NULL, "reading"))
        return -1;
    *n = (struct corpus_count){.file_bytes = n->file_bytes, .shortest = {INT64_MAX, INT64_MAX}};
    while ((r = pass_next(&p, &doc, &valid)) == 1) {
        const int64_t prompt = doc.pair ? (int64_t)doc.prompt : 0;
        n->bytes[valid] += (int64_t)doc.n;
        n->documents[valid] += doc.last;
        n->shortest[valid] = prompt < n->shortest[valid] ? prompt : n->shortest[valid];
        if (f && fit(f, spec, &doc, &f->fits[valid])) {
            r = -1;
            break;
        }
    }
    n->pairs = p.now.pairs;
    *before = p.now;
    pass_close(&p);
    return r;
}

/* Where the tail is for validation, a second reading cuts it, for it is known then where. */
static int read_all(const struct corpus_spec *spec, const struct inputs *in, struct corpus_count *n,
                    const struct fitting *f)
{
    struct pass_total total = {0};
    if (read_once(spec, in, &total, n, f))
        return -1;
    if (!total.documents)
        return err("there is no text in it");
    const bool tail = spec->valid == SPLIT_TAIL || total.documents < CORPUS_FEW_DOCUMENTS;
    if (!tail || spec->valid_fraction <= 0)
        return 0;
    total.mode = SPLIT_TAIL;
    if (f)
        f->fits[0] = f->fits[1] = false;
    return read_once(spec, in, &total, n, f);
}

int corpus_count(const struct corpus_spec *spec, int64_t most, struct corpus_count *n)
{
    struct inputs in = {0};
    *n = (struct corpus_count){0};
    if (is_remote(spec))
        return CORPUS_REMOTE;
    int rc = inputs_find(&in, spec->n_sources, spec->source, spec->sha256, spec->base_dir,
                         spec->cache_dir)
                 ? -1
                 : CORPUS_COUNTED;
    for (size_t i = 0; i < in.n; i++)
        n->file_bytes += in.input[i].kind == INPUT_BIBLE ? 0 : in.input[i].size;
    if (!rc && n->file_bytes > most)
        rc = CORPUS_LARGE;
    if (!rc)
        rc = read_all(spec, &in, n, NULL);
    inputs_free(&in);
    return rc;
}

int corpus_count_fits(const struct corpus_spec *spec, const struct corpus_count *n,
                      const struct tokenizer *t, int64_t T, bool fits[2])
{
    enum { AROUND = 3 }; // tokens of a prompt that have no bytes, at most
    const struct fitting f = {t, T, fits};
    struct corpus_count again = {0};
    struct inputs in = {0};
    for (int side = 0; side < 2; side++)
        fits[side] = n->shortest[side] <= T - AROUND || (side && spec->valid_fraction <= 0);
    if (fits[0] && fits[1])
        return 0;
    fits[0] = fits[1] = false;
    const int rc = inputs_find(&in, spec->n_sources, spec->source, spec->sha256, spec->base_dir,
                               spec->cache_dir) ||
                           read_all(spec, &in, &again, &f)
                       ? -1
                       : 0;
    fits[1] = fits[1] || spec->valid_fraction <= 0;
    inputs_free(&in);
    return rc;
}
