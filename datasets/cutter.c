#define PCRE2_CODE_UNIT_WIDTH 8

#include "datasets/cutter.h"

#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/mem.h"

enum cutter_kind { CUT_BLANK, CUT_NONE, CUT_PATTERN };

struct cutter {
    enum cutter_kind kind;
    pcre2_code *code;
    pcre2_match_data *match;
    pcre2_match_context *limits;
};

static int compile(struct cutter *c, const char *pattern)
{
    int error;
    size_t at;
    const uint32_t options = PCRE2_MULTILINE | PCRE2_UTF | PCRE2_MATCH_INVALID_UTF;
    c->code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, options, &error, &at, NULL);
    if (!c->code) {
        unsigned char text[160] = "";
        pcre2_get_error_message(error, text, sizeof text);
        return err("split_on: `%s`, at character %zu: %s", pattern, at, (const char *)text);
    }
    c->match = pcre2_match_data_create_from_pattern(c->code, NULL);
    c->limits = pcre2_match_context_create(NULL);
    if (!c->match || !c->limits)
        return err("out of memory");
    // a pattern that backtracks without end becomes an error
    pcre2_set_match_limit(c->limits, 10000000);
    pcre2_set_heap_limit(c->limits, 64 << 10);
    return 0;
}

int cutter_new(struct cutter **out, const char *split_on)
{
    struct cutter *c = mem_new(1, sizeof *c);
    if (!c)
        return -1;
    if (split_on && !*split_on) {
        free(c);
        return err("split_on: is empty; blank, none or a pattern is wanted");
    }
    if (!split_on || !strcmp(split_on, "blank"))
        c->kind = CUT_BLANK;
    else if (!strcmp(split_on, "none"))
        c->kind = CUT_NONE;
    else
        c->kind = CUT_PATTERN;
    if (c->kind == CUT_PATTERN && compile(c, split_on)) {
        cutter_free(c);
        return -1;
    }
    *out = c;
    return 0;
}

void cutter_free(struct cutter *c)
{
    if (!c)
        return;
    pcre2_match_context_free(c->limits);
    pcre2_match_data_free(c->match);
    pcre2_code_free(c->code);
    free(c);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f';
}

static bool is_space(char c)
{
    return is_blank(c) || c == '\n';
}

/* A line end with blank lines after it, or with nothing but white space up to the end. */
static int find_blank(const char *s, size_t n, size_t *scan, bool end, size_t *start, size_t *stop)
{
    for (const char *nl; (nl = memchr(s + *scan, '\n', n - *scan)); *scan = (size_t)(nl - s) + 1) {
        size_t at = (size_t)(nl - s) + 1, line = at;
        while (line < n && is_space(s[line])) {
            if (s[line++] == '\n')
                at = line;
        }
        if (line == n && !end) {
            *scan = (size_t)(nl - s);
            return 0;
        }
        if (line == n)
            at = n;
        if (line < n && at == (size_t)(nl - s) + 1)
            continue;
        *start = (size_t)(nl - s);
        if (*start && s[*start - 1] == '\r')
            --*start;
        *stop = at;
        return 1;
    }
    *scan = n;
    return 0;
}

static int find_pattern(struct cutter *c, const char *s, size_t n, size_t from, size_t *scan,
                        bool end, size_t *start, size_t *stop)
{
    if (*scan >= n && !end)
        return 0;
    const uint32_t partial = end ? 0 : PCRE2_PARTIAL_HARD;
    // an empty match at the document's own start separates nothing
    const uint32_t options = partial | (*scan == from ? PCRE2_NOTEMPTY_ATSTART : 0);
    const int r = pcre2_match(c->code, (PCRE2_SPTR)s, n, *scan, options, c->match, c->limits);
    const size_t *at = pcre2_get_ovector_pointer(c->match);
    if (r > 0 && at[0] >= *scan && at[1] >= at[0]) {
        *start = at[0];
        *stop = at[1];
        return 1;
    }
    if (r == PCRE2_ERROR_PARTIAL) {
        *scan = at[0] > *scan ? at[0] : *scan;
        return 0;
    }
    if (r == PCRE2_ERROR_NOMATCH) {
        // the last character may be half of one, or the end that `$` did not see
        size_t again = n - from > 4 ? n - 4 : from;
        while (again > from && ((unsigned char)s[again] & 0xc0) == 0x80)
            again--;
        if (again > *scan)
            *scan = again;
        return 0;
    }
    if (r > 0)
        return err("split_on: the pattern matches backwards (\\K in a lookaround)");
    unsigned char text[160] = "";
    pcre2_get_error_message(r, text, sizeof text);
    return err("split_on: %s; a simpler pattern is needed", (const char *)text);
}

int cutter_find(struct cutter *c, const char *s, size_t n, size_t from, size_t *scan, bool end,
                size_t *start, size_t *stop)
{
    if (c->kind == CUT_NONE) {
        *scan = n;
        return 0;
    }
    if (c->kind == CUT_BLANK)
        return find_blank(s, n, scan, end, start, stop);
    return find_pattern(c, s, n, from, scan, end, start, stop);
}

size_t cutter_piece(const char *s, size_t n, size_t most)
{
    size_t any = 0;
    for (size_t i = most; i > most / 2; i--) {
        if (s[i - 1] != '\n')
            continue;
        if (!any)
            any = i;
        // one line end between two letters: a token of its own for every pre-tokenizer we have
        if (i > 1 && i < n && !is_space(s[i - 2]) && !is_space(s[i]))
            return i;
    }
    if (any)
        return any;
    size_t cut = most;
    while (cut > 1 && most - cut < 4 && cut < n && ((unsigned char)s[cut] & 0xc0) == 0x80)
        cut--;
    return cut;
}
