/* A growing list of token ids. Zero-initialize. */
#ifndef ATTAR_DATASETS_TOKENS_H
#define ATTAR_DATASETS_TOKENS_H

#include <stddef.h>
#include <stdint.h>

struct tokens {
    int32_t *id; /* n of them; NULL while nothing was added */
    size_t n, cap;
};

/* Appends n ids. 0, or -1 with err() set and the list as it was. */
int tokens_add(struct tokens *t, const int32_t *id, size_t n);

void tokens_free(struct tokens *t);

#endif
