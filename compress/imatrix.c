#include "compress/imatrix.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/cursor.h"
#include "autograd/base/file.h"
#include "autograd/base/mem.h"
#include "compress/gguf_meta.h"
#include "compress/gguf_write.h"

static const char SUM[] = ".in_sum2", COUNT[] = ".counts";

/* ---- entries ---- */

static struct imatrix_entry *add(struct imatrix *m, const char *name, size_t n, int64_t cols,
                                 int64_t mats)
{
    if (mem_grow(&m->entry, &m->cap, m->n + 1, sizeof *m->entry))
        return NULL;
    struct imatrix_entry *e = &m->entry[m->n];
    *e = (struct imatrix_entry){.name = pool_text(&m->pool, name, n),
                                .cols = cols,
                                .mats = mats,
                                .sum = pool_new(&m->pool, (size_t)(cols * mats), sizeof *e->sum),
                                .count = pool_new(&m->pool, (size_t)mats, sizeof *e->count)};
    if (!e->name || !e->sum || !e->count)
        return NULL;
    m->n++;
    return e;
}

struct imatrix_entry *imatrix_add(struct imatrix *m, const char *name, int64_t cols)
{
    return add(m, name, strlen(name), cols, 1);
}

static int add_dataset(struct imatrix *m, const char *name, size_t n)
{
    if (mem_grow(&m->dataset, &m->cap_datasets, m->n_datasets + 1, sizeof *m->dataset))
        return -1;
    m->dataset[m->n_datasets] = pool_text(&m->pool, name, n);
    return m->dataset[m->n_datasets] ? (m->n_datasets++, 0) : -1;
}

int imatrix_add_dataset(struct imatrix *m, const char *name)
{
    return add_dataset(m, name, strlen(name));
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct imatrix_entry *)a)->name, ((const struct imatrix_entry *)b)->name);
}

const struct imatrix_entry *imatrix_find(const struct imatrix *m, const char *name)
{
    const struct imatrix_entry key = {.name = name};
    return m->n ? bsearch(&key, m->entry, m->n, sizeof *m->entry, by_name) : NULL;
}

static int finish_entry(const struct imatrix_entry *e)
{
    for (int64_t k = 0; k < e->mats; k++) {
        const float count = e->count[k];
        if (!isfinite(count) || count < 0)
            return err("'%.80s': a count of %g", e->name, (double)count);
        for (int64_t i = k * e->cols; i < (k + 1) * e->cols; i++) {
            if (!isfinite(e->sum[i]) || e->sum[i] < 0)
                return err("'%.80s': value %lld is %g, no mean of squares", e->name, (long long)i,
                           (double)e->sum[i]);
        }
    }
    return 0;
}

void imatrix_mean(const struct imatrix_entry *e, float *mean)
{
    for (int64_t k = 0; k < e->mats; k++)
        for (int64_t i = k * e->cols; i < (k + 1) * e->cols; i++)
            mean[i] = e->count[k] > 0 ? e->sum[i] / e->count[k] : 1;
}

int imatrix_finish(struct imatrix *m)
{
    if (m->n)
        qsort(m->entry, m->n, sizeof *m->entry, by_name);
    for (size_t i = 0; i < m->n; i++) {
        if (i && !strcmp(m->entry[i - 1].name, m->entry[i].name))
            return err("'%.80s' is there twice", m->entry[i].name);
        if (finish_entry(&m->entry[i]))
            return -1;
    }
    return 0;
}

void imatrix_free(struct imatrix *m)
{
    free(m->entry);
    free(m->dataset);
    pool_free(&m->pool);
    *m = (struct imatrix){0};
}

/* ---- GGUF ---- */

static bool ends_in(const struct gguf_string *s, const char *end)
{
    const size_t n = strlen(end);
    return s->n > n && !memcmp(s->s + s->n - n, end, n);
}

static int read_gguf_pairs(struct imatrix *m, const struct gguf *g)
{
    const struct gguf_pair *list = NULL;
    int64_t chunks = 0, size = 0;
    char number[32];
    const int rc = gguf_meta_list(g, "imatrix.datasets", GGUF_TEXT, 0, &list);
    if (rc < 0 || gguf_meta_int(g, "imatrix.chunk_count", 0, UINT32_MAX, &chunks) < 0 ||
        gguf_meta_int(g, "imatrix.chunk_size", 0, UINT32_MAX, &size) < 0)
        return -1;
    m->chunks = (uint32_t)chunks;
    m->chunk_size = (uint32_t)size;
    struct cursor c = {.base = list ? list->data : NULL, .size = list ? list->bytes : 0};
    for (uint64_t i = 0; list && i < list->n; i++) {
        const struct gguf_string s = gguf_text(list, &c, number);
        if (add_dataset(m, s.s, s.n))
            return -1;
    }
    return 0;
}

static int wrong(const struct gguf *g, const struct gguf_tensor *t, const char *why)
{
    return err("byte %zu: tensor '%.*s': %s", g->data + (size_t)t->offset, (int)t->name.n,
               t->name.s, why);
}

/* The sums of one weight; how many matrices they are is not known yet. */
static int read_sums(struct imatrix *m, const struct gguf *g, const struct gguf_tensor *t)
{
    if (!t->type || t->type->id)
        return wrong(g, t, "sums have to be F32");
    struct imatrix_entry *e = add(m, t->name.s, t->name.n - (sizeof SUM - 1), (int64_t)t->dim[0],
                                  (int64_t)(t->numel / t->dim[0]));
    if (e)
        memcpy(e->sum, t->data, (size_t)t->bytes);
    return e ? 0 : -1;
}

static int read_counts(const struct imatrix *m, const struct gguf *g, const struct gguf_tensor *t)
{
    char name[GGUF_NAME];
    snprintf(name, sizeof name, "%.*s", (int)(t->name.n - (sizeof COUNT - 1)), t->name.s);
    const struct imatrix_entry *e = imatrix_find(m, name);
    if (!e)
        return wrong(g, t, "there are no sums that it counts");
    if (!t->type || t->type->id || t->numel != (uint64_t)e->mats)
        return wrong(g, t, "counts have to be F32, one for each matrix");
    memcpy(e->count, t->data, (size_t)t->bytes);
    return 0;
}

static int read_gguf(struct imatrix *m, const struct gguf *g)
{
    struct gguf_string type = {"", 0};
    if (gguf_meta_text(g, "general.type", &type) < 0)
        return -1;
    if (type.n != strlen("imatrix") || memcmp(type.s, "imatrix", type.n))
        return err("general.type is '%.*s': not an importance matrix",
                   (int)(type.n < 40 ? type.n : 40), type.s);
    if (read_gguf_pairs(m, g))
        return -1;
    size_t counted = 0;
    for (size_t i = 0; i < g->n_tensors; i++)
        if (ends_in(&g->tensor[i].name, SUM) && read_sums(m, g, &g->tensor[i]))
            return -1;
    if (imatrix_finish(m)) // sorted: to be found
        return -1;
    for (size_t i = 0; i < g->n_tensors; i++)
        if (ends_in(&g->tensor[i].name, COUNT)) {
            if (read_counts(m, g, &g->tensor[i]))
                return -1;
            counted++;
        }
    return counted == m->n ? 0 : err("%zu sums, but %zu counts", m->n, counted);
}

/* ---- legacy ---- */

/* An i32 that counts things of at least `each` bytes which follow. */
static size_t count_of(struct cursor *c, size_t each, const char *what)
{
    const int32_t n = (int32_t)cursor_u32(c);
    if (n >= 0 && (size_t)n <= cursor_left(c) / each)
        return (size_t)n;
    cursor_fail(c, "%d %s do not fit into the %zu bytes that follow", n, what, cursor_left(c));
    return 0;
}

static int read_legacy_entry(struct imatrix *m, struct cursor *c)
{
    const size_t n = count_of(c, 1, "bytes of a name");
    const char *name = cursor_bytes(c, n);
    for (size_t i = 0; name && i < n; i++)
        if ((unsigned char)name[i] < ' ' || name[i] == 0x7f)
            return cursor_fail(c, "control characters in a name");
    if (!c->failed && (!n || n >= GGUF_NAME))
        return cursor_fail(c, "a name of %zu bytes", n);
    const int32_t calls = (int32_t)cursor_u32(c);
    const size_t cols = count_of(c, sizeof(float), "values");
    const void *values = cursor_bytes(c, cols * sizeof(float));
    if (c->failed)
        return -1;
    if (calls < 1 || !cols)
        return cursor_fail(c, "'%.*s' has %zu values of %d calls", (int)n, name, cols, calls);
    struct imatrix_entry *e = add(m, name, n, (int64_t)cols, 1);
    if (!e)
        return -1;
    memcpy(e->sum, values, cols * sizeof(float));
    *e->count = (float)calls;
    return 0;
}

static int read_legacy(struct imatrix *m, struct cursor *c)
{
    enum { LEAST = 4 + 1 + 4 + 4 + 4 }; // bytes of an entry: lengths, a letter, a value
    const size_t n = count_of(c, LEAST, "entries");
    if (!c->failed && !n)
        return cursor_fail(c, "no entries: not an importance matrix");
    for (size_t i = 0; i < n && !c->failed; i++)
        if (read_legacy_entry(m, c))
            return -1;
    if (c->failed || !cursor_left(c))
        return c->failed ? -1 : 0;
    const int32_t chunks = (int32_t)cursor_u32(c);
    if (!c->failed && chunks < 0)
        return cursor_fail(c, "%d chunks", chunks);
    m->chunks = (uint32_t)chunks;
    const size_t name = cursor_left(c) ? count_of(c, 1, "bytes of the dataset's name") : 0;
    const char *dataset = cursor_bytes(c, name);
    if (c->failed || (name && add_dataset(m, dataset, name)))
        return -1;
    return cursor_left(c) ? cursor_fail(c, "%zu bytes too many", cursor_left(c)) : 0;
}

/* ---- files ---- */

static int parse(struct imatrix *m, const struct gguf *g, const void *bytes, size_t n)
{
    struct cursor c = {.base = bytes, .size = n};
    *m = (struct imatrix){0};
    if ((g ? read_gguf(m, g) : read_legacy(m, &c)) || imatrix_finish(m)) {
        imatrix_free(m);
        return -1;
    }
    return 0;
}

static bool is_gguf(const void *bytes, size_t n)
{
    return n >= 4 && !memcmp(bytes, "GGUF", 4);
}

int imatrix_parse(struct imatrix *m, const void *bytes, size_t n)
{
    struct gguf g;
    if (!is_gguf(bytes, n))
        return parse(m, NULL, bytes, n);
    if (gguf_parse(&g, bytes, n))
        return -1;
    const int rc = parse(m, &g, NULL, 0);
    gguf_close(&g);
    return rc;
}

int imatrix_read(struct imatrix *m, const char *path)
{
    const void *bytes;
    size_t n;
    if (file_map(path, &bytes, &n))
        return -1;
    const int rc = imatrix_parse(m, bytes, n);
    file_unmap(bytes, n);
    return rc ? err_in("%s", path) : 0;
}

/* ---- writing ---- */

static void declare(struct gguf_write *w, const struct imatrix_entry *e)
{
    char name[GGUF_NAME + sizeof SUM];
    const uint64_t sum[] = {(uint64_t)e->cols, (uint64_t)e->mats}, count[] = {1, sum[1]};
    snprintf(name, sizeof name, "%.*s%s", GGUF_NAME - 1, e->name, SUM);
    gguf_write_tensor(w, name, gguf_type(0), 2, sum);
    snprintf(name, sizeof name, "%.*s%s", GGUF_NAME - 1, e->name, COUNT);
    gguf_write_tensor(w, name, gguf_type(0), 2, count);
}

static int write_entries(struct gguf_write *w, const struct imatrix *m)
{
    for (size_t i = 0; i < m->n; i++) {
        const struct imatrix_entry *e = &m->entry[i];
        if (gguf_write_data(w, e->sum, (size_t)(e->cols * e->mats) * sizeof *e->sum) ||
            gguf_write_data(w, e->count, (size_t)e->mats * sizeof *e->count))
            return -1;
    }
    return 0;
}

int imatrix_write(const struct imatrix *m, const char *path)
{
    struct gguf_write w = {0};
    gguf_write_text(&w, "general.type", "imatrix");
    gguf_write_texts(&w, "imatrix.datasets", m->n_datasets);
    for (size_t i = 0; i < m->n_datasets; i++)
        gguf_write_item(&w, m->dataset[i], strlen(m->dataset[i]));
    gguf_write_u32(&w, "imatrix.chunk_count", m->chunks);
    gguf_write_u32(&w, "imatrix.chunk_size", m->chunk_size);
    for (size_t i = 0; i < m->n; i++)
        declare(&w, &m->entry[i]);
    if (!gguf_write_open(&w, path) && !write_entries(&w, m))
        return gguf_write_commit(&w);
    gguf_write_abandon(&w);
    return -1;
}
