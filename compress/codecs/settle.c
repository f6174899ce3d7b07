#include "compress/codecs/settle.h"

#include <math.h>
#include <string.h>

#include "autograd/base/half.h"
#include "compress/codecs/regrid.h"

/* ---- numbers that a block can hold ---- */

float settle_half(float d, int e)
{
    const float h = half_float(half_of(e ? ldexpf(d, -e) : d));
    if (h == 0 && d != 0)
        return d < 0 ? -0x1p-24f : 0x1p-24f;
    return h > 65504 ? 65504 : h < -65504 ? -65504 : h;
}

/* Likewise; the next one, where that leaves top * d, which code `top` stands for, more than half a
   code away: subnormal halves are coarse. */
static float half_for(float d, int e, int top)
{
    const float h = settle_half(d, e), want = (e ? ldexpf(d, -e) : d) * (float)top;
    return top > 1 && want > h * ((float)top + 0.5f) && h < 65504
               ? half_float((uint16_t)(half_of(h) + 1))
               : h;
}

void settle_halves(const struct grid *g, int e, float d, float dmin, struct grid_scales *s)
{
    s->d = half_for(d, e, g->scale_hi);
    s->dmin = g->min_hi ? half_for(dmin, e, g->min_hi) : 0;
    const float range = s->d * (float)(g->scale_hi * g->hi);
    const float mins = fabsf(s->dmin) * (float)g->min_hi;
    const float top = g->min_hi == 1 ? range + mins : range > mins ? range : mins;
    if (g->min_hi && top > 0) {
        const float unit = half_from(half_bits(top) >> 23 << 23) * 0x1p-23f; // top < 2^24 units
        s->d = (float)lrintf(s->d / unit) * unit;
        s->dmin = (float)lrintf(s->dmin / unit) * unit;
    }
    if (e) {
        s->d = ldexpf(s->d, e);
        s->dmin = ldexpf(s->dmin, e);
    }
}

/* ---- unbiased ---- */

/* s, q <- so that x - y is so much nearer to orthogonal to x, weighted by importance; not where
   little is left of x. */
static void unbias(struct settle *e)
{
    const int n = e->g->subs * e->g->size;
    float own[GRID_BLOCK], y[GRID_BLOCK];
    for (int i = 0; i < n && e->w; i++)
        own[i] = e->w[i] * e->x[i];
    const float *wx = e->w ? own : e->x;
    grid_values(e->g, &e->s, e->q, y);
    const float xx = fit->dot(n, wx, e->x), xy = fit->dot(n, wx, y);
    if (!(xy > 0.5f * xx))
        return;
    const float r = 1 + e->g->search.unbiased * (xx / xy - 1);
    settle_halves(e->g, e->exp, e->s.d * r, e->s.dmin * r, &e->s);
    grid_nearest(e->g, &e->s, e->x, e->q);
}

/* ---- found again ---- */

/* Can a sub-block with codes q [size] keep this min? */
static bool admissible(const struct grid *g, int min, const int8_t *q)
{
    bool low = min == 0;
    for (int i = 0; i < g->size && !low; i++)
        low = q[i] == 0;
    return low;
}

/* The least min that reaches the lowest element, or the one below it: others let no code be 0, or
   cut more off. */
static int min_for(const struct grid *g, float low, float dmin, bool below)
{
    const float m = dmin > 0 ? ceilf(-low / dmin) : 0;
    return (int)fminf(fmaxf(below ? m - 1 : m, 0), (float)g->min_hi);
}

/* scale[j], min[j] of s and q [size] <- those of the least error of sub-block j, x [size], weighted
   by w [size], among all scales; d and dmin stay. */
static void best_admissible(const struct grid *g, int j, const float *x, const float *w,
                            struct grid_scales *s, int8_t *q)
{
    float low = x[0], y[FIT_SIZE];
    double least = INFINITY;
    for (int i = 1; i < g->size; i++)
        low = fminf(low, x[i]);
    for (int k = 0; k < 3 * (g->scale_hi + 1); k++) {
        const int scale = k / 3, m = k % 3 ? min_for(g, low, s->dmin, k % 3 == 1) : 0;
        const float step = s->d * (float)scale, min = s->dmin * (float)m;
        int8_t p[FIT_SIZE];
        double err = 0;
        fit->snap(g->size, g->size, NULL, g->lo, g->hi, x, &step, &min, p);
        if (!admissible(g, m, p))
            continue;
        fit->spread(g->size, g->size, NULL, p, &step, &min, y);
        for (int i = 0; i < g->size; i++)
            err += (double)w[i] * ((double)x[i] - y[i]) * ((double)x[i] - y[i]);
        if (err < least) {
            least = err;
            s->scale[j] = (int16_t)scale;
            s->min[j] = (int16_t)m;
            memcpy(q, p, (size_t)g->size);
        }
    }
}

static void settle_mins(struct settle *e)
{
    const struct grid *g = e->g;
    for (int j = 0; j < g->subs; j++) {
        float w[FIT_SIZE];
        if (admissible(g, e->s.min[j], e->q + j * g->size))
            continue;
        for (int i = 0; i < g->size; i++)
            w[i] = e->f->weighted ? e->f->w[i][e->lane + j] : 1;
        best_admissible(g, j, e->x + j * g->size, w, &e->s, e->q + j * g->size);
    }
}

/* A block of one value with a min of its own. */
static void settle_flat(struct settle *e)
{
    const struct grid *g = e->g;
    const float v = ldexpf(e->s.d * (float)e->q[0] - e->s.dmin, -e->exp), low = regrid_floor(v);
    const float d = fmaxf(v - low, 0) / (float)g->hi;
    settle_halves(g, e->exp, ldexpf(d, e->exp), ldexpf(0 - low, e->exp), &e->s);
    memset(e->q, d > 0 ? g->hi : 0, (size_t)g->size);
}

static bool all_equal(const int8_t *q, int n)
{
    return !memcmp(q, q + 1, (size_t)n - 1);
}

/* Levels without a 0, at the smallest scales: are zeros nearer to x? */
static bool zeros_nearer(const struct settle *e)
{
    float y[GRID_BLOCK];
    double err = 0, all = 0;
    grid_values(e->g, &e->s, e->q, y);
    for (int i = 0; i < e->g->subs * e->g->size; i++) {
        err += ((double)e->x[i] - y[i]) * ((double)e->x[i] - y[i]);
        all += (double)e->x[i] * e->x[i];
    }
    return all <= err;
}

void settle_block(struct settle *e)
{
    const struct grid *g = e->g;
    const int n = g->subs * g->size;
    grid_nearest(g, &e->s, e->x, e->q);
    if (g->search.kind == GRID_SUPER && g->search.unbiased > 0)
        unbias(e);
    if (g->min_hi > 1)
        settle_mins(e);
    if (g->min_hi == 1 && all_equal(e->q, n))
        settle_flat(e);
    if (!g->min_hi && !g->level && e->q[0] == 0 && all_equal(e->q, n)) // no negative zeros alone
        e->s = (struct grid_scales){.scale = {g->scale_lo == 1}};
    if (g->level && fabsf(ldexpf(e->s.d, -e->exp)) < 0x1p-14f && zeros_nearer(e)) {
        e->s.d = 0;
        grid_nearest(g, &e->s, e->x, e->q);
    }
}
