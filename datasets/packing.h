/*
 * Windows of whole documents: pairs side by side, none of them torn by the end of a window. What
 * stands in two windows would lose its prompt in the second.
 *
 * Documents stay in the corpus' order; a window takes as many as fit. A pair longer than the window
 * is cut, a text goes on in the next window. A pair whose prompt alone fills a window has nothing
 * to predict in it and is left out.
 */
#ifndef ATTAR_DATASETS_PACKING_H
#define ATTAR_DATASETS_PACKING_H

#include "datasets/corpus.h"

struct packing_window {
    int64_t at; /* its first token */
    int32_t n;  /* tokens to read, at most T; token at + n is the last to be predicted */
};

/* Zero-initialize. */
struct packing {
    struct packing_window *window; /* [windows] */
    int64_t windows;
    size_t cap;
    int64_t targets;       /* tokens that are predicted        */
    int64_t left_out, cut; /* pairs                            */
    int64_t first, length; /* number of the first pair that was left out, from 0; its tokens */
};

/* Of the documents that start at start [documents of the part]; T > 0. 0, or -1 with err() set. */
int packing_make(struct packing *p, const struct corpus *c, enum corpus_side side,
                 const int64_t *start, int T);
void packing_free(struct packing *p);

#endif
