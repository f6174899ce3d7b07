#include "autograd/base/arena.h"

#include <stdint.h>
#include <sys/mman.h>

#include "autograd/base/err.h"

static void *reserve(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

int arena_init(struct arena *a, size_t size)
{
    enum { LEAST = 1 << 28 }; // of a measuring arena
    *a = (struct arena){0};
    if (size > SIZE_MAX / 2)
        return err("out of memory: cannot reserve %zu bytes of address space", size);
    if (size) {
        size = (size + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN; // the high end is aligned too
        a->base = reserve(size);
        a->size = size;
    } else {
        // valgrind, sanitizers and `ulimit -v` grant less: take the largest there is
        for (a->size = (size_t)1 << 40; a->size >= LEAST; a->size /= 2)
            if ((a->base = reserve(a->size)))
                break;
    }
    if (!a->base)
        return err("out of memory: cannot reserve %zu bytes of address space (is there a limit, "
                   "`ulimit -v`?)",
                   size ? size : (size_t)LEAST);
    // large pages matter for a real arena; a measuring one touches a cache line here and there
    if (size)
        (void)madvise(a->base, a->size, MADV_HUGEPAGE);
    return 0;
}

void arena_free(struct arena *a)
{
    if (a->base)
        munmap(a->base, a->size);
    *a = (struct arena){0};
}

static int grow(struct arena *a, size_t *end, size_t bytes)
{
    const size_t used = a->lo + a->hi;
    if (bytes > SIZE_MAX - ARENA_ALIGN)
        return -1;
    bytes = (bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    if (bytes > a->size - used)
        return -1;
    *end += bytes;
    if (a->lo + a->hi > a->peak)
        a->peak = a->lo + a->hi;
    return 0;
}

void *arena_push_lo(struct arena *a, size_t bytes)
{
    const size_t at = a->lo;
    return grow(a, &a->lo, bytes) ? NULL : a->base + at;
}

void *arena_push_hi(struct arena *a, size_t bytes)
{
    return grow(a, &a->hi, bytes) ? NULL : a->base + a->size - a->hi;
}

void arena_pop_lo(struct arena *a, size_t lo)
{
    if (lo > a->lo)
        BUG("arena_pop_lo: %zu is above %zu", lo, a->lo);
    a->lo = lo;
}

void arena_pop_hi(struct arena *a, size_t hi)
{
    if (hi > a->hi)
        BUG("arena_pop_hi: %zu is above %zu", hi, a->hi);
    a->hi = hi;
}
