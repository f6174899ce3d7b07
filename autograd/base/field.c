#include "autograd/base/field.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "autograd/base/err.h"
#include "autograd/base/number.h"
#include "autograd/base/spell.h"
#include "autograd/base/utf8.h"

enum { SHOWN = 40, SHARE_COUNT_BITS = 53 };

static const size_t sizes[] = {
    [FIELD_BOOL] = sizeof(bool),        [FIELD_INT] = sizeof(int64_t),
    [FIELD_FLOAT] = sizeof(double),     [FIELD_SHARE] = sizeof(struct share),
    [FIELD_ENUM] = sizeof(int),         [FIELD_TEXT] = sizeof(const char *),
    [FIELD_INTS] = sizeof(struct ints), [FIELD_TEXTS] = sizeof(struct texts),
};

static void *member(const struct field *f, void *base)
{
    return (char *)base + f->offset;
}

static const void *member_const(const struct field *f, const void *base)
{
    return (const char *)base + f->offset;
}

int64_t share_of(struct share s, int64_t total)
{
    return s.relative ? llround(s.value * (double)total) : (int64_t)s.value;
}

int64_t ints_at(const struct ints *list, int i)
{
    if (i < 0 || list->n < 1 || (list->n > 1 && i >= list->n))
        BUG("element %d of a list of %d", i, list->n);
    return list->value[list->n == 1 ? 0 : i];
}

const struct field *field_find(const struct field *table, const char *name)
{
    for (const struct field *f = table; f->name; f++)
        if (!strcmp(f->name, name))
            return f;
    return NULL;
}

static bool bounded(const struct field *f)
{
    return f->min != 0 || f->max != 0;
}

static int refused(const char *s, size_t n, const char *why)
{
    const size_t shown = utf8_valid(s, n < SHOWN ? n : SHOWN);
    return err("'%.*s%s' %s", (int)shown, s, shown < n ? "..." : "", why);
}

static int check_range(const struct field *f, double v, const char *s, size_t n)
{
    if (!bounded(f) || (v >= f->min && v <= f->max))
        return 0;
    struct buf why = {0};
    buf_text(&why, "is out of range (");
    field_print_range(f, &why);
    buf_text(&why, ")");
    refused(s, n, why.failed ? "is out of range" : why.p);
    buf_free(&why);
    return -1;
}

static int parse_int(const struct field *f, const char *s, size_t n, int64_t *out)
{
    int64_t v;
    if (number_int(s, n, &v) || check_range(f, (double)v, s, n))
        return -1;
    *out = v;
    return 0;
}

static bool is_fraction(const struct field *f)
{
    return bounded(f) && f->min >= 0 && f->max <= 1;
}

static int parse_float(const struct field *f, const char *s, size_t n, double *out)
{
    double v;
    bool percent;
    if (number_float(s, n, &v, is_fraction(f) ? &percent : NULL) || check_range(f, v, s, n))
        return -1;
    *out = v;
    return 0;
}

static int parse_share(const struct field *f, const char *s, size_t n, struct share *out)
{
    struct share v = {0};
    if (n && s[n - 1] == '%') {
        if (number_float(s, n, &v.value, &v.relative))
            return -1;
        if (v.value < 0 || v.value > 1)
            return refused(s, n, "is out of range (0% to 100%)");
    } else {
        int64_t count;
        if (number_int(s, n, &count))
            return err_in("neither a share (5%%) nor a count");
        if (count < 0 || count >> SHARE_COUNT_BITS)
            return refused(s, n, "is out of range");
        v.value = (double)count;
        if (check_range(f, v.value, s, n))
            return -1;
    }
    *out = v;
    return 0;
}

/* After a failure: adds the value that was probably meant to the error's text. */
static int suggest(const char *value)
{
    return err("%s; did you mean '%s'?", err_text(), value);
}

/* The number field f would take `text`: by its kind and range. */
static int parse_number(const struct field *f, const char *s, size_t n, void *out)
{
    return f->type == FIELD_FLOAT   ? parse_float(f, s, n, out)
           : f->type == FIELD_SHARE ? parse_share(f, s, n, out)
                                    : parse_int(f, s, n, out);
}

/* The same into a number of its own kind; what f refuses is refused with the value that was
   probably meant, if f takes that: 2K for 2k, and where a part is asked for 10% for .1 or 10. */
static int set_number(const struct field *f, const char *s, size_t n, void *out)
{
    union {
        int64_t count;
        double real;
        struct share share;
    } aside;
    struct buf near = {0};
    double v;
    if (!parse_number(f, s, n, out))
        return 0;
    char why[ERR_TEXT_MAX / 8];
    snprintf(why, sizeof why, "%s", err_text());
    const bool part = f->type == FIELD_SHARE || (f->type == FIELD_FLOAT && is_fraction(f));
    bool found = number_near(s, n, &near);
    if (!found && part && !number_float(s, n, &v, NULL) && v > 0 && v <= 100) {
        buf_clear(&near);
        number_print_percent(v < 1 ? v : v / 100, &near);
        found = !near.failed;
    }
    found = found && !parse_number(f, near.p, near.n, &aside);
    err("%s", why);
    if (found)
        suggest(near.p);
    buf_free(&near);
    return -1;
}

static int parse_bool(const char *s, size_t n, bool *out)
{
    static const char *const also[][2] = {{"yes", "no"}, {"on", "off"},     {"1", "0"},
                                          {"y", "n"},    {"true", "false"}, {"t", "f"}};
    const bool yes = n == 4 && !memcmp(s, "true", 4);
    if (yes || (n == 5 && !memcmp(s, "false", 5))) {
        *out = yes;
        return 0;
    }
    refused(s, n, "is neither true nor false");
    for (size_t i = 0; i < sizeof also / sizeof *also; i++)
        for (int k = 0; k < 2; k++)
            if (strlen(also[i][k]) == n && !strncasecmp(also[i][k], s, n))
                return suggest(k ? "false" : "true");
    return -1;
}

static int parse_enum(const struct field *f, const char *s, size_t n, int *out)
{
    for (int i = 0; f->names[i]; i++) {
        if (strlen(f->names[i]) == n && !memcmp(s, f->names[i], n)) {
            *out = i;
            return 0;
        }
    }
    char word[SHOWN + 1];
    snprintf(word, sizeof word, "%.*s", n < SHOWN ? (int)n : SHOWN, s);
    struct spell near = {.word = word};
    struct buf why = {0};
    buf_text(&why, "is none of ");
    for (int i = 0; f->names[i]; i++) {
        buf_printf(&why, "%s%s", i ? ", " : "", f->names[i]);
        spell_offer(&near, f->names[i]);
    }
    refused(s, n, why.failed ? "is not a known value" : why.p);
    buf_free(&why);
    return near.best ? suggest(near.best) : -1;
}

static int append_text(struct texts *list, const char *text, struct pool *pool)
{
    if (list->n >= TEXTS_MAX)
        return err("more than %d elements", TEXTS_MAX);
    if ((list->n & (list->n - 1)) == 0) { // room ends at the powers of two
        const char **more = pool_new(pool, list->n ? 2 * (size_t)list->n : 1, sizeof *more);
        if (!more)
            return -1;
        if (list->n)
            memcpy(more, list->value, (size_t)list->n * sizeof *more);
        list->value = more;
    }
    list->value[list->n++] = text;
    return 0;
}

int field_append(const struct field *f, void *base, const char *text, size_t n, struct pool *pool)
{
    if (f->type == FIELD_INTS) {
        struct ints *list = member(f, base);
        int64_t v;
        if (list->n >= INTS_MAX)
            return err("more than %d elements", INTS_MAX);
        if (set_number(f, text, n, &v))
            return -1;
        list->value[list->n++] = v;
        return 0;
    }
    if (f->type == FIELD_TEXTS) {
        const char *copy = pool_text(pool, text, n);
        return copy ? append_text(member(f, base), copy, pool) : -1;
    }
    BUG("%s takes no list", f->name);
}

int field_set(const struct field *f, void *base, const char *text, size_t n, struct pool *pool)
{
    void *m = member(f, base);
    switch (f->type) {
    case FIELD_BOOL:
        return parse_bool(text, n, m);
    case FIELD_INT:
    case FIELD_FLOAT:
    case FIELD_SHARE:
        return set_number(f, text, n, m);
    case FIELD_ENUM:
        return parse_enum(f, text, n, m);
    case FIELD_TEXT: {
        const char *copy = pool_text(pool, text, n);
        if (copy)
            *(const char **)m = copy;
        return copy ? 0 : -1;
    }
    case FIELD_INTS: {
        struct ints *list = m;
        int64_t v;
        if (set_number(f, text, n, &v))
            return -1;
        list->n = 1;
        list->value[0] = v;
        return 0;
    }
    case FIELD_TEXTS: {
        struct texts one = {0};
        const char *copy = pool_text(pool, text, n);
        if (!copy || append_text(&one, copy, pool))
            return -1;
        *(struct texts *)m = one;
        return 0;
    }
    case FIELD_MAP:
        break;
    }
    BUG("%s is a map", f->name);
}

void field_clear(const struct field *f, void *base)
{
    memset(member(f, base), 0, sizes[f->type]);
}

int field_default(const struct field *f, void *base, struct pool *pool)
{
    if (f->type == FIELD_MAP) {
        for (const struct field *in = f->fields; in->name; in++)
            if (field_default(in, member(f, base), pool))
                return -1;
        return 0;
    }
    field_clear(f, base);
    return f->def ? field_set(f, base, f->def, strlen(f->def), pool) : 0;
}

static bool is_zero(const struct field *f, const void *base)
{
    const void *m = member_const(f, base);
    switch (f->type) {
    case FIELD_BOOL:
        return !*(const bool *)m;
    case FIELD_INT:
        return *(const int64_t *)m == 0;
    case FIELD_FLOAT:
        return *(const double *)m == 0;
    case FIELD_SHARE:
        return ((const struct share *)m)->value == 0;
    case FIELD_ENUM:
        return *(const int *)m == 0;
    case FIELD_TEXT:
        return !*(const char *const *)m;
    case FIELD_INTS:
        return ((const struct ints *)m)->n == 0;
    case FIELD_TEXTS:
        return ((const struct texts *)m)->n == 0;
    case FIELD_MAP:
        break;
    }
    return false;
}

bool field_absent(const struct field *f, const void *base)
{
    const bool can_be = f->type != FIELD_MAP && f->type != FIELD_ENUM && f->type != FIELD_BOOL;
    return can_be && !f->def && !(f->flags & FIELD_REQUIRED) && is_zero(f, base);
}

bool field_condition(const struct field *table, const struct field *f, const struct field **on,
                     const char **values)
{
    if (!f->when)
        return false;
    const size_t n = strcspn(f->when, "=");
    *values = f->when[n] ? f->when + n + 1 : "";
    for (*on = table; (*on)->name; ++*on)
        if (strlen((*on)->name) == n && !memcmp((*on)->name, f->when, n))
            return true;
    BUG("%s depends on an unknown field: %s", f->name, f->when);
}

bool field_applies(const struct field *table, const struct field *f, const void *base)
{
    const struct field *on;
    const char *values;
    if (!field_condition(table, f, &on, &values))
        return true;
    if (!*values)
        return !is_zero(on, base);
    if (on->type != FIELD_ENUM)
        BUG("%s: only an enum has values to depend on", f->when);
    const char *name = on->names[*(const int *)member_const(on, base)];
    for (size_t n; *values; values += n + (values[n] == '|')) {
        n = strcspn(values, "|");
        if (strlen(name) == n && !memcmp(name, values, n))
            return true;
    }
    return false;
}
