/* What a corpus will be, by a look at its text, without making it. */
#ifndef ATTAR_DATASETS_CORPUS_PEEK_H
#define ATTAR_DATASETS_CORPUS_PEEK_H

#include <stdbool.h>

#include "datasets/corpus_build.h"

/* Is there a pair among the first documents of a .jsonl of the corpus? What cannot be read, or
   would have to be fetched, has none. */
bool corpus_peek_pairs(const struct corpus_spec *spec);

#endif
