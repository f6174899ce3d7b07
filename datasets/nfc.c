#include "datasets/nfc.h"

#include <stdlib.h>
#include <utf8proc.h>

#include "autograd/base/err.h"
#include "autograd/base/utf8.h"

bool nfc_quick(const char *s, size_t n)
{
    // what may compose or decompose again starts at U+0300: 0xcc 0x80
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s[i] >= 0xcc)
            return false;
    return true;
}

int nfc_text(const char *s, size_t n, struct buf *out)
{
    while (n) {
        const size_t valid = utf8_valid(s, n);
        if (valid) {
            utf8proc_uint8_t *composed = NULL;
            const utf8proc_ssize_t len =
                utf8proc_map((const utf8proc_uint8_t *)s, (utf8proc_ssize_t)valid, &composed,
                             UTF8PROC_STABLE | UTF8PROC_COMPOSE);
            if (len < 0)
                return err("cannot bring text into normalization form C: %s", utf8proc_errmsg(len));
            buf_add(out, composed, (size_t)len);
            free(composed);
        }
        const size_t bad = valid < n; // one byte that is no UTF-8, if the text goes on
        buf_add(out, s + valid, bad);
        s += valid + bad;
        n -= valid + bad;
    }
    return out->failed ? -1 : 0;
}
