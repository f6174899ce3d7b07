/* Files: a model in one, or in parts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/file.h"
#include "autograd/base/mem.h"
#include "compress/gguf_meta.h"

/* One file, whatever its place among others is. */
static int read_file(struct gguf *g, const char *path)
{
    const void *p;
    size_t n;
    *g = (struct gguf){0};
    if (file_map(path, &p, &n))
        return -1;
    if (gguf_read(g, p, n)) {
        file_unmap(p, n);
        return err_in("%s", path);
    }
    g->mapped = true;
    return 0;
}

/* ---- parts ---- */

/* The end of a part's name; SUFFIX bytes with numbers of five digits, and others cannot be. */
static const char suffix_format[] = "-%05d-of-%05d.gguf";
enum { SUFFIX = 20, PARTS = 65535 /* split.count is a u16 */ };

/* What a file says about the parts of its model. */
struct split {
    int64_t no, count; /* count 0: these are not parts (merged again), 1: all is here */
    int64_t tensors;   /* of all parts */
};

/* rc of gguf_meta_int() for a key without which parts cannot be put together. */
static int needed(int rc, const char *key)
{
    return rc > 0 ? err("metadata '%s' is missing", key) : rc;
}

static int read_split(const struct gguf *g, struct split *s)
{
    *s = (struct split){.tensors = (int64_t)g->n_tensors};
    if (gguf_meta_int(g, "split.count", 0, PARTS, &s->count) < 0)
        return -1;
    if (!s->count)
        return 0;
    const int no = gguf_meta_int(g, "split.no", 0, s->count - 1, &s->no);
    const int tensors = gguf_meta_int(g, "split.tensors.count", 0, INT64_MAX, &s->tensors);
    if (no < 0 || tensors < 0)
        return -1;
    if (s->count > 1)
        return needed(no, "split.no") || needed(tensors, "split.tensors.count") ? -1 : 0;
    return s->tensors == (int64_t)g->n_tensors
               ? 0
               : err("the file has %zu tensors, by split.tensors.count there are %lld",
                     g->n_tensors, (long long)s->tensors);
}

int gguf_parse(struct gguf *g, const void *bytes, size_t n)
{
    struct split s;
    if (gguf_read(g, bytes, n))
        return -1;
    int rc = read_split(g, &s);
    if (!rc && s.count > 1)
        rc = err("part %lld of %lld, which means nothing without the others", (long long)s.no + 1,
                 (long long)s.count);
    if (rc)
        gguf_close(g);
    return rc;
}

/* A part says what the first one says: of the split, and of all else that both speak about. */
static int check_part(const struct gguf *first, const struct gguf *g, int i, const struct split *of)
{
    struct split s;
    if (read_split(g, &s))
        return -1;
    if (s.no != i || s.count != of->count || s.tensors != of->tensors)
        return err("by its metadata it is part %lld of %lld with %lld tensors in all; part %d of "
                   "%lld with %lld is expected",
                   (long long)s.no + 1, (long long)s.count, (long long)s.tensors, i + 1,
                   (long long)of->count, (long long)of->tensors);
    for (size_t k = 0; k < g->n_pairs; k++) {
        static const char split[] = "split.";
        const struct gguf_pair *p = &g->pair[k], *q = NULL;
        char key[GGUF_NAME]; // longer ones say nothing of a model
        if (p->key.n >= sizeof key || !memcmp(p->key.s, split, sizeof split - 1))
            continue;
        memcpy(key, p->key.s, p->key.n);
        key[p->key.n] = 0;
        q = strcmp(key, "general.alignment") ? gguf_find(first, key) : NULL;
        if (q && (q->kind != p->kind || q->bytes != p->bytes || memcmp(q->data, p->data, p->bytes)))
            return err("metadata '%s' is not what it is in part 1: a part of another model", key);
    }
    return 0;
}

/* Makes one of the parts all [n], whose maps it takes over: the first, with the tensors of all. */
static int join(struct gguf *g, struct gguf *all, int n, const struct split *s)
{
    size_t sum = 0;
    for (int i = 0; i < n; i++)
        sum += all[i].n_tensors;
    if (sum != (size_t)s->tensors)
        return err("the %d parts have %zu tensors, by split.tensors.count there are %lld", n, sum,
                   (long long)s->tensors);
    struct gguf_tensor *table = mem_new(sum, sizeof *table);
    if (!table)
        return -1;
    sum = 0;
    for (int i = 0; i < n; i++)
        for (size_t k = 0; k < all[i].n_tensors; k++)
            table[sum++] = all[i].tensor[k];
    if (gguf_check_unique(table, sum, sizeof *table, "tensor")) {
        free(table);
        return -1;
    }
    *g = all[0];
    free(g->tensor);
    g->tensor = table;
    g->n_tensors = sum;
    memmove(all, all + 1, (size_t)(n - 1) * sizeof *all);
    g->part = all;
    g->n_parts = n - 1;
    return 0;
}

static void put_part_path(struct buf *name, const char *path, int i, int n)
{
    buf_printf(name, "%.*s", (int)strlen(path) - SUFFIX, path);
    buf_printf(name, suffix_format, i + 1, n);
}

/* Opens the other parts of a model of which g is one. */
static int open_parts(struct gguf *g, const char *path, const struct split *s)
{
    const int n = (int)s->count;
    struct buf name = {0};
    struct gguf *all = mem_new((size_t)n, sizeof *all);
    if (!all)
        return -1;
    all[s->no] = *g;
    *g = (struct gguf){0};
    int rc = 0;
    for (int i = 0; i < n && !rc; i++) {
        buf_clear(&name);
        put_part_path(&name, path, i, n);
        rc = name.failed || (i != s->no && read_file(&all[i], name.p)) ? -1 : 0;
        if (!rc && check_part(&all[0], &all[i], i, s))
            rc = err_in("%s", name.p);
        if (rc)
            err_in("part %d of %d", i + 1, n);
    }
    rc = rc ? rc : join(g, all, n, s);
    buf_free(&name);
    for (int i = 0; i < n && rc; i++)
        gguf_close(&all[i]);
    if (rc)
        free(all);
    return rc;
}

static int check_suffix(const char *path, const struct split *s)
{
    char want[SUFFIX + 1];
    const size_t n = strlen(path);
    snprintf(want, sizeof want, suffix_format, (int)(s->no + 1), (int)s->count);
    return n > SUFFIX && !strcmp(path + n - SUFFIX, want)
               ? 0
               : err("by its metadata it is part %lld of %lld: its name has to end in %s, so that "
                     "the others can be found",
                     (long long)s->no + 1, (long long)s->count, want);
}

int gguf_open(struct gguf *g, const char *path)
{
    struct split s;
    if (read_file(g, path))
        return -1;
    int rc = read_split(g, &s);
    if (!rc && s.count > 1)
        rc = check_suffix(path, &s) || open_parts(g, path, &s) ? -1 : 0;
    if (!rc)
        return 0;
    gguf_close(g);
    return err_in("%s", path);
}

uint64_t gguf_size(const struct gguf *g)
{
    uint64_t n = g->size;
    for (int i = 0; i < g->n_parts; i++)
        n += g->part[i].size;
    return n;
}

int gguf_path(const struct gguf *g, const char *path, int i, struct buf *name)
{
    buf_clear(name);
    if (g->n_parts)
        put_part_path(name, path, i, g->n_parts + 1);
    else
        buf_text(name, path);
    return name->failed ? -1 : 0;
}
