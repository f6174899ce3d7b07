#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/field.h"
#include "autograd/base/number.h"
#include "autograd/base/utf8.h"

/* Read back as this very text from a YAML plain scalar, also inside [ ] and { }? */
static bool plain(const char *s)
{
    static const char *const special[] = {"null", "Null", "NULL", "~", "-", "---", "...", NULL};
    for (int i = 0; special[i]; i++)
        if (!strcmp(s, special[i]))
            return false;
    const size_t n = strlen(s);
    static const char safe[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/+-~";
    return n && n == strspn(s, safe);
}

void field_print_text(const char *s, struct buf *out)
{
    if (plain(s)) {
        buf_text(out, s);
        return;
    }
    const size_t n = strlen(s);
    buf_text(out, "\"");
    for (size_t i = 0, len; i < n; i += len) {
        uint32_t c;
        len = utf8_decode(s + i, n - i, &c);
        if (!len) {
            len = 1;
            buf_text(out, "\\ufffd");
        } else if (c == '"' || c == '\\') {
            buf_printf(out, "\\%c", (int)c);
        } else if (c == '\n') {
            buf_text(out, "\\n");
        } else if (c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029 ||
                   c == 0xfeff || (c & 0xfffe) == 0xfffe) {
            buf_printf(out, c > 0xffff ? "\\U%08x" : "\\u%04x", (unsigned)c);
        } else {
            buf_add(out, s + i, len);
        }
    }
    buf_text(out, "\"");
}

void field_print(const struct field *f, const void *base, struct buf *out)
{
    const void *m = (const char *)base + f->offset;
    switch (f->type) {
    case FIELD_BOOL:
        buf_text(out, *(const bool *)m ? "true" : "false");
        return;
    case FIELD_INT:
        buf_printf(out, "%" PRId64, *(const int64_t *)m);
        return;
    case FIELD_FLOAT:
        number_print(*(const double *)m, out);
        return;
    case FIELD_SHARE: {
        const struct share s = *(const struct share *)m;
        if (s.relative)
            number_print_percent(s.value, out);
        else
            buf_printf(out, "%" PRId64, (int64_t)s.value);
        return;
    }
    case FIELD_ENUM:
        buf_text(out, f->names[*(const int *)m]);
        return;
    case FIELD_TEXT:
        field_print_text(*(const char *const *)m ? *(const char *const *)m : "", out);
        return;
    case FIELD_INTS: {
        const struct ints *list = m;
        if (list->n != 1)
            buf_text(out, "[");
        for (int i = 0; i < list->n; i++)
            buf_printf(out, "%s%" PRId64, i ? ", " : "", list->value[i]);
        if (list->n != 1)
            buf_text(out, "]");
        return;
    }
    case FIELD_TEXTS: {
        const struct texts *list = m;
        if (list->n != 1)
            buf_text(out, "[");
        for (int i = 0; i < list->n; i++) {
            buf_text(out, i ? ", " : "");
            field_print_text(list->value[i], out);
        }
        if (list->n != 1)
            buf_text(out, "]");
        return;
    }
    case FIELD_MAP:
        break;
    }
    BUG("%s is a map", f->name);
}

static void print_name(const struct field *f, struct buf *out)
{
    static const char *const types[] = {
        [FIELD_BOOL] = "true or false",
        [FIELD_INT] = "whole number",
        [FIELD_FLOAT] = "number",
        [FIELD_SHARE] = "share (5%) or count",
        [FIELD_TEXT] = "text",
        [FIELD_INTS] = "whole number or a list of them",
        [FIELD_TEXTS] = "text or a list of texts",
        [FIELD_MAP] = "map",
    };
    if (f->type != FIELD_ENUM) {
        buf_text(out, types[f->type]);
        return;
    }
    for (int i = 0; f->names[i]; i++)
        buf_printf(out, "%s%s", i ? " | " : "", f->names[i]);
}

void field_print_range(const struct field *f, struct buf *out)
{
    if (isinf(f->max))
        buf_text(out, "at least ");
    number_print(f->min, out);
    if (!isinf(f->max)) {
        buf_text(out, " to ");
        number_print(f->max, out);
    }
}

void field_print_type(const struct field *f, struct buf *out)
{
    print_name(f, out);
    if (f->min != 0 || f->max != 0) {
        buf_text(out, ", ");
        field_print_range(f, out);
    }
}

void field_print_kind(const struct field *f, struct buf *out)
{
    field_print_type(f, out);
    if (f->flags & FIELD_REQUIRED)
        buf_text(out, "; required");
    else if (f->def)
        buf_printf(out, "; default %s", *f->def ? f->def : "empty");
    else if (f->type != FIELD_MAP && !strstr(f->doc, "default"))
        buf_text(out, "; none by default");
    if (f->when) {
        const int n = (int)strcspn(f->when, "=");
        if (f->when[n])
            buf_printf(out, "; only with %.*s: %s", n, f->when, f->when + n + 1);
        else
            buf_printf(out, "; only with %s", f->when);
    }
    if (f->flags & FIELD_LIVE)
        buf_text(out, "; may change on resume");
}

void field_print_docs(const struct field *table, int indent, struct buf *out)
{
    for (const struct field *f = table; f->name; f++) {
        buf_printf(out, "%*s%-*s %s\n", indent, "", 20 - indent, f->name, f->doc);
        buf_printf(out, "%*s ", 20, "");
        field_print_kind(f, out);
        buf_text(out, "\n");
        if (f->type == FIELD_MAP)
            field_print_docs(f->fields, indent + 2, out);
    }
}
