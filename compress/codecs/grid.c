#include "compress/codecs/grid.h"

#include "compress/codecs/fit.h"

static char *row_of(const struct tensor *t, int64_t row)
{
    return (char *)t->data + (size_t)row * tensor_row_bytes(t);
}

/* steps [subs] and mins [subs] of the sub-blocks */
static void steps_of(const struct grid *g, const struct grid_scales *s, float *step, float *min)
{
    for (int j = 0; j < g->subs; j++) {
        step[j] = s->d * (float)s->scale[j];
        min[j] = g->min_hi ? s->dmin * (float)s->min[j] : 0;
    }
}

void grid_values(const struct grid *g, const struct grid_scales *s, const int8_t *q, float *x)
{
    float step[GRID_SUBS], min[GRID_SUBS];
    steps_of(g, s, step, min);
    fit->spread(g->subs * g->size, g->size, g->level, q, step, min, x);
}

void grid_nearest(const struct grid *g, const struct grid_scales *s, const float *x, int8_t *q)
{
    float step[GRID_SUBS], min[GRID_SUBS];
    steps_of(g, s, step, min);
    fit->snap(g->subs * g->size, g->size, g->level, g->lo, g->hi, x, step, min, q);
}

void grid_decode(const struct tensor *t, int64_t row, float *x)
{
    const struct grid *g = codecs_grid(t->dt);
    const char *block = row_of(t, row);
    struct grid_scales s;
    int8_t q[GRID_BLOCK];
    for (int64_t i = 0, n = tensor_cols(t); i < n; i += t->dt->block, block += t->dt->bytes) {
        g->get(block, &s);
        g->unpack(block, q);
        grid_values(g, &s, q, x + i);
    }
}

void grid_round(struct tensor *t, int64_t row, const float *x)
{
    const struct grid *g = codecs_grid(t->dt);
    char *block = row_of(t, row);
    struct grid_scales s;
    int8_t q[GRID_BLOCK];
    for (int64_t i = 0, n = tensor_cols(t); i < n; i += t->dt->block, block += t->dt->bytes) {
        g->get(block, &s);
        grid_nearest(g, &s, x + i, q);
        g->pack(block, q);
    }
}
