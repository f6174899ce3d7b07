#include "compress/codecs/grid.h"

static void *block_of(const struct tensor *t, int64_t row)
{
    return (char *)t->data + (size_t)row * tensor_row_bytes(t);
}

/* y [block] <- the values of codes q. */
static void spread(const struct grid *g, const struct grid_scales *s, const int8_t *q, float *y)
{
    for (int j = 0; j < g->subs; j++) {
        const float step = s->d * (float)s->scale[j];
        const float min = g->min_hi ? s->dmin * (float)s->min[j] : 0;
        for (int i = 0; i < g->size; i++, q++)
            *y++ = step * (float)(g->level ? g->level[*q] : *q) - min;
    }
}

void grid_decode(const struct tensor *t, int64_t row, float *x)
{
    const struct grid *g = codecs_grid(t->dt);
    const char *block = block_of(t, row);
    struct grid_scales s;
    int8_t q[GRID_BLOCK];
    for (int64_t i = 0, n = tensor_cols(t); i < n; i += t->dt->block, block += t->dt->bytes) {
        g->get(block, &s);
        g->unpack(block, q);
        spread(g, &s, q, x + i);
    }
}
