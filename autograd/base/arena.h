/*
 * A two-ended stack of memory:
 *
 *     base                                                            base + size
 *     | lo: pushed by forward, popped by backward | free | hi: scratch, gradients |
 *
 * Address space is reserved at once; pages cost nothing until they are touched. So an arena that
 * only measures is this same arena with more address space than any machine has memory.
 */
#ifndef ATTAR_AUTOGRAD_BASE_ARENA_H
#define ATTAR_AUTOGRAD_BASE_ARENA_H

#include <stddef.h>

enum { ARENA_ALIGN = 64 }; /* bytes: every push starts on a cache line */

struct arena {
    char *base;
    size_t size; /* bytes reserved */
    size_t lo;   /* bytes in use at the low end */
    size_t hi;   /* bytes in use at the high end */
    size_t peak; /* largest lo + hi so far */
};

/* Reserves `size` bytes, or, for size 0, as much address space as the system grants (1 TiB or the
   next power of two below that): for measuring. 0 or -1 with err() set. */
int arena_init(struct arena *a, size_t size);
void arena_free(struct arena *a);

/* Uninitialized memory, aligned to ARENA_ALIGN. NULL if the arena is full. */
void *arena_push_lo(struct arena *a, size_t bytes);
void *arena_push_hi(struct arena *a, size_t bytes);

/* Pops back to an earlier value of a->lo or a->hi. */
void arena_pop_lo(struct arena *a, size_t lo);
void arena_pop_hi(struct arena *a, size_t hi);

#endif
