/*
 * Batches of tokens out of a corpus.
 *
 * A sample is a window of T + 1 tokens: T to read, and for each the next one to predict. Which
 * window sample i is, is a pure function of (corpus, T, seed, i): there is no state to save, any
 * sample can be had at any time, and the result depends neither on batch sizes nor on what was read
 * before.
 *
 *   shuffled    sample i belongs to epoch i / W. In an epoch every one of the W windows comes once,
 *               in an order of its own: a permutation by a Feistel network, without a table. The
 *               windows lie side by side and share only their end tokens; where the first one
 *               starts is drawn anew for every epoch, so that W is one less than would fit (but
 *               at least 1).
 *   sequential  the windows from the first token on, W in all, the last one filled up with ignored
 *               targets: every token but the first of the part is predicted exactly once.
 *
 * Documents may be joined (the window is all there is to see), masked (each sees itself alone, a
 * window may begin and end inside one), or whole: masked, and windows are those of packing.h,
 * filled up behind the last document; shuffled or in their order, they are the same in every epoch.
 *
 * Targets of -1 are to be ignored: what a mask excludes (prompts), what fills up a window and,
 * unless documents are joined, a document's first token, which nothing before it is to predict.
 *
 * A loader belongs to one thread. With prefetch, a thread of its own reads the batch that is likely
 * to be asked for next; results are the same.
 */
#ifndef ATTAR_DATASETS_LOADER_H
#define ATTAR_DATASETS_LOADER_H

#include <stdbool.h>
#include <stdint.h>

#include "datasets/corpus.h"
#include "datasets/packing.h"

enum { LOADER_IGNORED = -1 };

enum loader_documents { LOADER_JOINED, LOADER_MASKED, LOADER_WHOLE };

struct loader_spec {
    enum corpus_side side;
    bool shuffled; /* else sequential */
    enum loader_documents documents;
    bool prefetch;
    int context; /* T, tokens */
    uint64_t seed;
};

struct loader;

/* `c` outlives the loader. -1 with err() set, also if the part has not one whole window, or no
   token that is to be predicted. */
int loader_open(struct loader **out, const struct corpus *c, const struct loader_spec *spec);
void loader_close(struct loader *l); /* NULL is fine */

/* W: samples of an epoch. */
int64_t loader_windows(const struct loader *l);

/* Are documents masked or whole, and loader_starts() says where they start? */
bool loader_apart(const struct loader *l);

/* What became of whole documents; NULL if they are not whole. */
const struct packing *loader_packing(const struct loader *l);

/* The part of the text that all windows together predict: 1, but for pairs that are left out. */
double loader_share(const struct loader *l);

/* Tokens that sample i reads in earnest: T, less in the last window of a sequential loader and in
   those of whole documents. */
int loader_length(const struct loader *l, int64_t i);

/* Samples first .. first + n - 1: tok [n,T], target [n,T]. A sequential loader has W samples only.
   0 or -1 with err() set. */
int loader_batch(struct loader *l, int64_t first, int n, int32_t *tok, int32_t *target);

/* Where documents start in the window of sample i: increasing positions start [<= T], the first
   one always 0 (there a document starts or goes on). Their number. Not of joined documents. */
int loader_starts(const struct loader *l, int64_t i, int32_t *start);

#endif
