/* Batches for the model out of a corpus: n windows of T tokens as rows, their positions, targets,
   and, unless documents are joined, a sequence for each document's part and one for what fills up
   the window. */
#ifndef ATTAR_EXPERIMENTS_FEED_H
#define ATTAR_EXPERIMENTS_FEED_H

#include "datasets/loader.h"
#include "layers/transformer.h"

struct feed {
    struct loader *loader;
    int64_t T, most;             /* tokens of a window; windows of a batch at most */
    bool apart;                  /* documents are not joined */
    int32_t *tok, *pos, *target; /* [most * T] */
    uint64_t *row_id;
    struct sequence *seqs;
    struct batch batch; /* of the last feed_fill() */
};

/* Owns the arrays, not the loader. 0, or -1 with err() set. */
int feed_init(struct feed *f, struct loader *loader, int64_t T, int64_t most);
void feed_free(struct feed *f);

/* Makes f->batch (and f->target) of windows [first, first + n), n <= most. 0 or -1. */
int feed_fill(struct feed *f, int64_t first, int64_t n);

/* Mean loss over the windows [0, windows) of a validation feed, in batches of f->most. ctx does not
   record. 0; -1 with err() set; 1: *stop was set. */
int feed_evaluate(struct feed *f, struct transformer *m, struct ctx *ctx, int64_t windows,
                  const char *label, struct loss *loss);

#endif
