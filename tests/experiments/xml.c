#include "tests/experiments/xml.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "autograd/base/utf8.h"

enum { DEPTH = 64, NAME = 64, ATTRIBUTES = 16 };

struct cursor {
    const char *p, *begin, *end;
    char open[DEPTH][NAME];
    int depth;
};

static char message[200];

static bool wrong(const struct cursor *c, const char *what)
{
    const int left = c->end - c->p < 40 ? (int)(c->end - c->p) : 40;
    snprintf(message, sizeof message, "byte %zu: %s: %.*s", (size_t)(c->p - c->begin), what, left,
             c->p);
    return false;
}

static bool starts(const struct cursor *c, const char *s)
{
    const size_t n = strlen(s);
    return (size_t)(c->end - c->p) >= n && !memcmp(c->p, s, n);
}

static bool name(struct cursor *c, char out[NAME])
{
    int n = 0;
    while (c->p < c->end && (isalnum((unsigned char)*c->p) || strchr("-_:", *c->p)) && n < NAME - 1)
        out[n++] = *c->p++;
    out[n] = 0;
    return n ? true : wrong(c, "a name expected");
}

static bool entity(struct cursor *c)
{
    static const char *const known[] = {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (starts(c, known[i])) {
            c->p += strlen(known[i]);
            return true;
        }
    return wrong(c, "unknown entity");
}

/* One character of text or of a value. */
static bool character(struct cursor *c)
{
    uint32_t code;
    if (*c->p == '&')
        return entity(c);
    if (*c->p == '<')
        return wrong(c, "a bare <");
    const size_t n = utf8_decode(c->p, (size_t)(c->end - c->p), &code);
    if (!n)
        return wrong(c, "not UTF-8");
    if ((code < 0x20 && code != '\n' && code != '\t') || code == 0x7f || (code & 0xfffe) == 0xfffe)
        return wrong(c, "a control character");
    if (starts(c, "]]>"))
        return wrong(c, "]]>");
    c->p += n;
    return true;
}

static bool attributes(struct cursor *c)
{
    char seen[ATTRIBUTES][NAME];
    int n = 0;
    for (;;) {
        const char *before = c->p;
        while (c->p < c->end && isspace((unsigned char)*c->p))
            c->p++;
        if (c->p == c->end || *c->p == '>' || *c->p == '/')
            return true;
        if (c->p == before || n == ATTRIBUTES)
            return wrong(c, "attributes are not apart, or too many");
        if (!name(c, seen[n]))
            return false;
        for (int i = 0; i < n; i++)
            if (!strcmp(seen[i], seen[n]))
                return wrong(c, "an attribute twice");
        n++;
        if (!starts(c, "=\""))
            return wrong(c, "no quoted value");
        for (c->p += 2; c->p < c->end && *c->p != '"';)
            if (!character(c))
                return false;
        if (c->p++ == c->end)
            return wrong(c, "a value without end");
    }
}

static bool tag(struct cursor *c)
{
    char n[NAME];
    const bool closing = c->p[1] == '/';
    c->p += closing ? 2 : 1;
    if (!name(c, n))
        return false;
    if (closing) {
        if (!c->depth || strcmp(c->open[c->depth - 1], n))
            return wrong(c, "an end tag that closes nothing");
        c->depth--;
        if (!starts(c, ">"))
            return wrong(c, "> expected");
        c->p++;
        return true;
    }
    if (!attributes(c))
        return false;
    const bool empty = starts(c, "/>");
    if (!empty && !starts(c, ">"))
        return wrong(c, "> expected");
    c->p += empty ? 2 : 1;
    if (empty)
        return true;
    if (c->depth == DEPTH)
        return wrong(c, "too deep");
    strcpy(c->open[c->depth++], n);
    return true;
}

const char *xml_check(const char *s, size_t n)
{
    struct cursor c = {.p = s, .begin = s, .end = s + n};
    bool content = false;
    if (starts(&c, "<!DOCTYPE html>\n"))
        c.p += 16;
    while (c.p < c.end) {
        if (!c.depth && content && *c.p != '\n') {
            wrong(&c, "something behind the end");
            return message;
        }
        const bool ok = *c.p == '<' ? tag(&c) : character(&c);
        if (!ok)
            return message;
        content = true;
    }
    if (!c.depth)
        return NULL;
    snprintf(message, sizeof message, "<%s> is not closed", c.open[c.depth - 1]);
    return message;
}
