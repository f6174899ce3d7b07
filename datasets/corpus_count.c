#include "datasets/corpus_count.h"

#include <string.h>

#include "autograd/base/err.h"
#include "datasets/pass.h"

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

/* One reading; `before` is what an earlier one found. */
static int read_once(const struct corpus_spec *spec, const struct inputs *in,
                     struct pass_total *before, struct corpus_count *n)
{
    struct pass p;
    struct document doc;
    bool valid;
    int r;
    if (pass_open(&p, in, spec, before, NULL, "reading"))
        return -1;
    n->bytes[0] = n->bytes[1] = n->documents[0] = n->documents[1] = 0;
    while ((r = pass_next(&p, &doc, &valid)) == 1) {
        n->bytes[valid] += (int64_t)doc.n;
        n->documents[valid] += doc.last;
    }
    n->pairs = p.now.pairs;
    *before = p.now;
    pass_close(&p);
    return r;
}

/* Where the tail is for validation, a second reading cuts it, for it is known then where. */
static int read_all(const struct corpus_spec *spec, const struct inputs *in, struct corpus_count *n)
{
    struct pass_total total = {0};
    if (read_once(spec, in, &total, n))
        return -1;
    if (!total.documents)
        return err("there is no text in it");
    const bool tail = spec->valid == SPLIT_TAIL || total.documents < CORPUS_FEW_DOCUMENTS;
    if (!tail || spec->valid_fraction <= 0)
        return 0;
    total.mode = SPLIT_TAIL;
    return read_once(spec, in, &total, n);
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
        rc = read_all(spec, &in, n);
    inputs_free(&in);
    return rc;
}
