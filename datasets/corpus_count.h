/* What a corpus would be made of, by one reading: no tokenizer is learnt, nothing is written. */
#ifndef ATTAR_DATASETS_CORPUS_COUNT_H
#define ATTAR_DATASETS_CORPUS_COUNT_H

#include "datasets/corpus_build.h"
#include "datasets/tokenizer.h"

enum corpus_counted {
    CORPUS_COUNTED,
    CORPUS_REMOTE, /* it is fetched first, or comes from standard input: nothing is known */
    CORPUS_LARGE,  /* its files are there; reading them would take too long */
};

struct corpus_count {
    int64_t file_bytes;   /* of the files */
    int64_t pairs;        /* documents that are a prompt and a completion */
    int64_t bytes[2];     /* of text, by enum corpus_side */
    int64_t documents[2]; /* likewise */
    int64_t shortest[2];  /* bytes of the shortest prompt; texts have none, of 0 */
};

/* Finds the files and, if they have at most `most` bytes, reads all of their documents as a build
   would: what is wrong with a line is found. enum corpus_counted, or -1 with err() set. */
int corpus_count(const struct corpus_spec *spec, int64_t most, struct corpus_count *n);

/* Has each part, by its count, a text or a pair whose prompt leaves room for a completion in a
   window of T tokens? Where the shortest prompt is no proof, all are encoded. fits[2], by enum
   corpus_side; 0, or -1 with err() set. */
int corpus_count_fits(const struct corpus_spec *spec, const struct corpus_count *n,
                      const struct tokenizer *t, int64_t T, bool fits[2]);

#endif
