#include "experiments/html.h"

#include <string.h>

#include "autograd/base/utf8.h"

static const char *entity(uint32_t code)
{
    switch (code) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '"':
        return "&quot;";
    case '\'':
        return "&#39;";
    }
    const bool control = (code < 0x20 && code != '\t' && code != '\n') ||
                         (code >= 0x7f && code < 0xa0) || (code & 0xfffe) == 0xfffe;
    return control ? "\xef\xbf\xbd" : NULL;
}

void html_text(struct buf *b, const char *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        uint32_t code;
        const size_t len = utf8_decode(s + i, n - i, &code);
        const char *e = len ? entity(code) : "\xef\xbf\xbd";
        if (e)
            buf_text(b, e);
        else
            buf_add(b, s + i, len);
        i += len ? len : 1;
    }
}

void html_string(struct buf *b, const char *s)
{
    if (s)
        html_text(b, s, strlen(s));
}
