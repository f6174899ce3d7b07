#include "autograd/base/cursor.h"

#include <stdarg.h>
#include <stdio.h>

int cursor_fail(struct cursor *c, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    if (c->failed)
        return -1;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    c->failed = true;
    return err("byte %zu: %s", c->at, text);
}

size_t cursor_left(const struct cursor *c)
{
    return c->size - c->at;
}

const void *cursor_bytes(struct cursor *c, uint64_t n)
{
    if (c->failed)
        return NULL;
    if (n > cursor_left(c)) {
        cursor_fail(c, "%llu bytes should follow, %zu do", (unsigned long long)n, cursor_left(c));
        return NULL;
    }
    const unsigned char *p = c->base + c->at;
    c->at += (size_t)n;
    return p;
}

static uint64_t number(struct cursor *c, int bytes)
{
    const unsigned char *p = cursor_bytes(c, (uint64_t)bytes);
    uint64_t x = 0;
    for (int i = bytes - 1; p && i >= 0; i--)
        x = x << 8 | p[i];
    return x;
}

uint8_t cursor_u8(struct cursor *c)
{
    return (uint8_t)number(c, 1);
}

uint16_t cursor_u16(struct cursor *c)
{
    return (uint16_t)number(c, 2);
}

uint32_t cursor_u32(struct cursor *c)
{
    return (uint32_t)number(c, 4);
}

uint64_t cursor_u64(struct cursor *c)
{
    return number(c, 8);
}

uint64_t cursor_count(struct cursor *c, size_t each, uint64_t most, const char *what)
{
    const uint64_t n = cursor_u64(c);
    if (n <= most && n <= cursor_left(c) / each)
        return n;
    cursor_fail(c, "%llu %s do not fit into the %zu bytes that follow", (unsigned long long)n, what,
                cursor_left(c));
    return 0;
}
