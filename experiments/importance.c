#include "experiments/importance.h"

#include <stdlib.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/mem.h"

enum { COLS = 64 /* columns of a thread: rows are added up in their order */ };

static void add_squares(const struct tensor *x, double *squares)
{
    const int64_t rows = tensor_rows(x), cols = tensor_cols(x);
    memset(squares, 0, (size_t)cols * sizeof *squares);
#pragma omp parallel for schedule(static)
    for (int64_t c = 0; c < cols; c += COLS) {
        const int64_t n = cols - c < COLS ? cols - c : COLS;
        for (int64_t r = 0; r < rows; r++) {
            const float *row = (const float *)x->data + r * cols + c;
            for (int64_t k = 0; k < n; k++)
                squares[c + k] += (double)row[k] * (double)row[k];
        }
    }
}

/* The parameter that w is, or is the first part of; -1: it was seen, or is none that counts. */
static int param_of(const struct importance *i, const struct tensor *w)
{
    const struct store *s = &i->m->store;
    const struct tensor *whole = w->whole ? w->whole : w;
    if (w->data != whole->data)
        return -1;
    for (int k = 0; k < s->n; k++)
        if (&s->p[k].used == whole)
            return i->sum[k] ? k : -1;
    return -1;
}

static void see(struct tap *tap, int n, struct tensor *const w[], const struct tensor *x)
{
    struct importance *i = (struct importance *)tap; // its first member
    bool added = false;
    i->failed |= x->dt != &dtype_f32;
    for (int k = 0; k < n && !i->failed; k++) {
        const int p = param_of(i, w[k]);
        if (p < 0)
            continue;
        if (!added)
            add_squares(x, i->squares);
        added = true;
        for (int64_t c = 0, cols = tensor_cols(x); c < cols; c++)
            i->sum[p][c] += i->squares[c];
        i->rows[p] += tensor_rows(x);
    }
}

int importance_open(struct importance *i, const struct transformer *m, bool head)
{
    const struct store *s = &m->store;
    int64_t most = 1;
    *i = (struct importance){.tap = {see}, .m = m, .head = head};
    i->sum = mem_new((size_t)s->n, sizeof *i->sum);
    i->rows = mem_new((size_t)s->n, sizeof *i->rows);
    int rc = i->sum && i->rows ? 0 : -1;
    for (int k = 0; k < s->n && !rc; k++) {
        const int64_t cols = tensor_cols(&s->p[k].used);
        if (!s->p[k].product || (&s->p[k] == m->output && !head))
            continue;
        most = cols > most ? cols : most;
        i->sum[k] = mem_new((size_t)cols, sizeof **i->sum);
        rc = i->sum[k] ? 0 : -1;
    }
    i->squares = rc ? NULL : mem_new((size_t)most, sizeof *i->squares);
    if (i->squares)
        return 0;
    importance_close(i);
    return -1;
}

void importance_close(struct importance *i)
{
    for (int k = 0; i->sum && k < i->m->store.n; k++)
        free(i->sum[k]);
    free(i->sum);
    free(i->rows);
    free(i->squares);
    *i = (struct importance){0};
}

static struct imatrix_entry *entry_of(struct imatrix *out, const char *name, int64_t cols)
{
    for (size_t i = 0; i < out->n; i++)
        if (!strcmp(out->entry[i].name, name))
            return &out->entry[i];
    return imatrix_add(out, name, cols);
}

int importance_add(const struct importance *i, struct imatrix *out)
{
    if (i->failed)
        return err("importance is collected from f32 activations");
    for (int k = 0; k < i->m->store.n; k++) {
        const struct param *p = &i->m->store.p[k];
        const int64_t cols = tensor_cols(&p->used);
        if (!i->rows[k])
            continue;
        struct imatrix_entry *e = entry_of(out, p->name, cols);
        if (!e)
            return -1;
        if (e->cols * e->mats != cols)
            return err("'%s' has %lld columns, in the other matrix %lld", p->name, (long long)cols,
                       (long long)(e->cols * e->mats));
        for (int64_t c = 0; c < cols; c++)
            e->sum[c] += (float)i->sum[k][c];
        *e->count += (float)i->rows[k];
    }
    return 0;
}
