#include "autograd/base/mem.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "autograd/base/err.h"

_Thread_local bool mem_may_fail;

static long fail_at;

void mem_fail_at(long k)
{
    fail_at = k;
}

static int refused(size_t n, size_t size, size_t *bytes)
{
    if (__builtin_mul_overflow(n, size, bytes) || *bytes > PTRDIFF_MAX)
        return err("out of memory: %zu x %zu bytes", n, size);
    if (fail_at > 0 && --fail_at == 0)
        return err("out of memory: %zu bytes", *bytes);
    return 0;
}

void *mem_new(size_t n, size_t size)
{
    size_t bytes;
    if (refused(n, size, &bytes))
        return NULL;
    mem_may_fail = bytes >= MEM_MAY_FAIL;
    void *p = calloc(bytes ? bytes : 1, 1);
    mem_may_fail = false;
    if (!p)
        err("out of memory: %zu bytes", bytes);
    return p;
}

int mem_grow(void *p, size_t *cap, size_t need, size_t size)
{
    void **array = p;
    size_t bytes;
    if (need <= *cap)
        return 0;
    size_t next = *cap + *cap / 2;
    if (next < need)
        next = need;
    if (next < 16)
        next = 16;
    if (refused(next, size, &bytes))
        return -1;
    mem_may_fail = bytes >= MEM_MAY_FAIL;
    void *q = realloc(*array, bytes);
    mem_may_fail = false;
    if (!q)
        return err("out of memory: %zu bytes", bytes);
    memset((char *)q + *cap * size, 0, bytes - *cap * size);
    *array = q;
    *cap = next;
    return 0;
}

char *mem_text(const char *s, size_t n)
{
    char *p = mem_new(n + 1, 1);
    if (p && n)
        memcpy(p, s, n);
    return p;
}

enum { HUGE_PAGE = 2 << 20 };

/* By all threads: the kernel makes each page at its first touch. */
static void zero_pages(char *p, size_t bytes)
{
#pragma omp parallel for schedule(static)
    for (size_t at = 0; at < bytes; at += HUGE_PAGE)
        memset(p + at, 0, HUGE_PAGE);
}

void *mem_slab(size_t n, size_t size)
{
    size_t bytes;
    if (refused(n, size, &bytes))
        return NULL;
    const size_t align = bytes >= HUGE_PAGE ? HUGE_PAGE : 64;
    bytes = (bytes + align) / align * align;
    mem_may_fail = bytes >= MEM_MAY_FAIL;
    void *p = aligned_alloc(align, bytes);
    mem_may_fail = false;
    if (!p) {
        err("out of memory: %zu bytes", bytes);
        return NULL;
    }
    if (align == 64)
        return memset(p, 0, bytes);
    (void)madvise(p, bytes, MADV_HUGEPAGE); // a hint: nothing to do where it is refused
    zero_pages(p, bytes);
    return p;
}
