#include "experiments/inspect.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "autograd/base/utf8.h"

/* One character of s [n], shown at `out`: its bytes in *used, its columns returned. */
static size_t show(const char *s, size_t n, size_t *used, char out[8])
{
    static const char plain[] = "\n\r\t", letter[] = "nrt";
    uint32_t code;
    const char *special = memchr(plain, *s, sizeof plain - 1);
    *used = utf8_decode(s, n, &code);
    if (special && *s)
        return (size_t)snprintf(out, 8, "\\%c", letter[special - plain]);
    // C1 controls and the marks that turn text around can hide what a terminal shows
    const bool hides =
        *used && (code < ' ' || (code >= 0x7f && code < 0xa0) ||
                  (code >= 0x200b && code <= 0x200f) || (code >= 0x2028 && code <= 0x202e) ||
                  (code >= 0x2060 && code <= 0x206f) || code == 0xfeff);
    if (*used && hides && code > 0xff)
        return (size_t)snprintf(out, 8, "\\u%04x", code);
    if (!*used || hides) {
        if (!*used)
            code = (unsigned char)*s, *used = 1;
        return (size_t)snprintf(out, 8, "\\x%02x", code);
    }
    memcpy(out, s, *used);
    out[*used] = 0;
    return 1;
}

void inspect_text(struct buf *out, const char *s, size_t n, size_t most)
{
    size_t columns = 0, cut = out->n, used;
    char shown[8];
    for (size_t i = 0; i < n; i += used) {
        const size_t width = show(s + i, n - i, &used, shown);
        if (columns + width > most) {
            if (cut <= out->n && out->p) {
                out->n = cut;
                out->p[cut] = 0;
            }
            buf_text(out, "...");
            return;
        }
        if (columns + width <= most - 3)
            cut = out->n + strlen(shown);
        buf_text(out, shown);
        columns += width;
    }
}

void inspect_line(struct buf *out, const char *label, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    buf_printf(out, "%-14s %s\n", label, text);
}

void inspect_bytes(struct buf *out, double bytes)
{
    static const char *const unit[] = {"B", "kB", "MB", "GB", "TB"};
    size_t i = 0;
    if (isnan(bytes)) {
        buf_text(out, "?");
        return;
    }
    for (; i < 4 && bytes >= 999.5; i++)
        bytes /= 1000;
    buf_printf(out, i && bytes < 99.95 ? "%.1f %s" : "%.0f %s", bytes, unit[i]);
}

void inspect_file_bytes(struct buf *out, double bytes)
{
    inspect_bytes(out, bytes);
    if (bytes >= 999.5)
        buf_printf(out, " (%.0f bytes)", bytes);
}

/* Columns of text that may hold characters of several bytes. */
static size_t columns(const struct buf *b, size_t from)
{
    size_t n = 0;
    for (size_t i = from; i < b->n; i++)
        n += ((unsigned char)b->p[i] & 0xc0) != 0x80;
    return n;
}

static void pad(struct buf *out, size_t from, size_t width)
{
    for (size_t have = columns(out, from); have < width; have++)
        buf_text(out, " ");
}

void inspect_tensors(struct buf *out, const struct inspect_tensor *row, size_t n)
{
    enum { TYPE = 8, BYTES = 8, GAPS = 6, LEAST = 20 };
    size_t name = 4, shape = 5;
    for (size_t i = 0; i < n; i++) {
        name = row[i].name_n > name ? row[i].name_n : name;
        shape = strlen(row[i].shape) > shape ? strlen(row[i].shape) : shape;
    }
    const size_t most = INSPECT_WIDTH - LEAST - TYPE - BYTES - GAPS;
    shape = shape > most ? most : shape;
    const size_t room = INSPECT_WIDTH - shape - TYPE - BYTES - GAPS;
    name = name > room ? room : name;
    buf_printf(out, "%-*s  %*s  %-*s  %*s\n", (int)name, "tensor", (int)shape, "shape", TYPE,
               "type", BYTES, "bytes");
    for (size_t i = 0; i < n && !out->failed; i++) {
        struct buf bytes = {0};
        const size_t start = out->n;
        inspect_bytes(&bytes, row[i].bytes);
        inspect_text(out, row[i].name, row[i].name_n, name);
        pad(out, start, name);
        buf_printf(out, "  %*.*s  %-*s  %*s\n", (int)shape, (int)shape, row[i].shape, TYPE,
                   row[i].type, BYTES, bytes.p ? bytes.p : "");
        buf_free(&bytes);
    }
}
