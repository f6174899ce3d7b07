#include "datasets/pass.h"

#include "autograd/base/err.h"

enum { SHOW_EVERY = 1 << 20 }; /* bytes of text */

struct source_spec pass_source(const struct corpus_spec *spec)
{
    return (struct source_spec){
        .split_on = spec->split_on,
        .keys = {spec->text_key, spec->prompt_key, spec->completion_key},
    };
}

int pass_open(struct pass *p, const struct inputs *in, const struct corpus_spec *spec,
              const struct pass_total *before, const struct corpus_progress *progress,
              const char *what)
{
    *p = (struct pass){.before = before, .progress = progress, .what = what, .shown = -1};
    p->state = XXH3_createState();
    if (!p->state)
        return err("out of memory");
    XXH3_128bits_reset(p->state);
    const struct source_spec source = pass_source(spec);
    if (source_open(&p->source, in, &source)) {
        pass_close(p);
        return -1;
    }
    p->split = (struct split){
        .source = p->source,
        .mode = before->known ? before->mode : SPLIT_HASH,
        .fraction = spec->valid_fraction,
        .seed = spec->seed,
        .total = before->bytes,
    };
    return 0;
}

void pass_close(struct pass *p)
{
    source_close(p->source);
    XXH3_freeState(p->state);
    *p = (struct pass){0};
}

static int show(struct pass *p, bool end)
{
    if (!p->progress || (!end && p->shown >= 0 && p->now.bytes - p->shown < SHOW_EVERY))
        return 0;
    p->shown = p->now.bytes;
    return p->progress->update(p->progress->arg, p->what, source_done(p->source),
                               source_total(p->source))
               ? err("interrupted while making the corpus")
               : 0;
}

static int finish(struct pass *p)
{
    p->now.hash = XXH3_128bits_digest(p->state);
    if (p->before->known &&
        (p->now.bytes != p->before->bytes || !XXH128_isEqual(p->now.hash, p->before->hash)))
        return err("the corpus changed while it was being read; start again");
    p->now.known = true;
    return show(p, true);
}

int pass_next(struct pass *p, struct document *doc, bool *valid)
{
    const int r = split_next(&p->split, doc, valid);
    if (r < 0)
        return -1;
    if (!r)
        return finish(p);
    XXH3_128bits_update(p->state, doc->text, doc->n);
    p->now.bytes += (int64_t)doc->n;
    p->now.documents += doc->last;
    p->now.pairs += doc->pair;
    return show(p, false) ? -1 : 1;
}
