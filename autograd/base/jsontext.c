#include "autograd/base/jsontext.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/buf.h"
#include "autograd/base/err.h"

enum { LONGEST = 512 /* bytes of a number that may still be within range */ };

static const char mark[] = "\xef\xbb\xbf";
static const char marker[] = "{\"not a number\": true}";

/* Behind the text that starts at s[i]; n: it does not end. */
static size_t text_end(const char *s, size_t n, size_t i)
{
    for (i++; i < n && s[i] != '"'; i++)
        i += s[i] == '\\';
    return i < n ? i + 1 : n;
}

/* Bytes of what starts at s[0] and is no text: up to a blank or a sign that parts values. */
static size_t word_length(const char *s, size_t n)
{
    size_t k = 0;
    while (k < n && s[k] && !strchr(" \t\r\n,:[]{}\"", s[k]))
        k++;
    return k;
}

static bool is_one_of(const char *s, size_t n)
{
    static const char *const words[] = {"NaN", "Infinity", "-Infinity"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (n == strlen(words[i]) && !memcmp(s, words[i], n))
            return true;
    return false;
}

enum word { WORD_FINE, WORD_LONG, WORD_NONE };

/* What has to be done with a word: nothing, a number too long for 64 bits, no number at all. */
static enum word kind_of(const char *s, size_t n)
{
    char text[LONGEST];
    const size_t minus = *s == '-';
    if (is_one_of(s, n))
        return WORD_NONE;
    size_t whole = minus;
    while (whole < n && s[whole] >= '0' && s[whole] <= '9')
        whole++;
    if (whole == minus || (s[minus] == '0' && whole > minus + 1))
        return WORD_FINE; // no number: what jansson has to say
    if (n >= sizeof text)
        return whole == n ? WORD_NONE : WORD_FINE;
    memcpy(text, s, n);
    text[n] = 0;
    char *end;
    const double x = strtod(text, &end);
    if (*end)
        return WORD_FINE;
    errno = 0;
    (void)strtoll(text, NULL, 10);
    return isinf(x) ? WORD_NONE : whole == n && errno == ERANGE ? WORD_LONG : WORD_FINE;
}

/* The next word of s [n] from *at on that jansson cannot read: where it starts, with *len and
 *kind; n: there is none. */
static size_t next_word(const char *s, size_t n, size_t at, size_t *len, enum word *kind)
{
    while (at < n) {
        if (s[at] == '"') {
            at = text_end(s, n, at);
            continue;
        }
        *len = word_length(s + at, n - at);
        *kind = *len ? kind_of(s + at, *len) : WORD_FINE;
        if (*kind != WORD_FINE)
            return at;
        at += *len ? *len : 1;
    }
    return n;
}

/* s [n] with such words in a spelling that jansson reads; nothing is appended where there are none.
   0 or -1. */
static int respell(const char *s, size_t n, struct buf *out)
{
    enum word kind;
    size_t len, done = 0;
    for (size_t at = next_word(s, n, 0, &len, &kind); at < n;
         at = next_word(s, n, done, &len, &kind)) {
        buf_add(out, s + done, at - done);
        if (kind == WORD_NONE)
            buf_text(out, marker);
        else
            buf_add(out, s + at, len);
        if (kind == WORD_LONG)
            buf_text(out, "e0"); // a real number, the same
        done = at + len;
    }
    if (done)
        buf_add(out, s + done, n - done);
    return out->failed ? -1 : 0;
}

static size_t skip(const char *s, size_t n, size_t i, const char *what)
{
    while (i < n && s[i] && strchr(what, s[i]))
        i++;
    return i;
}

static json_t *parse(const char *s, size_t n, size_t flags, json_error_t *e)
{
    struct buf own = {0};
    if (n >= sizeof mark - 1 && !memcmp(s, mark, sizeof mark - 1)) {
        s += sizeof mark - 1;
        n -= sizeof mark - 1;
    }
    *e = (json_error_t){.line = 1, .text = "out of memory"};
    json_t *root = NULL;
    const size_t first = skip(s, n, 0, " \t\r\n"); // a word alone stays an error
    if (first >= n || !strchr("[{", s[first]) || !respell(s, n, &own))
        root = json_loadb(own.n ? own.p : s, own.n ? own.n : n, JSON_REJECT_DUPLICATES | flags, e);
    buf_free(&own);
    return root;
}

json_t *jsontext_parse(const char *s, size_t n, bool nul)
{
    json_error_t e;
    json_t *root = parse(s, n, nul ? JSON_ALLOW_NUL : 0, &e);
    if (!root)
        err("line %d, column %d: %s", e.line, e.column, e.text);
    return root;
}

json_t *jsontext_line(const char *s, size_t n)
{
    json_error_t e;
    json_t *root = parse(s, n, JSON_ALLOW_NUL, &e);
    if (!root)
        err("column %d: %s", e.column, e.text);
    return root;
}

/* Behind the value that starts at s[i]. */
static size_t value_end(const char *s, size_t n, size_t i)
{
    int depth = 0;
    if (s[i] != '{' && s[i] != '[')
        return s[i] == '"' ? text_end(s, n, i) : i + word_length(s + i, n - i);
    do {
        if (s[i] == '"') {
            i = text_end(s, n, i);
            continue;
        }
        depth += s[i] == '{' || s[i] == '[';
        depth -= s[i] == '}' || s[i] == ']';
        i++;
    } while (i < n && depth);
    return i;
}

const char *jsontext_member(const char *s, size_t n, const char *name, size_t *len)
{
    const size_t bytes = strlen(name);
    const char *object = memchr(s, '{', n);
    size_t i = object ? (size_t)(object - s) + 1 : n;
    while ((i = skip(s, n, i, " \t\r\n,")) < n && s[i] == '"') {
        const size_t key = i + 1, end = text_end(s, n, i);
        const size_t value = skip(s, n, end, " \t\r\n:");
        if (value >= n)
            return NULL;
        i = value_end(s, n, value);
        *len = i - value;
        if (end - 1 - key == bytes && !memcmp(s + key, name, bytes))
            return s + value;
    }
    return NULL;
}
