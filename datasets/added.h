/* Finding added tokens (control and user tokens of a vocabulary) in text. */
#ifndef ATTAR_DATASETS_ADDED_H
#define ATTAR_DATASETS_ADDED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "datasets/vocab.h"

struct added {
    int32_t *id; /* n of them, by first byte, the longer first */
    size_t n, cap;
    size_t first[257];   /* where in `id` those of a first byte start; [256]: n           */
    size_t common[256];  /* bytes that all tokens of that first byte begin with           */
    int only_first_byte; /* that of all tokens, or -1                                     */
};

/* Collects the added tokens of v, but for those that are found behind normalization. 0 or -1. */
int added_index(struct added *a, const struct vocab *v);

/* The leftmost, then longest added token in s [n]: its id, and where it starts in *at; -1 if there
   is none (*at = n). Control tokens count only if `control`. */
int32_t added_next(const struct added *a, const struct vocab *v, bool control, const char *s,
                   size_t n, size_t *at);

void added_free(struct added *a);

#endif
