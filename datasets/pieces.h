/* A multiset of short byte strings: the distinct pieces of a text and how often each occurs. */
#ifndef ATTAR_DATASETS_PIECES_H
#define ATTAR_DATASETS_PIECES_H

#include <stddef.h>
#include <stdint.h>

struct piece {
    size_t at; /* of its bytes in `bytes` */
    uint32_t len;
    uint32_t hash; /* upper half of its hash: most unequal pieces differ here already */
    int64_t count;
};

/* Zero-initialize. */
struct pieces {
    struct piece *piece; /* n of them, in order of first occurrence */
    size_t n, cap;
    char *bytes;
    size_t n_bytes, cap_bytes;
    uint32_t *slot; /* hash table of index + 1, 0: empty */
    size_t n_slots;
};

/* Counts one more s [n]. The index of its piece, or -1 with err(). */
int64_t pieces_add(struct pieces *p, const char *s, size_t n);

void pieces_free(struct pieces *p);

#endif
