/*
 * Out of memory: one message, no unfinished file, exit status 1.
 *
 * What the program itself asks for in large pieces (mem.h) may fail and is said with its place.
 * Small requests may not, above all libraries': HDF5 1.10 recurses without end when its error stack
 * gets no memory, libcrypto's SHA takes a NULL context, OpenMP's runtime and jansson go on with a
 * part. So the program stands before the C library's allocator and ends where any of them would get
 * NULL. That is as safe as a kill, after which a run goes on where its last checkpoint was.
 *
 * It is not part of libattar.a: another program's allocator is that program's own.
 */
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "autograd/base/aside.h"
#include "autograd/base/mem.h"

#if defined __has_feature
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define OWN_ALLOCATOR
#endif
#endif
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__ || !defined __GLIBC__
#define OWN_ALLOCATOR /* a sanitizer's, or a C library whose allocator cannot be asked for */
#endif

#ifndef OWN_ALLOCATOR

static void *passed(void *p, size_t n)
{
    if (p || !n || mem_may_fail)
        return p;
    char text[80];
    const int length =
        snprintf(text, sizeof text, "attar: out of memory: %zu bytes are not to be had\n", n);
    if (write(STDERR_FILENO, text, (size_t)length) < 0)
        _exit(1); // there is no other way to say it
    aside_remove_all();
    _exit(1);
}

/* The allocator behind this one: the C library's, or one that LD_PRELOAD puts before it. Looking
   for it may allocate: glibc's own names serve until it is found. */
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);

static void *(*next_malloc)(size_t) = __libc_malloc;
static void *(*next_calloc)(size_t, size_t) = __libc_calloc;
static void *(*next_realloc)(void *, size_t) = __libc_realloc;
static void *(*next_memalign)(size_t, size_t) = __libc_memalign;

static void find(void *next, const char *name)
{
    void *const found = dlsym(RTLD_NEXT, name);
    if (found)
        *(void **)next = found;
}

__attribute__((constructor(101))) static void find_next(void)
{
    find(&next_malloc, "malloc");
    find(&next_calloc, "calloc");
    find(&next_realloc, "realloc");
    find(&next_memalign, "aligned_alloc");
}

void *malloc(size_t n)
{
    return passed(next_malloc(n), n);
}

void *calloc(size_t n, size_t size)
{
    return passed(next_calloc(n, size), n && size ? n * size : 0);
}

void *realloc(void *p, size_t n)
{
    return passed(next_realloc(p, n), n);
}

void *aligned_alloc(size_t align, size_t n)
{
    return passed(next_memalign(align, n), n);
}

void *memalign(size_t align, size_t n)
{
    return passed(next_memalign(align, n), n);
}

int posix_memalign(void **out, size_t align, size_t n)
{
    void *p = passed(next_memalign(align, n), n);
    if (p || !n)
        *out = p;
    return p || !n ? 0 : ENOMEM;
}

#endif
