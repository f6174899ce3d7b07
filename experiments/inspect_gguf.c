#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/mem.h"
#include "compress/gguf.h"
#include "experiments/inspect.h"

enum { ELEMENTS = 64 }; /* of a list that are looked at for the line */

/* "[a, b, c, ...": more than `room` columns are cut by the caller */
static void print_value(struct buf *value, const struct gguf_pair *p)
{
    struct cursor c = {.base = p->data, .size = p->bytes};
    char number[32];
    const uint64_t shown = p->n < ELEMENTS ? p->n : ELEMENTS;
    if (p->list)
        buf_text(value, "[");
    for (uint64_t i = 0; i < shown && value->n < 4 * INSPECT_WIDTH; i++) {
        const struct gguf_string s = gguf_text(p, &c, number);
        const bool quoted = p->list && p->kind == GGUF_TEXT;
        if (i)
            buf_text(value, ", ");
        if (quoted)
            buf_text(value, "\"");
        buf_add(value, s.s, s.n < 4 * INSPECT_WIDTH ? s.n : 4 * INSPECT_WIDTH);
        if (quoted)
            buf_text(value, "\"");
    }
    if (p->list)
        buf_text(value, shown < p->n ? ", ..." : "]");
}

static void print_pair(struct buf *out, const struct gguf_pair *p)
{
    enum { KEY = 42, KIND = 16 };
    struct buf value = {0}, kind = {0};
    if (p->list)
        buf_printf(&kind, "%s x %llu", gguf_kind_name(p->kind), (unsigned long long)p->n);
    else
        buf_text(&kind, gguf_kind_name(p->kind));
    print_value(&value, p);
    const size_t start = out->n;
    inspect_text(out, p->key.s, p->key.n, KEY);
    buf_printf(out, "%*s", (int)(KEY - (out->n - start < KEY ? out->n - start : KEY)), "");
    buf_printf(out, " %-*s ", KIND, kind.p ? kind.p : "");
    const size_t used = KEY + 2 + (kind.n > KIND ? kind.n : KIND);
    if (value.p)
        inspect_text(out, value.p, value.n, INSPECT_WIDTH - used);
    buf_text(out, "\n");
    out->failed = out->failed || value.failed || kind.failed;
    buf_free(&value);
    buf_free(&kind);
}

static void print_shape(char *text, size_t n, const struct gguf_tensor *t)
{
    size_t at = 0;
    for (int i = 0; i < t->nd && at < n; i++)
        at += (size_t)snprintf(text + at, n - at, i ? " x %llu" : "%llu",
                               (unsigned long long)t->dim[i]);
}

static int print_tensors(struct buf *out, const struct gguf *g)
{
    struct inspect_tensor *row = mem_new(g->n_tensors, sizeof *row);
    if (!row)
        return -1;
    for (size_t i = 0; i < g->n_tensors; i++) {
        const struct gguf_tensor *t = &g->tensor[i];
        row[i] = (struct inspect_tensor){.name = t->name.s,
                                         .name_n = t->name.n,
                                         .bytes = t->type ? (double)t->bytes : NAN};
        print_shape(row[i].shape, sizeof row[i].shape, t);
        if (t->type)
            snprintf(row[i].type, sizeof row[i].type, "%s", t->type->name);
        else
            snprintf(row[i].type, sizeof row[i].type, "#%u", t->type_id);
    }
    inspect_tensors(out, row, g->n_tensors);
    free(row);
    return 0;
}

int inspect_gguf(const char *path, struct buf *out)
{
    struct gguf g;
    double elements = 0, known = 0, bytes = 0;
    struct buf size = {0};
    if (gguf_open(&g, path))
        return -1;
    for (size_t i = 0; i < g.n_tensors; i++) {
        elements += (double)g.tensor[i].numel;
        known += g.tensor[i].type ? (double)g.tensor[i].numel : 0;
        bytes += (double)g.tensor[i].bytes;
    }
    inspect_file_bytes(&size, (double)gguf_size(&g));
    inspect_line(out, "GGUF", "version %u, %s, alignment %u", g.version, size.p ? size.p : "",
                 g.alignment);
    if (g.n_parts)
        inspect_line(out, "parts", "%d files, read as one", g.n_parts + 1);
    inspect_line(out, "tensors", "%zu with %.0f elements%s", g.n_tensors, elements,
                 g.n_tensors ? "" : " (metadata alone)");
    if (known > 0)
        inspect_line(out, "bits", "%.3f per element", 8 * bytes / known);
    inspect_line(out, "metadata", "%zu pairs\n", g.n_pairs);
    for (size_t i = 0; i < g.n_pairs; i++)
        print_pair(out, &g.pair[i]);
    int rc = 0;
    if (g.n_tensors) {
        buf_text(out, "\n");
        rc = print_tensors(out, &g);
    }
    buf_free(&size);
    gguf_close(&g);
    return rc;
}
