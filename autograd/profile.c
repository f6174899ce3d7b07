#include "autograd/profile.h"

#include <stdlib.h>
#include <string.h>

#include "autograd/base/clock.h"
#include "autograd/base/mem.h"

void profile_free(struct profile *p)
{
    free(p->work);
    *p = (struct profile){0};
}

void profile_clear(struct profile *p)
{
    *p = (struct profile){.work = p->work, .cap = p->cap};
}

const struct profile_row *profile_find(const struct profile *p, const char *name, bool backward)
{
    for (int i = 0; i < p->n; i++)
        if (p->row[i].backward == backward && !strcmp(p->row[i].name, name))
            return &p->row[i];
    return NULL;
}

static int row_of(struct profile *p, const char *name, bool backward)
{
    const struct profile_row *r = profile_find(p, name, backward);
    if (r)
        return (int)(r - p->row);
    if (p->n == PROFILE_ROWS)
        BUG("more than %d kinds of work", PROFILE_ROWS);
    p->row[p->n] = (struct profile_row){.name = name, .backward = backward};
    return p->n++;
}

static bool same_shape(const struct product *a, const struct product *b)
{
    return a->kind == b->kind && a->dt == b->dt && a->M == b->M && a->N == b->N && a->K == b->K &&
           a->H == b->H && a->Hkv == b->Hkv;
}

static void add_work(struct profile *p, int row, const struct product *product)
{
    for (size_t i = 0; i < p->n_work; i++)
        if (p->work[i].row == row && same_shape(&p->work[i].product, product)) {
            p->work[i].product.times += product->times;
            return;
        }
    if (mem_grow(&p->work, &p->cap, p->n_work + 1, sizeof *p->work))
        p->failed = true;
    else
        p->work[p->n_work++] = (struct profile_work){row, *product};
}

struct profile_span profile_begin(struct profile *p)
{
    if (!p)
        return (struct profile_span){0};
    const struct profile_span span = {clock_seconds(), p->inner};
    p->inner = 0;
    return span;
}

void profile_add(struct profile *p, const struct profile_span *span, const char *name,
                 bool backward, const struct cost *cost)
{
    if (!p)
        return;
    const double seconds = clock_seconds() - span->begin;
    const int at = row_of(p, name, backward);
    struct profile_row *r = &p->row[at];
    r->calls++;
    r->seconds += seconds - p->inner;
    p->inner = span->outer + seconds;
    if (!cost)
        return;
    r->flops += cost_flops(cost);
    r->bytes += cost->bytes;
    r->exps += cost->exps;
    r->draws += cost->draws;
    for (int i = 0; i < cost->n; i++)
        add_work(p, at, &cost->product[i]);
}
