#include "compress/codecs/grid.h"

#include <math.h>
#include <string.h>

#include "autograd/base/half.h"
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
    const bool plain = grid_flat(g) && !g->wide && !g->min_hi;
    struct grid_scales scales;
    const int64_t left = (tensor_cols(t) - (s->at += s->n)) / t->dt->block;
    const int most = GRID_BLOCK / t->dt->block;
    s->blocks = left < most ? (int)left : most;
    s->n = s->blocks * t->dt->block;
    for (int b = 0; b < s->blocks; b++, block += t->dt->bytes) {
        if (plain) {
            uint16_t d;
            memcpy(&d, block + g->d_at, sizeof d);
            s->step[b] = half_float(d);
            s->min[b] = 0;
            continue;
        }
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

bool grid_project(struct tensor *t, int64_t row, const float *x, float *y)
{
    const struct grid *g = codecs_grid(t->dt);
    char *block = row_of(t, row);
    struct some s = {0};
    int8_t q[GRID_BLOCK];
    bool finite = true;
    while (take(&s, t, g, block)) {
        finite &= fit->snap(s.n, g->size, g->level, g->lo, g->hi, x + s.at, s.step, s.min, q);
        for (int b = 0; b < s.blocks; b++, block += t->dt->bytes)
            g->pack(block, q + b * t->dt->block);
        if (y)
            fit->spread(s.n, g->size, g->level, q, s.step, s.min, y + s.at);
    }
    return finite;
}

void grid_round(struct tensor *t, int64_t row, const float *x)
{
    grid_project(t, row, x, NULL);
}

/* ---- gradients ---- */

/* The lowest and the highest level. */
static void ends_of(const struct grid *g, float *lo, float *hi)
{
    *lo = (float)(g->level ? g->level[g->lo] : g->lo);
    *hi = (float)(g->level ? g->level[g->hi] : g->hi);
}

void grid_clip(const struct tensor *t, int64_t row, const float *x, float *dx)
{
    const struct grid *g = codecs_grid(t->dt);
    const char *block = row_of(t, row);
    struct some s = {0};
    float lo, hi, low[GRID_SUBS], high[GRID_SUBS];
    ends_of(g, &lo, &hi);
    for (; take(&s, t, g, block); block += (size_t)s.blocks * (size_t)t->dt->bytes) {
        for (int j = 0; j < s.n / g->size; j++) {
            const float a = s.step[j] * lo - s.min[j], b = s.step[j] * hi - s.min[j];
            low[j] = a < b ? a : b;
            high[j] = a < b ? b : a;
        }
        fit->clip(s.n, g->size, low, high, x + s.at, dx + s.at);
    }
}

void grid_pull(const struct tensor *t, int64_t row, const float *x, const float *dy, float *ds,
               float *lost)
{
    const struct grid *g = codecs_grid(t->dt);
    const char *block = row_of(t, row);
    struct some s = {0};
    int8_t q[GRID_BLOCK];
    float lo, hi;
    ends_of(g, &lo, &hi);
    while (take(&s, t, g, block)) {
        const int subs = s.n / g->size;
        float own[GRID_SUBS], *l = lost ? lost : own;
        for (int b = 0; b < s.blocks; b++, block += t->dt->bytes)
            g->unpack(block, q + b * t->dt->block);
        fit->pull(s.n, g->size, g->level, lo, hi, x + s.at, dy + s.at, q, s.step, s.min, ds, l);
        for (int j = 0; j < subs; j++) {
            ds[j] = s.step[j] < 0 || s.step[j] > 0 ? ds[j] : 0;
            l[j] *= fabsf(s.step[j]);
        }
        ds += subs;
        lost = lost ? lost + subs : NULL;
    }
}

void grid_pull_super(const struct tensor *t, int64_t row, const float *dy, float *dd, float *dmin)
{
    const struct grid *g = codecs_grid(t->dt);
    const char *block = row_of(t, row);
    struct some s = {0};
    int8_t q[GRID_BLOCK];
    float sg[GRID_SUBS], sgv[GRID_SUBS];
    while (take(&s, t, g, block)) {
        for (int b = 0; b < s.blocks; b++, block += t->dt->bytes)
            g->unpack(block, q + b * t->dt->block);
        fit->tally(s.n, g->size, g->level, dy + s.at, q, sg, sgv);
        for (int b = 0; b < s.blocks; b++) {
            float d = 0, m = 0;
            for (int j = b * g->subs; j < (b + 1) * g->subs; j++) {
                d += s.step[j] * sgv[j];
                m -= s.min[j] * sg[j];
            }
            *dd++ = d;
            if (dmin)
                *dmin++ = m;
        }
    }
}
