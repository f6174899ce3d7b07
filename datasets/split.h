/*
 * Which text is for training and which for validation.
 *
 *   hash  a document is for validation if XXH3-64 of it (its first piece, its prompt included),
 *         seeded, lies in the lowest `fraction` of all values: equal documents fall on one side,
 *         and a document's side depends on no other
 *   tail  the last `fraction` of the bytes, cut at the first line end after that place (at the
 *         last one before it, if none follows in the last document); pairs are not cut
 */
#ifndef ATTAR_DATASETS_SPLIT_H
#define ATTAR_DATASETS_SPLIT_H

#include <stdbool.h>
#include <stdint.h>

#include "datasets/source.h"

enum split_mode { SPLIT_HASH, SPLIT_TAIL };

struct split {
    struct source *source;
    enum split_mode mode;
    double fraction; /* of validation, 0..1 */
    uint64_t seed;   /* hash */
    int64_t total;   /* tail: bytes of all documents */
    /* state, zero at first */
    int64_t at;           /* bytes handed out */
    bool valid;           /* side of the document under way */
    struct document rest; /* second half of a piece that was cut */
    bool has_rest;
};

/* As source_next(), and the side that the piece belongs to. */
int split_next(struct split *s, struct document *doc, bool *valid);

#endif
