/* Memory that is released all at once: what a parsed file or a table of options points at. */
#ifndef ATTAR_AUTOGRAD_BASE_POOL_H
#define ATTAR_AUTOGRAD_BASE_POOL_H

#include <stddef.h>

struct pool_chunk;

/* Zero-initialize. Owns everything handed out, until pool_free(). */
struct pool {
    struct pool_chunk *last;
};

/* n * size zeroed bytes, aligned for any type; NULL with err() set if memory is short. */
void *pool_new(struct pool *p, size_t n, size_t size);

/* A copy of n bytes of s with a NUL behind them; NULL with err() set if memory is short. */
char *pool_text(struct pool *p, const char *s, size_t n);

void pool_free(struct pool *p);

#endif
