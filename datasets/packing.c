#include "datasets/packing.h"

#include <stdlib.h>

#include "autograd/base/mem.h"

enum { BLOCK = 1 << 16 };

struct maker {
    struct packing *p;
    const struct corpus *c;
    enum corpus_side side;
    int64_t T;
    uint8_t *mask; /* [BLOCK] of tokens from `known` on */
    int64_t known, n_known;
    int64_t end; /* of the window that is being filled; -1: none takes any more */
};

/* Is the token to be predicted? -1 with err() set. */
static int counts(struct maker *m, int64_t token)
{
    const int64_t tokens = m->c->part[m->side].tokens;
    if (token < m->known || token >= m->known + m->n_known) {
        m->known = token;
        m->n_known = tokens - token < BLOCK ? tokens - token : BLOCK;
        if (corpus_read_mask(m->c, m->side, token, m->n_known, m->mask))
            return -1;
    }
    return m->mask[token - m->known];
}

/* Tokens of [from, to) that are to be predicted; -1 with err() set. */
static int64_t targets(struct maker *m, int64_t from, int64_t to)
{
    int64_t n = 0;
    for (int64_t t = from; t < to; t++) {
        const int is = counts(m, t);
        if (is < 0)
            return -1;
        n += is;
    }
    return n;
}

/* Tokens [from, to) go to a window of their own, or to the one before, if they fit. */
static int put(struct maker *m, int64_t from, int64_t to, bool alone)
{
    struct packing *p = m->p;
    struct packing_window *last = p->windows ? &p->window[p->windows - 1] : NULL;
    if (!alone && last && m->end == from && to - last->at <= m->T + 1) {
        last->n = (int32_t)(to - last->at - 1);
    } else {
        if (mem_grow(&p->window, &p->cap, (size_t)p->windows + 1, sizeof *p->window))
            return -1;
        p->window[p->windows++] = (struct packing_window){from, (int32_t)(to - from - 1)};
    }
    m->end = to;
    return 0;
}

/* A document of which nothing can be predicted. */
static void leave_out(struct maker *m, int64_t number, int64_t tokens)
{
    if (!m->p->left_out++) {
        m->p->first = number;
        m->p->length = tokens;
    }
    m->end = -1;
}

/* A text longer than a window goes on in the next: parts share a token, the last to be predicted is
   the first to be read. */
static int put_long_text(struct maker *m, int64_t from, int64_t to)
{
    m->p->targets += to - from - 1;
    for (; to - from > m->T + 1; from += m->T)
        if (put(m, from, from + m->T + 1, true))
            return -1;
    return put(m, from, to, true);
}

static int put_document(struct maker *m, int64_t number, int64_t from, int64_t to)
{
    const bool is_long = to - from > m->T + 1;
    const int is_text =
        counts(m, from); // a prompt's tokens, also that in front of it, do not count
    if (is_text < 0)
        return -1;
    if (is_long && is_text)
        return put_long_text(m, from, to);
    const int64_t end = is_long ? from + m->T + 1 : to, n = targets(m, from + 1, end);
    if (n < 0)
        return -1;
    if (!n) {
        leave_out(m, number, to - from);
        return 0;
    }
    m->p->targets += n;
    m->p->cut += is_long;
    return put(m, from, end, is_long);
}

int packing_make(struct packing *p, const struct corpus *c, enum corpus_side side,
                 const int64_t *start, int T)
{
    const struct corpus_part *part = &c->part[side];
    struct maker m = {.p = p, .c = c, .side = side, .T = T, .end = -1};
    m.mask = mem_new(BLOCK, 1);
    int rc = m.mask ? 0 : -1;
    for (int64_t d = 0; d < part->documents && !rc; d++)
        rc = put_document(&m, d, start[d], d + 1 < part->documents ? start[d + 1] : part->tokens);
    free(m.mask);
    return rc;
}

void packing_free(struct packing *p)
{
    free(p->window);
    *p = (struct packing){0};
}
