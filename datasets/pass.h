/*
 * One reading of all documents of a corpus, split into training and validation. Making a corpus
 * takes several; that all of them see the same text is checked at the end of each.
 */
#ifndef ATTAR_DATASETS_PASS_H
#define ATTAR_DATASETS_PASS_H

#include <stdbool.h>
#include <stdint.h>

#include <xxhash.h>

#include "datasets/corpus_build.h"
#include "datasets/inputs.h"
#include "datasets/source.h"
#include "datasets/split.h"

/* What the first reading finds. */
struct pass_total {
    bool known; /* false in the first reading */
    int64_t documents, bytes, pairs;
    XXH128_hash_t hash;   /* of all bytes */
    enum split_mode mode; /* hash becomes tail where there are few documents */
};

struct pass {
    struct source *source;
    struct split split;
    struct pass_total now;
    const struct pass_total *before;
    XXH3_state_t *state;
    const struct corpus_progress *progress;
    const char *what;
    int64_t shown;
};

/* How documents are cut and lines read. */
struct source_spec pass_source(const struct corpus_spec *spec);

/* Starts a reading; `before` is what the first one found, or has .known = false. -1 with err(). */
int pass_open(struct pass *p, const struct inputs *in, const struct corpus_spec *spec,
              const struct pass_total *before, const struct corpus_progress *progress,
              const char *what);

/* As split_next(). At the end p->now is complete. */
int pass_next(struct pass *p, struct document *doc, bool *valid);

void pass_close(struct pass *p); /* harmless on a zeroed one */

#endif
