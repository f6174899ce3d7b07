#include "datasets/bytelevel.h"

#include <stdbool.h>

#include "autograd/base/utf8.h"

/* The bytes that do not print: 0x00-0x20, 0x7f-0xa0 and the soft hyphen, 68 of them. */
enum { FIRST_CODE = 0x100, CONTROLS = 0x21, UPPER = 0x7f, UPPER_END = 0xa1, SOFT_HYPHEN = 0xad };

uint32_t bytelevel_code(uint8_t byte)
{
    if (byte < CONTROLS)
        return FIRST_CODE + byte;
    if (byte >= UPPER && byte < UPPER_END)
        return FIRST_CODE + CONTROLS + (byte - UPPER);
    if (byte == SOFT_HYPHEN)
        return FIRST_CODE + CONTROLS + (UPPER_END - UPPER);
    return byte;
}

static bool byte_of(uint32_t code, char *byte)
{
    if (code < FIRST_CODE) {
        *byte = (char)code;
        return bytelevel_code((uint8_t)code) == code;
    }
    code -= FIRST_CODE;
    if (code > CONTROLS + (UPPER_END - UPPER))
        return false;
    if (code < CONTROLS)
        *byte = (char)code;
    else if (code < CONTROLS + (UPPER_END - UPPER))
        *byte = (char)(code - CONTROLS + UPPER);
    else
        *byte = (char)SOFT_HYPHEN;
    return true;
}

void bytelevel_encode(struct buf *out, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char utf8[4];
        buf_add(out, utf8, utf8_encode(bytelevel_code((uint8_t)s[i]), utf8));
    }
}

long bytelevel_decode(const char *text, size_t n, char *out)
{
    long bytes = 0;
    for (size_t i = 0; i < n; bytes++) {
        uint32_t code;
        const size_t len = utf8_decode(text + i, n - i, &code);
        if (!len || !byte_of(code, out + bytes))
            return -1;
        i += len;
    }
    return bytes;
}
