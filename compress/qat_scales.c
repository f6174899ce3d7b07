/*
 * Learned scales. Of each sub-block there are f32 latents: its step s and, if the format has one,
 * its min m. The block's d and dmin are set at the fit, with room above, and stay; codes are s / d
 * and m / dmin, rounded. Formats that have d alone learn it, rounded to an f16.
 *
 * With s', m' as forward used them, u = (x + m') / s' and v the level of x's code:
 *
 *     dL/ds = f sum g (v - u inside the range, v outside)     f = 1 / sqrt(n max |v|)
 *     dL/dm = - sum g outside
 *
 * Esser et al., "Learned step size quantization", 2020, eqs. 3 and 5, with a min as in Bhalgat et
 * al., "LSQ+", 2020, eq. 5. The optimizer moves s relatively, s <- s exp(p), so that it keeps its
 * sign, and m in units of s', m <- m + |s'| p: p is its parameter, 0 between steps.
 *
 * Or d and dmin of blocks alone (`super`), both relatively. All codes are constants to them, those
 * of elements, too: of y = d c v - dmin k,
 *
 *     dL/d log d = f sum g d c v     dL/d log dmin = - f sum g dmin k
 *
 * over the block. So that they are, latents go along with their grid: many lie just between two
 * codes in the end, and would change them. Codes of scales have four to six bits, and one that
 * changes moves all values of its sub-block at once by so much; halves follow every step.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/half.h"
#include "autograd/base/mem.h"
#include "compress/codecs/fit.h"
#include "compress/codecs/grid.h"
#include "compress/qat_parts.h"

static const float ROOM = 16.0f / 15;     // of d above the fit: codes can grow
static const float COLLAPSED = 1.0f / 16; // of the smallest code

/* Scales of a row. */
static int64_t scales_of(const struct qat_weight *w)
{
    return tensor_cols(&w->blocks) / (w->of->options.super ? w->blocks.dt->block : w->grid->size);
}

static int declare(struct qat *q, const struct qat_weight *w, const char *what)
{
    char name[PARAM_NAME + 8];
    const int64_t n = tensor_rows(&w->blocks) * scales_of(w);
    snprintf(name, sizeof name, "%s.%s", w->p->name, what);
    return store_add(&q->scales, name, 1, &n, 0) ? -1 : q->scales.n - 1;
}

int qat_scales_add(struct qat *q, struct qat_weight *w)
{
    w->s = w->m = -1;
    if (!q->options.learned || !w->grid)
        return 0;
    w->s = declare(q, w, w->of->options.super ? "d" : "s");
    if (w->s >= 0 && w->grid->min_hi)
        w->m = declare(q, w, w->of->options.super ? "dmin" : "m");
    return w->s < 0 || (w->grid->min_hi && w->m < 0) ? -1 : 0;
}

int qat_scales_ready(struct qat *q)
{
    if (!q->scales.n)
        return 0;
    if (store_alloc(&q->scales, q->options.shapes ? STORE_SHAPES : STORE_TRAINED))
        return -1;
    if (q->options.shapes)
        return 0;
    q->value = mem_slab(q->scales.len, sizeof *q->value);
    return q->value ? 0 : -1;
}

/* What belongs to the row's sub-block 0 in a slab of q->scales. */
static float *at(const struct qat_weight *w, int param, float *slab, int64_t row)
{
    const struct qat *q = w->of;
    return param < 0 ? NULL
                     : slab + (q->scales.p[param].latent - q->scales.latent) + row * scales_of(w);
}

static char *first_block(const struct qat_weight *w, int64_t row)
{
    return (char *)w->blocks.data + (size_t)row * tensor_row_bytes(&w->blocks);
}

static float half_rounded(float x)
{
    return half_float(half_of(x));
}

/* Moves of a grid's scales, as yet none. */
static struct fit_moves still(const struct grid *g)
{
    return (struct fit_moves){.coded = !grid_flat(g),
                              .scale_lo = (float)g->scale_lo,
                              .scale_hi = (float)g->scale_hi,
                              .min_hi = (float)g->min_hi,
                              .collapsed = COLLAPSED};
}

/* Codes for the d and dmin of sc. */
static enum fit_moved encode(const struct grid *g, struct fit_moves *f, struct grid_scales *sc)
{
    f->d = sc->d;
    f->dmin = sc->dmin;
    const enum fit_moved moved = fit->move(f);
    for (int j = 0; j < g->subs; j++) {
        sc->scale[j] = f->scale[j];
        sc->min[j] = f->min[j];
    }
    return moved;
}

/* d and dmin of a row's blocks, as they are. */
static void take_super(const struct qat_weight *w, const char *block, float *d, float *dmin)
{
    for (int64_t i = 0; i < scales_of(w); i++, block += w->blocks.dt->bytes) {
        struct grid_scales sc = {0};
        w->grid->get(block, &sc);
        d[i] = sc.d;
        if (dmin)
            dmin[i] = sc.dmin;
    }
}

void qat_scales_take(struct qat_weight *w, int64_t row, bool room)
{
    const struct grid *g = w->grid;
    const struct dtype *dt = w->blocks.dt;
    char *block = first_block(w, row);
    float *s = at(w, w->s, w->of->value, row), *m = at(w, w->m, w->of->value, row);
    if (w->of->options.super) {
        take_super(w, block, s, m);
        return;
    }
    for (int64_t i = 0; i < tensor_cols(&w->blocks); i += dt->block, block += dt->bytes) {
        struct fit_moves f = still(g);
        struct grid_scales sc = {0};
        g->get(block, &sc);
        for (int j = 0; j < g->subs; j++) {
            f.s[j] = sc.d * (float)sc.scale[j];
            f.m[j] = g->min_hi ? sc.dmin * (float)sc.min[j] : 0;
        }
        if (room && f.coded) {
            sc.d = half_rounded(sc.d * ROOM);
            sc.dmin = half_rounded(sc.dmin * ROOM);
            encode(g, &f, &sc);
            g->set(block, &sc);
        }
        memcpy(s, f.s, (size_t)g->subs * sizeof *s);
        s += g->subs;
        if (!m)
            continue;
        memcpy(m, f.m, (size_t)g->subs * sizeof *m);
        m += g->subs;
    }
}

/* Moves that are no small ones are made here; exp() of the others is the kernel's polynomial. */
static void leap(int64_t n, float *s, float *ds)
{
    for (int64_t j = 0; j < n; j++)
        if (!(fabsf(ds[j]) < 0.125f)) {
            s[j] *= expf(ds[j]);
            ds[j] = 0;
        }
}

/* So many sub-blocks from s, m and their moves into f, and the moves become 0. m NULL: there are no
   mins. */
static void load(struct fit_moves *f, int n, const float *s, float *ds, const float *m, float *dm)
{
    const size_t bytes = (size_t)n * sizeof(float);
    memcpy(f->s, s, bytes);
    memcpy(f->ds, ds, bytes);
    memset(ds, 0, bytes);
    if (!m)
        return;
    memcpy(f->m, m, bytes);
    memcpy(f->dm, dm, bytes);
    memset(dm, 0, bytes);
}

/* A block of codes. */
static enum fit_moved move_codes(const struct grid *g, char *block, struct fit_moves *f)
{
    struct grid_scales sc = {0};
    g->get(block, &sc);
    for (int j = 0; j < g->subs; j++)
        f->unit[j] = fabsf(sc.d * (float)sc.scale[j]);
    const enum fit_moved moved = encode(g, f, &sc);
    if (moved != FIT_MOVED_ODD)
        g->set(block, &sc);
    return moved;
}

/* Blocks, each of one scale. */
static enum fit_moved move_flat(const struct qat_weight *w, char *block, int n, struct fit_moves *f)
{
    const struct grid *g = w->grid;
    const size_t bytes = (size_t)w->blocks.dt->bytes;
    struct grid_scales sc;
    for (int j = 0; j < n && w->m >= 0; j++) {
        g->get(block + (size_t)j * bytes, &sc);
        f->unit[j] = fabsf(sc.d);
    }
    enum fit_moved moved = fit->move(f);
    for (int j = 0; j < n && moved != FIT_MOVED_ODD; j++) {
        sc = (struct grid_scales){.d = half_rounded(f->s[j]), .dmin = half_rounded(f->m[j])};
        if (!isfinite(sc.d) || !isfinite(sc.dmin))
            return FIT_MOVED_ODD;
        if ((f->s[j] < 0 || f->s[j] > 0) && !(sc.d < 0 || sc.d > 0))
            moved = FIT_MOVED_LOST;
        g->set(block + (size_t)j * bytes, &sc);
    }
    return moved;
}

/* x <- x exp(p), p <- 0; x as an f16. */
static float move_half(float *x, float *p)
{
    *x *= expf(*p);
    *p = 0;
    return half_rounded(*x);
}

/* The latents x of a block go with their grid, from `was` to `is`: their codes stay. */
static void carry(const struct grid *g, const struct grid_scales *was, const struct grid_scales *is,
                  float *x)
{
    for (int j = 0; j < g->subs; j++, x += g->size) {
        const float s = was->d * (float)was->scale[j];
        const float m = g->min_hi ? was->dmin * (float)was->min[j] : 0;
        const float to = g->min_hi ? is->dmin * (float)is->min[j] : 0;
        const float k = s < 0 || s > 0 ? is->d * (float)is->scale[j] / s : 1;
        for (int i = 0; i < g->size; i++)
            x[i] = (x[i] + m) * k - to;
    }
}

/* d and dmin of a row's blocks, and its latents x; pm NULL: there is no dmin. */
static enum fit_moved move_super(const struct qat_weight *w, char *block, float *d, float *pd,
                                 float *dmin, float *pm, float *x)
{
    enum fit_moved moved = FIT_MOVED;
    for (int64_t i = 0; i < scales_of(w); i++, block += w->blocks.dt->bytes) {
        struct grid_scales sc = {0};
        w->grid->get(block, &sc);
        const struct grid_scales old = sc;
        sc.d = move_half(d + i, pd + i);
        if (pm)
            sc.dmin = move_half(dmin + i, pm + i);
        if (!isfinite(sc.d) || !isfinite(sc.dmin))
            return FIT_MOVED_ODD;
        const bool same = fabsf(sc.d - old.d) <= 0 && fabsf(sc.dmin - old.dmin) <= 0;
        if ((old.d < 0 || old.d > 0) && !(sc.d < 0 || sc.d > 0))
            moved = FIT_MOVED_LOST;
        if (same)
            continue;
        w->grid->set(block, &sc);
        carry(w->grid, &old, &sc, x + i * w->blocks.dt->block);
    }
    return moved;
}

static void note(const struct qat_weight *w, int64_t row, enum fit_moved moved)
{
    if (moved)
        qat_note(w->of, w, row, moved == FIT_MOVED_ODD ? QAT_NOT_FINITE : QAT_COLLAPSED);
}

void qat_scales_move(struct qat_weight *w, int64_t row)
{
    const struct grid *g = w->grid;
    const struct dtype *dt = w->blocks.dt;
    const struct qat *q = w->of;
    const int64_t subs = tensor_cols(&w->blocks) / g->size;
    const int most = grid_flat(g) ? FIT_LANES : g->subs; // a block of codes at a time
    char *block = first_block(w, row);
    float *s = at(w, w->s, q->value, row), *m = at(w, w->m, q->value, row);
    float *ds = at(w, w->s, q->scales.latent, row), *dm = at(w, w->m, q->scales.latent, row);
    if (w->of->options.super) {
        note(w, row,
             move_super(w, block, s, ds, m, dm, w->p->latent + row * tensor_cols(&w->blocks)));
        return;
    }
    leap(subs, s, ds);
    for (int64_t j = 0, n; j < subs; j += n, block += n / g->subs * dt->bytes) {
        struct fit_moves f = still(g);
        n = subs - j < most ? subs - j : most;
        load(&f, (int)n, s + j, ds + j, m ? m + j : NULL, m ? dm + j : NULL);
        const enum fit_moved moved =
            f.coded ? move_codes(g, block, &f) : move_flat(w, block, (int)n, &f);
        memcpy(s + j, f.s, (size_t)n * sizeof *s);
        if (m)
            memcpy(m + j, f.m, (size_t)n * sizeof *m);
        note(w, row, moved);
    }
}

void qat_scales_pull(const struct qat_weight *w, int64_t row, const float *x, const float *dy)
{
    const struct grid *g = w->grid;
    const int64_t subs = tensor_cols(&w->blocks) / g->size;
    const float lo = (float)(g->level ? g->level[g->lo] : g->lo);
    const float hi = (float)(g->level ? g->level[g->hi] : g->hi);
    const int64_t n = tensor_cols(&w->blocks) / scales_of(w);
    const float f = 1 / sqrtf((float)n * fmaxf(fabsf(lo), fabsf(hi)));
    const float *s = at(w, w->s, w->of->value, row);
    float *ds = at(w, w->s, w->of->scales.grad, row), *dm = at(w, w->m, w->of->scales.grad, row);
    if (w->of->options.super) {
        grid_pull_super(&w->blocks, row, dy, ds, dm);
        for (int64_t i = 0; i < scales_of(w); i++)
            ds[i] *= f;
        for (int64_t i = 0; dm && i < scales_of(w); i++)
            dm[i] *= f;
        return;
    }
    grid_pull(&w->blocks, row, x, dy, ds, dm);
    for (int64_t j = 0; j < subs; j++)
        ds[j] = s[j] * f * ds[j];
    for (int64_t j = 0; dm && j < subs; j++)
        dm[j] = -dm[j];
}
