#include "autograd/base/once.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

enum { KNOWN = 64, TEXT_BYTES = 4096 };

void once_warn(const char *fmt, ...)
{
    static uint64_t known[KNOWN]; // FNV-1a of each text
    static int n;
    char text[TEXT_BYTES];
    uint64_t hash = 0xcbf29ce484222325u;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    for (const char *p = text; *p; p++)
        hash = (hash ^ (unsigned char)*p) * 0x100000001b3u;
    for (int i = 0; i < n; i++)
        if (known[i] == hash)
            return;
    if (n < KNOWN)
        known[n++] = hash;
    err_warn("%s", text);
}
