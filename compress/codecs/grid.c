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

/* ---- rows: so many blocks at a time that kernels have GRID_BLOCK elements to work on ---- */

struct some {
    int64_t at;                            /* the first element's column */
    int n, blocks;                         /* elements, blocks; 0: behind the last */
    float step[GRID_SUBS], min[GRID_SUBS]; /* of all sub-blocks */
};

/* The next blocks of a row, which start at `block`. */
static bool take(struct some *s, const struct tensor *t, const struct grid *g, const char *block)
{
    struct grid_scales scales;
    const int64_t left = (tensor_cols(t) - (s->at += s->n)) / t->dt->block;
    const int most = GRID_BLOCK / t->dt->block;
    s->blocks = left < most ? (int)left : most;
    s->n = s->blocks * t->dt->block;
    for (int b = 0; b < s->blocks; b++, block += t->dt->bytes) {
        g->get(block, &scales);
        steps_of(g, &scales, s->step + b * g->subs, s->min + b * g->subs);
    }
    return s->blocks;
}

void grid_decode(const struct tensor *t, int64_t row, float *x)
{
    const struct grid *g = codecs_grid(t->dt);
    const char *block = row_of(t, row);
    struct some s = {0};
    int8_t q[GRID_BLOCK];
    while (take(&s, t, g, block)) {
        for (int b = 0; b < s.blocks; b++, block += t->dt->bytes)
            g->unpack(block, q + b * t->dt->block);
        fit->spread(s.n, g->size, g->level, q, s.step, s.min, x + s.at);
    }
}

void grid_project(struct tensor *t, int64_t row, const float *x, float *y)
{
    const struct grid *g = codecs_grid(t->dt);
    char *block = row_of(t, row);
    struct some s = {0};
    int8_t q[GRID_BLOCK];
    while (take(&s, t, g, block)) {
        fit->snap(s.n, g->size, g->level, g->lo, g->hi, x + s.at, s.step, s.min, q);
        for (int b = 0; b < s.blocks; b++, block += t->dt->bytes)
            g->pack(block, q + b * t->dt->block);
        if (y)
            fit->spread(s.n, g->size, g->level, q, s.step, s.min, y + s.at);
    }
}

void grid_round(struct tensor *t, int64_t row, const float *x)
{
    grid_project(t, row, x, NULL);
}
