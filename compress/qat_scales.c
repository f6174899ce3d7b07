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
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "autograd/base/half.h"
#include "autograd/base/mem.h"
#include "compress/codecs/fit.h"
#include "compress/codecs/grid.h"
#include "compress/qat_parts.h"

static const float ROOM = 16.0f / 15;     // of d above the fit: codes can grow
static const float COLLAPSED = 1.0f / 16; // of the smallest code

static bool is_flat(const struct grid *g)
{
    return g->scale_lo == g->scale_hi;
}

static int declare(struct qat *q, const struct qat_weight *w, const char *what)
{
    char name[PARAM_NAME + 8];
    const int64_t n = tensor_numel(&w->blocks) / w->grid->size;
    snprintf(name, sizeof name, "%s.%s", w->p->name, what);
    return store_add(&q->scales, name, 1, &n, 0) ? -1 : q->scales.n - 1;
}

int qat_scales_add(struct qat *q, struct qat_weight *w)
{
    w->s = w->m = -1;
    if (!q->options.learned || !w->grid)
        return 0;
    w->s = declare(q, w, "s");
    if (w->s >= 0 && w->grid->min_hi)
        w->m = declare(q, w, "m");
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
                     : slab + (q->scales.p[param].latent - q->scales.latent) +
                           row * (tensor_cols(&w->blocks) / w->grid->size);
}

static char *first_block(const struct qat_weight *w, int64_t row)
{
    return (char *)w->blocks.data + (size_t)row * tensor_row_bytes(&w->blocks);
}

static float half_rounded(float x)
{
    return half_float(half_of(x));
}

/* To the nearest whole number, |x| < 2^22, without a call. */
static float whole(float x)
{
    return x + 0x1.8p23f - 0x1.8p23f;
}

/* Moves are small: a polynomial of relative error 1e-7, the same bits everywhere, is enough. */
static float exponential(float x)
{
    return fabsf(x) < 0.125f ? 1 + x * (1 + x * (1.0f / 2 + x * (1.0f / 6 + x * (1.0f / 24))))
                             : expf(x);
}

/* x / d as a code of lo ... hi, never 0; x is kept where codes can follow. */
static int code_of(float *x, float d, int lo, int hi)
{
    float r = *x / d;
    if (r > (float)hi + 0.5f || r < (float)lo - 0.5f) {
        r = r > 0 ? (float)hi + 0.5f : (float)lo - 0.5f;
        *x = r * d;
    }
    const int code = (int)whole(r);
    return code > hi ? hi : code < lo ? lo : code || lo > 0 ? code : r < 0 ? -1 : 1;
}

/* The block's scales for latents s [subs], m [subs] or NULL. False: one is lost. */
static bool codes(const struct grid *g, float *s, float *m, struct grid_scales *sc)
{
    bool sound = true;
    if (is_flat(g)) {
        sc->d = half_rounded(s[0]);
        sound = !(s[0] < 0 || s[0] > 0) || sc->d < 0 || sc->d > 0;
        if (m)
            sc->dmin = half_rounded(m[0]);
        return sound;
    }
    for (int j = 0; j < g->subs; j++) {
        const bool dead = !(s[j] < 0 || s[j] > 0) || !(sc->d < 0 || sc->d > 0);
        sc->scale[j] = (int16_t)(dead ? 0 : code_of(&s[j], sc->d, g->scale_lo, g->scale_hi));
        sound = sound && (dead || fabsf(s[j]) >= COLLAPSED * fabsf(sc->d));
        if (!m)
            continue;
        float r = sc->dmin < 0 || sc->dmin > 0 ? m[j] / sc->dmin : 0;
        r = r > 0 ? fminf(r, (float)g->min_hi + 0.5f) : 0;
        m[j] = r * sc->dmin;
        const int code = (int)whole(r);
        sc->min[j] = (int16_t)(code > g->min_hi ? g->min_hi : code);
    }
    return sound;
}

void qat_scales_take(struct qat_weight *w, int64_t row, bool room)
{
    const struct grid *g = w->grid;
    const struct dtype *dt = w->blocks.dt;
    char *block = first_block(w, row);
    float *s = at(w, w->s, w->of->value, row), *m = at(w, w->m, w->of->value, row);
    for (int64_t i = 0; i < tensor_cols(&w->blocks); i += dt->block, block += dt->bytes) {
        struct grid_scales sc = {0};
        g->get(block, &sc);
        for (int j = 0; j < g->subs; j++) {
            s[j] = sc.d * (float)sc.scale[j];
            if (m)
                m[j] = sc.dmin * (float)sc.min[j];
        }
        if (room && !is_flat(g)) {
            sc.d = half_rounded(sc.d * ROOM);
            sc.dmin = half_rounded(sc.dmin * ROOM);
        }
        if (room) {
            codes(g, s, m, &sc);
            g->set(block, &sc);
        }
        s += g->subs;
        m = m ? m + g->subs : NULL;
    }
}

void qat_scales_move(struct qat_weight *w, int64_t row)
{
    const struct grid *g = w->grid;
    const struct dtype *dt = w->blocks.dt;
    char *block = first_block(w, row);
    float *s = at(w, w->s, w->of->value, row), *m = at(w, w->m, w->of->value, row);
    float *ds = at(w, w->s, w->of->scales.latent, row),
          *dm = at(w, w->m, w->of->scales.latent, row);
    for (int64_t i = 0; i < tensor_cols(&w->blocks); i += dt->block, block += dt->bytes) {
        struct grid_scales sc = {0};
        bool finite = true;
        g->get(block, &sc);
        for (int j = 0; j < g->subs; j++, s++, ds++) {
            const float unit = fabsf(sc.d * (float)sc.scale[j]);
            *s *= exponential(*ds);
            *ds = 0;
            finite = finite && isfinite(*s);
            if (!m)
                continue;
            *m += unit * *dm;
            *dm = 0;
            finite = finite && isfinite(*m);
            m++, dm++;
        }
        const bool sound = finite && codes(g, s - g->subs, m ? m - g->subs : NULL, &sc);
        finite = finite && isfinite(sc.d) && isfinite(sc.dmin);
        if (!finite)
            qat_note(w->of, w, row, QAT_NOT_FINITE);
        else if (!sound)
            qat_note(w->of, w, row, QAT_COLLAPSED);
        if (finite)
            g->set(block, &sc);
    }
}

void qat_scales_pull(const struct qat_weight *w, int64_t row, const float *x, const float *dy)
{
    static const float ones[GRID_SUBS] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    static const float none[GRID_SUBS];
    const struct grid *g = w->grid;
    const struct dtype *dt = w->blocks.dt;
    const float lo = (float)(g->level ? g->level[g->lo] : g->lo);
    const float hi = (float)(g->level ? g->level[g->hi] : g->hi);
    const float f = 1 / sqrtf((float)g->size * fmaxf(fabsf(lo), fabsf(hi)));
    const char *block = first_block(w, row);
    const float *s = at(w, w->s, w->of->value, row);
    float *ds = at(w, w->s, w->of->scales.grad, row), *dm = at(w, w->m, w->of->scales.grad, row);
    int8_t q[GRID_BLOCK];
    float v[GRID_BLOCK], step[GRID_SUBS], min[GRID_SUBS], sum[GRID_SUBS], lost[GRID_SUBS];
    for (int64_t b = 0; b < tensor_cols(&w->blocks); b += dt->block, block += dt->bytes) {
        struct grid_scales sc = {0};
        g->get(block, &sc);
        g->unpack(block, q);
        for (int j = 0; j < g->subs; j++) {
            step[j] = sc.d * (float)sc.scale[j];
            min[j] = g->min_hi ? sc.dmin * (float)sc.min[j] : 0;
        }
        fit->spread(dt->block, g->size, g->level, q, ones, none, v);
        fit->pull(dt->block, g->size, lo, hi, x + b, dy + b, v, step, min, sum, lost);
        for (int j = 0; j < g->subs; j++) {
            const bool dead = !(step[j] < 0 || step[j] > 0);
            *ds++ = dead ? 0 : *s * f * sum[j];
            s++;
            if (dm)
                *dm++ = -lost[j] * fabsf(step[j]);
        }
    }
}
