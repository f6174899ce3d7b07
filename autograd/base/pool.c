#include "autograd/base/pool.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/mem.h"

enum { CHUNK = 4096 };

struct pool_chunk {
    struct pool_chunk *before;
    size_t used, cap;
    alignas(max_align_t) char bytes[];
};

void *pool_new(struct pool *p, size_t n, size_t size)
{
    const size_t align = alignof(max_align_t);
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes) || bytes > PTRDIFF_MAX / 2) {
        err("out of memory: %zu x %zu bytes", n, size);
        return NULL;
    }
    bytes = (bytes + align - 1) / align * align;
    struct pool_chunk *c = p->last;
    if (!c || c->cap - c->used < bytes) {
        const size_t cap = bytes > CHUNK ? bytes : CHUNK;
        c = mem_new(1, sizeof *c + cap);
        if (!c)
            return NULL;
        *c = (struct pool_chunk){.before = p->last, .cap = cap};
        p->last = c;
    }
    void *at = c->bytes + c->used;
    c->used += bytes;
    return at;
}

char *pool_text(struct pool *p, const char *s, size_t n)
{
    char *at = pool_new(p, n + 1, 1);
    if (at && n)
        memcpy(at, s, n);
    return at;
}

void pool_free(struct pool *p)
{
    for (struct pool_chunk *c = p->last, *before; c; c = before) {
        before = c->before;
        free(c);
    }
    p->last = NULL;
}
