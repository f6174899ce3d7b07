#include "datasets/split.h"

#include <string.h>

#include <xxhash.h>

static bool in_lowest(const struct split *s, const struct document *doc)
{
    const uint64_t h = XXH3_64bits_withSeed(doc->text, doc->n, s->seed);
    return (double)(h >> 11) * 0x1p-53 < s->fraction;
}

/* Bytes of a piece that go to the front part if the cut is meant to be at `want` of it. */
static size_t line_cut(const struct document *doc, size_t want, bool nothing_follows)
{
    const char *p = doc->text;
    const char *nl = memchr(p + want, '\n', doc->n - want);
    if (nl && nl + 1 < p + doc->n)
        return (size_t)(nl + 1 - p);
    if (!nothing_follows)
        return doc->n;
    nl = memrchr(p, '\n', want);
    if (nl)
        return (size_t)(nl + 1 - p);
    if (!doc->first)
        return 0;
    while (want && ((unsigned char)p[want] & 0xc0) == 0x80)
        want--;
    return want;
}

static int next_of_tail(struct split *s, struct document *doc)
{
    const int64_t cut = s->total - (int64_t)(s->fraction * (double)s->total);
    const int64_t start = s->at;
    const int r = source_next(s->source, doc);
    if (r != 1)
        return r;
    s->at += (int64_t)doc->n;
    if (start >= cut && !s->valid)
        doc->first = s->valid = true;
    if (s->valid || s->at <= cut || doc->pair)
        return 1;
    const bool nothing_follows = s->at >= s->total;
    const size_t front = line_cut(doc, (size_t)(cut - start), nothing_follows);
    if (!front) {
        doc->first = s->valid = true;
    } else if (front < doc->n) {
        s->rest = *doc;
        s->rest.text += front;
        s->rest.n -= front;
        s->rest.first = true;
        s->has_rest = true;
        doc->n = front;
        doc->last = false;
    }
    return 1;
}

int split_next(struct split *s, struct document *doc, bool *valid)
{
    int r = 1;
    if (s->has_rest) {
        *doc = s->rest;
        s->has_rest = false;
        s->valid = true;
    } else if (s->mode == SPLIT_TAIL) {
        r = next_of_tail(s, doc);
    } else {
        r = source_next(s->source, doc);
        if (r == 1 && doc->first)
            s->valid = in_lowest(s, doc);
    }
    *valid = s->valid;
    return r;
}
