/* What BPE training knows of each pair of neighbouring tokens: how often it occurs, in which words,
   and which is the most frequent one. */
#ifndef ATTAR_DATASETS_PAIRS_H
#define ATTAR_DATASETS_PAIRS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pair {
    int32_t left, right;
    int64_t count;
    uint32_t words; /* index + 1 of its newest chunk of words, 0: none */
    bool grown;     /* since pairs_queue */
};

enum { PAIRS_CHUNK = 14 };

struct pairs_chunk {
    uint32_t word[PAIRS_CHUNK];
    uint32_t n, next; /* next: index + 1 of an older chunk, 0: none */
};

struct pairs_entry {
    int64_t count; /* the pair's when it was queued; it may have fallen since */
    uint32_t pair;
};

/* Zero-initialize. */
struct pairs {
    struct pair *pair; /* n of them, in order of first sight */
    size_t n, cap;
    uint32_t *slot; /* hash table of index + 1, 0: empty */
    size_t n_slots;
    struct pairs_chunk *chunk;
    size_t n_chunks, cap_chunks;
    uint32_t free_chunks; /* index + 1 of the first chunk to use again, 0: none */
    uint32_t *grown;      /* numbers of the pairs that have grown */
    size_t n_grown, cap_grown;
    struct pairs_entry *heap; /* best first */
    size_t n_heap, cap_heap;
};

/* Adds `by` occurrences (below 0: takes away) of the pair in the word. 0, or -1 with err(). */
int pairs_change(struct pairs *p, int32_t left, int32_t right, uint32_t word, int64_t by);

/* Puts the pairs that have grown since the last call into the queue. 0 or -1. */
int pairs_queue(struct pairs *p);

/* Takes the pair of the highest count out of the queue, of equal ones that of the lowest left,
   then right token; its words (in any order, some twice, some that no longer have it) are appended
   to word [*n]. Its count, or 0 if no pair is left, or -1 with err(). */
int64_t pairs_pop(struct pairs *p, int32_t *left, int32_t *right, uint32_t **word, size_t *n,
                  size_t *cap);

/* Sets the count of a known pair to 0: it has been replaced wherever it was. */
void pairs_forget(struct pairs *p, int32_t left, int32_t right);

void pairs_free(struct pairs *p);

#endif
