#include "compress/quantize.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/file.h"
#include "autograd/base/mem.h"

enum { CHUNK = 1 << 20 /* floats that are encoded, bytes that are copied, between two writes */ };

/* A tensor's rows, some at a time. */
struct rows {
    const struct quantize_source *s;
    const struct dtype *to;
    struct tensor part; /* [n,cols] of `to`, what is encoded */
    float *x;           /* [threads,cols] */
    int64_t first, n;
    int threads;
    int64_t bad; /* the first row that is not finite, -1: none */
    bool overflow;
};

static bool all_finite(const float *x, int64_t n)
{
    // the exponent is all ones: a sum of such flags vectorizes
    uint32_t bad = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bad |= (bits & 0x7f800000) == 0x7f800000;
    }
    return !bad;
}

static void note_bad(struct rows *r, int64_t row, bool overflow)
{
#pragma omp critical(quantize_bad)
    if (r->bad < 0 || row < r->bad) {
        r->bad = row;
        r->overflow = overflow;
    }
}

/* Row i of the part: decoded, looked at, encoded, looked at again. */
static void convert_row(struct rows *r, int64_t i, float *x)
{
    const int64_t cols = tensor_cols(&r->s->t), row = r->first + i;
    r->s->t.dt->decode(&r->s->t, row, x);
    if (!all_finite(x, cols)) {
        note_bad(r, row, false);
        return;
    }
    if (!r->to)
        return;
    r->to->encode(&r->part, i, x, r->s->importance);
    if (r->to->block > 1)
        return; // blocks hold no infinity: what is too large is cut
    r->to->decode(&r->part, i, x);
    if (!all_finite(x, cols))
        note_bad(r, row, true);
}

static int convert(struct rows *r)
{
    const int64_t cols = tensor_cols(&r->s->t);
#pragma omp parallel for schedule(dynamic, 1) num_threads(r->threads)
    for (int64_t i = 0; i < r->n; i++)
        convert_row(r, i, r->x + omp_get_thread_num() * cols);
    if (r->bad < 0)
        return 0;
    return r->overflow ? err("tensor '%s': row %lld is too large for %s", r->s->name,
                             (long long)r->bad, r->to->name)
                       : err("tensor '%s': row %lld holds a NaN or an infinity", r->s->name,
                             (long long)r->bad);
}

static int write_rows(struct gguf_write *w, struct rows *r, const volatile sig_atomic_t *stop)
{
    const struct tensor *t = &r->s->t;
    const int64_t rows = tensor_rows(t), step = r->n;
    const size_t row_bytes = tensor_row_bytes(t);
    for (r->first = 0; r->first < rows; r->first += step) {
        r->n = rows - r->first < step ? rows - r->first : step;
        const char *from = (const char *)t->data + (size_t)r->first * row_bytes;
        const size_t bytes = (size_t)r->n * row_bytes;
        if (stop && *stop)
            return err("stopped");
        if (convert(r) ||
            gguf_write_data(w, r->to ? r->part.data : from,
                            r->to ? tensor_row_bytes(&r->part) * (size_t)r->n : bytes))
            return -1;
        if (r->s->mapped)
            file_forget(from, bytes);
    }
    return 0;
}

/* Rows of cols floats that are worth a write, and threads they are shared by. */
static int64_t rows_at_once(int64_t rows, int64_t cols)
{
    const int64_t n = CHUNK / cols > 0 ? CHUNK / cols : 1;
    return n < rows ? n : rows;
}

static int threads_for(int64_t rows)
{
    return rows < omp_get_max_threads() ? (int)rows : omp_get_max_threads();
}

static int open_rows(struct rows *r, const struct quantize_source *s, const struct dtype *to)
{
    const int64_t cols = tensor_cols(&s->t);
    *r = (struct rows){.s = s, .to = to == s->t.dt ? NULL : to, .bad = -1};
    r->n = rows_at_once(tensor_rows(&s->t), cols);
    r->threads = threads_for(r->n);
    r->x = mem_new((size_t)(r->threads * cols), sizeof *r->x);
    if (!r->x)
        return -1;
    if (!r->to)
        return 0;
    r->part = (struct tensor){.dt = to, .nd = 2, .dim = {r->n, cols}};
    r->part.data = mem_new(tensor_bytes(&r->part), 1);
    return r->part.data ? 0 : -1;
}

static void close_rows(struct rows *r)
{
    free(r->x);
    free(r->part.data);
}

/* Bytes that nobody can look into. */
static int copy(struct gguf_write *w, const struct quantize_source *s,
                const volatile sig_atomic_t *stop)
{
    const char *p = s->t.data;
    for (size_t at = 0, n; at < s->bytes; at += n) {
        n = s->bytes - at < CHUNK ? s->bytes - at : CHUNK;
        if (stop && *stop)
            return err("stopped");
        if (gguf_write_data(w, p + at, n))
            return -1;
        if (s->mapped)
            file_forget(p + at, n);
    }
    return 0;
}

int quantize_tensor(struct gguf_write *w, const struct quantize_source *s, const struct dtype *to,
                    const volatile sig_atomic_t *stop)
{
    struct rows r;
    if (!s->t.dt || !s->t.dt->decode)
        return copy(w, s, stop);
    if (to && !to->encode)
        return err("tensor '%s': %s cannot be encoded by this program", s->name, to->name);
    int rc = open_rows(&r, s, to);
    if (!rc)
        rc = write_rows(w, &r, stop);
    close_rows(&r);
    return rc;
}

int quantize_round_trip(const char *name, float *x, int64_t rows, int64_t cols,
                        const struct dtype *to, const float *importance)
{
    const struct quantize_source s = {
        .name = name,
        .t = {.dt = &dtype_f32, .nd = 2, .dim = {rows, cols}, .data = x},
        .importance = importance};
    struct rows r;
    int rc = open_rows(&r, &s, to);
    const int64_t step = r.n;
    for (r.first = 0; r.first < rows && !rc && r.to; r.first += step) {
        r.n = rows - r.first < step ? rows - r.first : step;
        rc = convert(&r);
        for (int64_t i = 0; i < r.n && !rc; i++)
            to->decode(&r.part, i, x + (r.first + i) * cols);
    }
    close_rows(&r);
    return rc;
}

void quantize_weighed_count(struct quantize_weighed *c, const struct imatrix *m, const char *name)
{
    if (!m || !strcmp(name, "token_embd.weight") || !strcmp(name, "output.weight"))
        return;
    c->n++;
    if (!imatrix_find(m, name) && !c->missing++)
        snprintf(c->first, sizeof c->first, "%s", name);
}

int quantize_weighed_check(const struct quantize_weighed *c)
{
    if (c->missing && c->missing == c->n)
        return err("the importance matrix says nothing of any matrix, such as '%s': it is another "
                   "model's",
                   c->first);
    if (c->missing)
        err_warn("the importance matrix says nothing of %d of %d matrices, such as '%s': their "
                 "errors are not weighed",
                 c->missing, c->n, c->first);
    return 0;
}

int quantize_importance(const struct imatrix *m, const char *name, int64_t cols, float **mean,
                        bool *missing)
{
    const struct imatrix_entry *e = m ? imatrix_find(m, name) : NULL;
    *mean = NULL;
    *missing = m && !e;
    if (!e)
        return 0;
    if (e->cols * e->mats != cols)
        return err("tensor '%s' has rows of %lld, its importance %lld columns", name,
                   (long long)cols, (long long)(e->cols * e->mats));
    *mean = mem_new((size_t)cols, sizeof **mean);
    if (!*mean)
        return -1;
    imatrix_mean(e, *mean);
    return 0;
}
