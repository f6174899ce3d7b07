#include "datasets/corpus_peek.h"

#include <string.h>

#include "datasets/inputs.h"
#include "datasets/pass.h"
#include "datasets/source.h"

/* Among the first documents of one file. */
static bool shows_pair(const struct input *file, const struct corpus_spec *spec)
{
    enum { LOOK_AT = 100 };
    const struct inputs one = {.input = (struct input *)file, .n = 1};
    const struct source_spec how = pass_source(spec);
    struct document doc = {0};
    struct source *s;
    if (source_open(&s, &one, &how))
        return false;
    for (int i = 0; i < LOOK_AT && !doc.pair && source_next(s, &doc) == 1; i++)
        ;
    source_close(s);
    return doc.pair;
}

bool corpus_peek_pairs(const struct corpus_spec *spec)
{
    bool found = false;
    for (size_t k = 0; k < spec->n_sources && !found; k++) {
        struct inputs in = {0};
        const bool fetched = strstr(spec->source[k], "://");
        const int rc =
            fetched ? -1
                    : inputs_find(&in, 1, &spec->source[k], NULL, spec->base_dir, spec->cache_dir);
        for (size_t i = 0; !rc && i < in.n && !found; i++)
            found = in.input[i].kind == INPUT_JSONL && shows_pair(&in.input[i], spec);
        inputs_free(&in);
    }
    return found;
}
