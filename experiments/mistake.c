#include "experiments/mistake.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/mem.h"
#include "autograd/base/utf8.h"

enum { MISTAKES_MAX = 1000, TEXT_MAX = 1024 };

/* A message is one line of clean text, whatever it quotes. */
static void clean(char *s)
{
    const size_t n = strlen(s);
    for (size_t i = 0, len; i < n; i += len) {
        uint32_t c;
        len = utf8_decode(s + i, n - i, &c);
        if (!len || c < 0x20 || c == 0x7f) {
            len = 1;
            s[i] = '?';
        }
    }
}

void mistake_add(struct mistakes *m, struct place at, const char *fmt, ...)
{
    char text[TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    clean(text);
    if (m->n == MISTAKES_MAX) {
        m->dropped++;
        return;
    }
    char *copy = mem_text(text, strlen(text));
    if (!copy || mem_grow(&m->list, &m->cap, m->n + 1, sizeof *m->list)) {
        free(copy);
        m->failed = true;
        return;
    }
    m->list[m->n] = (struct mistake){.at = at, .order = (int)m->n, .text = copy};
    m->n++;
}

bool mistake_any(const struct mistakes *m)
{
    return m->n || m->failed;
}

static int compare(const void *pa, const void *pb)
{
    const struct mistake *a = pa, *b = pb;
    const int key[][2] = {{a->at.override, b->at.override},
                          {a->at.line, b->at.line},
                          {a->at.column, b->at.column},
                          {a->order, b->order}};
    for (size_t i = 0; i < sizeof key / sizeof key[0]; i++)
        if (key[i][0] != key[i][1])
            return key[i][0] < key[i][1] ? -1 : 1;
    return 0;
}

void mistake_print(struct mistakes *m, size_t max, struct buf *out)
{
    if (m->n)
        qsort(m->list, m->n, sizeof *m->list, compare);
    const size_t start = out->n;
    for (size_t i = 0; i < m->n; i++) {
        const struct mistake *x = &m->list[i];
        const size_t line = strlen(x->text) + strlen(m->file) + 40;
        if (i && out->n - start + line > max) {
            buf_printf(out, "\n... and %zu more", m->n - i + m->dropped);
            return;
        }
        buf_text(out, i ? "\n" : "");
        if (x->at.override)
            buf_printf(out, "override %d: %s", x->at.override, x->text);
        else
            buf_printf(out, "%s:%d:%d: %s", m->file, x->at.line, x->at.column, x->text);
    }
    if (m->dropped)
        buf_printf(out, "\n... and %zu more", m->dropped);
    if (m->failed)
        buf_printf(out, "%sout of memory", m->n ? "\n" : "");
}

void mistake_free(struct mistakes *m)
{
    for (size_t i = 0; i < m->n; i++)
        free(m->list[i].text);
    free(m->list);
    *m = (struct mistakes){.file = m->file};
}
