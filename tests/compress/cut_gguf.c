#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/file.h"
#include "compress/gguf_write.h"
#include "tests/compress/cut_gguf.h"

/* The writer takes no half models, neither their metadata nor their names: the keys are written
   with another letter, which is put right in the bytes of the file. */
static void mend_keys(const char *from, const char *to)
{
    static const char wrong[] = "Split.", right[] = "split.";
    struct buf b = {0};
    assert_int_equal(file_read(from, 1 << 30, &b), 0);
    for (char *p = b.p; (p = memmem(p, b.n - (size_t)(p - b.p), wrong, sizeof wrong - 1));)
        memcpy(p, right, sizeof right - 1);
    assert_int_equal(file_replace(to, b.p, b.n), 0);
    remove(from);
    buf_free(&b);
}

static void put(struct gguf_write *w, const struct cut_gguf *c, const char *key,
                enum gguf_kind kind, uint64_t x)
{
    if (!c->leave || strcmp(c->leave + 1, key + 1))
        gguf_write_number(w, key, kind, &x);
}

static void declare(struct gguf_write *w, const struct gguf_tensor *t)
{
    char name[GGUF_NAME];
    snprintf(name, sizeof name, "%.*s", (int)t->name.n, t->name.s);
    gguf_write_tensor(w, name, t->type, t->nd, t->dim);
}

/* Tensors [from, to) of g, and `more` (NULL: none). */
static void write_part(const struct gguf *g, const struct cut_gguf *c, int i, size_t from,
                       size_t to, const struct gguf_tensor *more, const char *path)
{
    struct gguf_write w = {0};
    const bool last = i == c->parts - 1;
    char raw[4200];
    for (size_t k = 0; !i && k < g->n_pairs; k++)
        gguf_write_pair(&w, &g->pair[k]);
    if (last && c->name)
        gguf_write_text(&w, "general.name", c->name);
    put(&w, c, "Split.no", GGUF_U16, (uint64_t)(last && c->no ? c->no : i));
    put(&w, c, "Split.count", GGUF_U16, (uint64_t)c->parts);
    put(&w, c, "Split.tensors.count", GGUF_I32,
        last && c->tensors ? (uint64_t)c->tensors : g->n_tensors);
    for (size_t k = from; k < to; k++)
        declare(&w, &g->tensor[k]);
    if (more)
        declare(&w, more);
    snprintf(raw, sizeof raw, "%.4190s.raw", path);
    int rc = gguf_write_open(&w, raw);
    for (size_t k = from; k < to && !rc; k++)
        rc = gguf_write_data(&w, g->tensor[k].data, g->tensor[k].bytes);
    if (rc || (more && gguf_write_data(&w, more->data, more->bytes)) || gguf_write_commit(&w))
        fail_msg("%s", err_text());
    mend_keys(raw, path);
}

void cut_gguf(const char *whole, const char *stem, const struct cut_gguf *c)
{
    struct gguf g;
    if (gguf_open(&g, whole))
        fail_msg("%s", err_text());
    const size_t parts = (size_t)(c->parts - c->bare_first);
    for (int i = 0; i < c->parts; i++) {
        const size_t at = (size_t)(i - c->bare_first), n = g.n_tensors;
        const bool bare = c->bare_first && !i, last = i == c->parts - 1;
        const size_t from = bare ? 0 : n * at / parts, to = bare ? 0 : n * (at + 1) / parts;
        write_part(&g, c, i, from, to - (last && (c->less || c->twice)),
                   last && c->twice ? &g.tensor[0] : NULL, cut_gguf_path(stem, i, c->parts));
    }
    gguf_close(&g);
}

const char *cut_gguf_path(const char *stem, int i, int parts)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s-%05d-of-%05d.gguf", stem, i + 1, parts);
    return path;
}
