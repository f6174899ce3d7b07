#include "autograd/base/buf.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/mem.h"
#include "autograd/base/utf8.h"

static bool reserve(struct buf *b, size_t more)
{
    if (b->failed)
        return false;
    if (more >= SIZE_MAX - b->n || mem_grow(&b->p, &b->cap, b->n + more + 1, 1))
        b->failed = true;
    return !b->failed;
}

void buf_add(struct buf *b, const void *bytes, size_t n)
{
    if (!reserve(b, n))
        return;
    if (n)
        memcpy(b->p + b->n, bytes, n);
    b->n += n;
    b->p[b->n] = 0;
}

void buf_text(struct buf *b, const char *s)
{
    buf_add(b, s, strlen(s));
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    const int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0) // the C library had no memory for it
        b->failed = err("out of memory") < 0;
    if (n < 0 || !reserve(b, (size_t)n))
        return;
    va_start(ap, fmt);
    vsnprintf(b->p + b->n, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->n += (size_t)n;
}

void buf_json(struct buf *b, const char *s, size_t n)
{
    buf_text(b, "\"");
    for (size_t i = 0; i < n;) {
        uint32_t code;
        const size_t len = utf8_decode(s + i, n - i, &code);
        if (!len) {
            buf_text(b, "\\ufffd");
            i++;
            continue;
        }
        if (code == '"' || code == '\\')
            buf_printf(b, "\\%c", (int)code);
        else if (code == '\n')
            buf_text(b, "\\n");
        else if (code < 0x20 || code == 0x7f)
            buf_printf(b, "\\u%04x", (unsigned)code);
        else
            buf_add(b, s + i, len);
        i += len;
    }
    buf_text(b, "\"");
}

void buf_clear(struct buf *b)
{
    b->n = 0;
    b->failed = false;
    if (b->p)
        b->p[0] = 0;
}

void buf_free(struct buf *b)
{
    free(b->p);
    *b = (struct buf){0};
}
