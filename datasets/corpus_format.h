/* What the writer and the reader of a corpus agree on. */
#ifndef ATTAR_DATASETS_CORPUS_FORMAT_H
#define ATTAR_DATASETS_CORPUS_FORMAT_H

#include <stdio.h>

#include "datasets/corpus.h"

#define CORPUS_FORMAT "attar corpus"

enum { CORPUS_VERSION = 2, CORPUS_NAME = 32 };

static inline enum h5type corpus_token_type(int vocab_size)
{
    return vocab_size <= 65536 ? H5_U16 : H5_I32;
}

/* "train/tokens" */
static inline const char *corpus_name(char out[CORPUS_NAME], enum corpus_side side,
                                      const char *what)
{
    snprintf(out, CORPUS_NAME, "%s/%s", corpus_side_names[side], what);
    return out;
}

#endif
