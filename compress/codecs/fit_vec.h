/*
 * The kernels of fit.h over vf. Included once by each fit_<isa>.c, which defines FIT_TABLE, the
 * name of its table, and FIT_NARROW. A loop over lanes takes VF_N of them at once; what a kernel
 * finds for a lane does not depend on the others.
 */
#include <string.h>

#include "autograd/kernels/vec.h"
#include "compress/codecs/fit.h"
#include "compress/codecs/grid.h"

#define INLINE static inline __attribute__((always_inline))

/* ---- loading ---- */

INLINE void gather(fit_lanes *to, int size, int l, const float *x)
{
    enum { TILE = VF_N };
    for (int i = 0; i < size; i += TILE) {
        vf r[TILE];
        for (int k = 0; k < TILE; k++)
            r[k] = vf_load(x + (l + k) * size + i);
        vf_transpose(r);
        for (int k = 0; k < TILE; k++)
            vf_store(&to[i + k][l], r[k]);
    }
}

static void load(struct fit *f, const float *x, const float *w)
{
    const vf zero = vf_set(0);
    for (int l = 0; l < f->lanes; l += VF_N) {
        gather(f->x, f->size, l, x);
        vf low = vf_load(&f->x[0][l]), high = low, odd = zero, sw = zero;
        for (int i = 0; i < f->size; i++) {
            const vf v = vf_load(&f->x[i][l]);
            low = vf_min(low, v);
            high = vf_max(high, v);
            odd = odd + v * zero;
        }
        if (f->weighted) {
            gather(f->w, f->size, l, w);
            for (int i = 0; i < f->size; i++)
                sw = sw + vf_load(&f->w[i][l]);
        }
        vf_store(&f->low[l], low);
        vf_store(&f->high[l], high);
        vf_store(&f->odd[l], odd);
        vf_store(&f->sw[l], sw);
    }
}

static float peak(int n, const float *x)
{
    const vf zero = vf_set(0);
    vf top = zero;
    for (int i = 0; i < n; i += VF_N) {
        const vf v = vf_load(x + i), a = vf_pick_less(v, zero, zero - v, v);
        top = vf_pick_less(top, a, a, top);
    }
    float t[VF_N], most = 0;
    vf_store(t, top);
    for (int i = 0; i < VF_N; i++)
        most = most < t[i] ? t[i] : most;
    return most;
}

static void ready(struct fit *f, const float *gain, const float *floor)
{
    const vf zero = vf_set(0);
    for (int l = 0; l < f->lanes; l += VF_N) {
        const vf low = vf_load(&f->low[l]);
        vf base = low;
        if (!f->affine || f->clamped)
            base = f->affine ? vf_min(low, zero) : zero;
        const vf g = vf_load(gain + l), fl = vf_load(floor + l);
        vf sw = zero, sx = zero;
        const bool as_is = !f->affine && !f->weighted; // and sums of no use
        for (int i = 0; i < f->size && !as_is; i++) {
            const vf v = vf_load(&f->x[i][l]) - base;
            vf w = vf_set(1);
            if (f->weighted) {
                w = vf_pick_less(zero, g, vf_load(&f->w[i][l]) * g + fl, fl);
                vf_store(&f->w[i][l], w);
            }
            vf_store(&f->x[i][l], v);
            sw = sw + w;
            sx = sx + w * v;
        }
        if (!f->affine) {
            const vf high = vf_load(&f->high[l]), a = vf_set(1 / f->lo), b = vf_set(1 / f->hi);
            vf_store(&f->reach[0][l], vf_max(vf_max(low * a, high * b), zero));
            vf_store(&f->reach[1][l], vf_max(vf_max(zero - high * a, zero - low * b), zero));
        }
        vf_store(&f->base[l], base);
        vf_store(&f->sw[l], sw);
        vf_store(&f->sx[l], sx);
    }
}

/* ---- one grid on one vector of lanes ---- */

/* The levels of a format that names a table, and what lies half-way between neighbours. */
struct table {
    float level[GRID_LEVELS], middle[GRID_LEVELS - 1];
};

/* Zeros where there is none. */
INLINE struct table table_of(const int8_t *level)
{
    struct table t = {{0}, {0}};
    for (int k = 0; level && k < GRID_LEVELS; k++)
        t.level[k] = level[k];
    for (int k = 0; level && k < GRID_LEVELS - 1; k++)
        t.middle[k] = 0.5f * (float)(level[k] + level[k + 1]);
    return t;
}

/* The level nearest to x, the lower one at a tie; of all integers lo ... hi, if there is no table.
 */
INLINE vf nearest(const struct table *t, vf x, vf lo, vf hi)
{
    if (!t)
        return vf_round(vf_min(vf_max(x, lo), hi));
    vf v = vf_set(t->level[0]);
#pragma GCC unroll 15
    for (int k = 0; k < GRID_LEVELS - 1; k++)
        v = vf_pick_less(vf_set(t->middle[k]), x, vf_set(t->level[k + 1]), v);
    return v;
}

/* Likewise its code. */
INLINE vf nearest_code(const struct table *t, vf x)
{
    vf code = vf_set(0);
#pragma GCC unroll 15
    for (int k = 0; k < GRID_LEVELS - 1; k++)
        code = vf_pick_less(vf_set(t->middle[k]), x, vf_set((float)(k + 1)), code);
    return code;
}

/* What is constant while a case is compiled; but for the table's values, not whether there is one.
 */
struct kind {
    int size;
    bool affine, weighted;
    const struct table *table;
};

/* 1 / s; 0 for 0 and NaN */
INLINE vf inverse(vf s)
{
    const vf zero = vf_set(0), r = vf_set(1) / s;
    return vf_pick_less(zero, s, r, vf_pick_less(s, zero, r, zero));
}

/* 1 / s for s >= 0; 0 has a large finite one: elements go to the ends, and s times those is 0 */
INLINE vf inverse_of(vf s)
{
    return vf_set(1) / vf_max(s, vf_set(0x1p-120f));
}

struct sums {
    vf v, vv, vx;
};

/* Sums over the elements of w v, w v^2, w v x, with v the level nearest to (x + n) inv; n counts if
   the grid is affine. */
INLINE struct sums sums(const struct fit *f, int l, struct kind k, vf n, vf inv)
{
    const vf lo = vf_set(f->lo), hi = vf_set(f->hi);
    struct sums s = {vf_set(0), vf_set(0), vf_set(0)};
    for (int i = 0; i < k.size; i++) {
        const vf x = vf_load(&f->x[i][l]);
        vf t = x;
        if (k.affine)
            t = t + n;
        const vf v = nearest(k.table, t * inv, lo, hi);
        vf wv = v;
        if (k.weighted)
            wv = wv * vf_load(&f->w[i][l]);
        if (k.affine)
            s.v = s.v + wv;
        s.vv = s.vv + wv * v;
        s.vx = s.vx + wv * x;
    }
    return s;
}

/* The error with step s = 1 / inv and x + n as multiples of it. */
INLINE vf error(const struct fit *f, int l, struct kind k, vf n, vf s, vf inv)
{
    const vf lo = vf_set(f->lo), hi = vf_set(f->hi);
    vf err = vf_set(0);
    for (int i = 0; i < k.size; i++) {
        vf x = vf_load(&f->x[i][l]);
        if (k.affine)
            x = x + n;
        const vf e = x - s * nearest(k.table, x * inv, lo, hi);
        vf we = e;
        if (k.weighted)
            we = we * vf_load(&f->w[i][l]);
        err = err + we * e;
    }
    return err;
}

INLINE void put_sums(struct fit *f, int l, struct sums a)
{
    vf_store(&f->sv[l], a.v);
    vf_store(&f->svv[l], a.vv);
    vf_store(&f->svx[l], a.vx);
}

/* ---- affine ---- */

struct line {
    vf s, c, slope, gain; /* gain: the error that it saves against s = c = 0 */
};

/* The line through the codes' sums by least squares; takes it if it is better. Where all codes are
   equal, as far as sums can tell, its c is not determined, and 0: weights of one sign and nearly
   one size, which the highest code alone reaches. */
INLINE void improve(const struct fit *f, int l, struct sums a, struct line *best)
{
    const vf zero = vf_set(0), one = vf_set(1);
    const vf sw = vf_load(&f->sw[l]), sx = vf_load(&f->sx[l]), base = vf_load(&f->base[l]);
    const vf both = sw * a.vv, det = both - a.v * a.v, least = both * vf_set(0x1p-16f);
    vf c = (a.vv * sx - a.v * a.vx) / vf_pick_less(least, det, det, one);
    c = vf_pick_less(least, det, c, zero);
    if (f->clamped)
        c = vf_min(c, zero - base); // m >= 0
    const vf s = (a.vx - c * a.v) / vf_pick_less(zero, a.vv, a.vv, one);
    vf gain = s * (a.vx + a.vx - s * a.vv - (c + c) * a.v) + c * (sx + sx - c * sw);
    gain = vf_pick_less(zero, s, gain, zero);
    best->s = vf_pick_less(best->gain, gain, s, best->s);
    best->c = vf_pick_less(best->gain, gain, c, best->c);
    best->slope = vf_pick_less(best->gain, gain, a.v, best->slope);
    best->gain = vf_pick_less(best->gain, gain, gain, best->gain);
}

INLINE void affine_start(struct fit *f, struct kind kind)
{
    const vf zero = vf_set(0);
    for (int l = 0; l < f->lanes; l += VF_N) {
        const vf sw = vf_load(&f->sw[l]), sx = vf_load(&f->sx[l]), base = vf_load(&f->base[l]);
        const vf inv = inverse_of(vf_load(&f->high[l]) - base);
        vf c = sx / sw; // all equal
        if (f->clamped)
            c = vf_min(c, zero - base);
        struct line best = {zero, c, zero, c * (sx + sx - c * sw)};
        for (int k = 0; k < f->starts; k++) {
            const vf steps = vf_set(f->hi + f->start + f->start_step * (float)k);
            improve(f, l, sums(f, l, kind, zero, steps * inv), &best);
        }
        for (int k = 0; k < f->turns; k++)
            improve(f, l, sums(f, l, kind, zero - best.c, inverse_of(best.s)), &best);
        vf_store(&f->s[l], best.s);
        vf_store(&f->c[l], best.c);
        vf_store(&f->slope[l], best.slope / sw);
    }
}

INLINE void affine_codes(struct fit *f, struct kind kind)
{
    const vf zero = vf_set(0), one = vf_set(1);
    const vf most = vf_set(f->scale_hi), most_min = vf_set(f->min_hi);
    for (int l = 0; l < f->lanes; l += VF_N) {
        const vf d = vf_load(&f->d[l]), dmin = vf_load(&f->dmin[l]), base = vf_load(&f->base[l]);
        const vf s = vf_load(&f->s[l]), slope = vf_load(&f->slope[l]);
        const vf m0 = zero - base - vf_load(&f->c[l]), inv_min = inverse_of(dmin);
        const vf middle = vf_round(vf_min(s * inverse_of(d), most)) - vf_set((float)f->around);
        vf codes[FIT_TRIES], mins[FIT_TRIES], invs[FIT_TRIES];
        int n = 0;
        for (int k = 0; k <= 2 * f->around; k++) {
            const vf sc = vf_min(vf_max(middle + vf_set((float)k), zero), most);
            const vf step = d * sc, inv = inverse_of(step);
            // the min that goes with this step, rounded down, then up
            const vf m = vf_min((m0 - (s - step) * slope) * inv_min, most_min);
            vf mc = vf_max(vf_round(m - vf_set(0.5f * (float)(f->mins - 1))), zero);
            for (int j = 0; j < f->mins; j++, n++) {
                codes[n] = sc;
                mins[n] = mc;
                invs[n] = inv;
                mc = vf_min(mc + one, most_min);
            }
        }
        vf scale = zero, min = zero, err = vf_set(3e38f);
        for (int k = 0; k < n; k++) {
            const vf e = error(f, l, kind, dmin * mins[k] + base, d * codes[k], invs[k]);
            scale = vf_pick_less(e, err, codes[k], scale);
            min = vf_pick_less(e, err, mins[k], min);
            err = vf_min(e, err);
        }
        vf_store(&f->scale[l], scale);
        vf_store(&f->min[l], min);
        vf_store(&f->err[l], err);
        if (f->more)
            put_sums(f, l, sums(f, l, kind, dmin * min + base, inverse_of(d * scale)));
    }
}

/* ---- signed ---- */

/* The scale s that saves `gain` of the error against s = 0, which is <x, y>, made less biased
   (settle.h). */
INLINE vf longer(const struct fit *f, int l, struct kind k, vf s, vf gain)
{
    vf xx = vf_set(0);
    for (int i = 0; i < k.size; i++) {
        const vf x = vf_load(&f->x[i][l]);
        vf wx = x;
        if (k.weighted)
            wx = wx * vf_load(&f->w[i][l]);
        xx = xx + wx * x;
    }
    const vf half = vf_set(0.5f) * xx,
             r = xx / vf_pick_less(half, gain, gain, vf_pick_less(vf_set(0), xx, xx, vf_set(1)));
    return vf_pick_less(half, gain, s + s * vf_set(f->unbiased) * (r - vf_set(1)), s);
}

INLINE void signed_start(struct fit *f, struct kind kind)
{
    const vf zero = vf_set(0), one = vf_set(1);
    for (int l = 0; l < f->lanes; l += VF_N) {
        vf best = zero, gain = zero;
        for (int sign = 0; sign < 2; sign++) {
            const vf unit = vf_set(sign ? -1 : 1), full = vf_load(&f->reach[sign][l]);
            for (int k = 0; k < f->starts; k++) {
                const vf s = full * vf_set(f->start + f->start_step * (float)k);
                const struct sums a = sums(f, l, kind, zero, unit * inverse_of(s));
                const vf t = a.vx / vf_pick_less(zero, a.vv, a.vv, one), g = t * a.vx;
                best = vf_pick_less(gain, g, t, best);
                gain = vf_max(gain, g);
            }
        }
        for (int k = 0; k < f->turns; k++) {
            const struct sums a = sums(f, l, kind, zero, inverse(best));
            const vf t = a.vx / vf_pick_less(zero, a.vv, a.vv, one), g = t * a.vx;
            best = vf_pick_less(gain, g, t, best);
            gain = vf_max(gain, g);
        }
        if (f->unbiased > 0)
            best = longer(f, l, kind, best, gain);
        vf_store(&f->s[l], best);
        vf_store(&f->c[l], zero);
    }
}

/* Around the scales of the last time, or, the first time, around what reaches all elements. The
   divisions come first: the errors need not wait for them one by one. */
INLINE void signed_codes(struct fit *f, struct kind kind)
{
    const vf zero = vf_set(0), least = vf_set(f->scale_lo), most = vf_set(f->scale_hi);
    const int n = f->first ? f->starts + f->others : 2 * f->around + 1;
    for (int l = 0; l < f->lanes; l += VF_N) {
        const vf d = vf_load(&f->d[l]), inv_d = inverse_of(d), last = vf_load(&f->scale[l]);
        const vf plus = vf_load(&f->reach[0][l]), minus = zero - vf_load(&f->reach[1][l]);
        // the sign that reaches all with less, and the other one, in codes
        const vf near = inv_d * vf_pick_less(plus, zero - minus, plus, minus);
        const vf far = inv_d * vf_pick_less(plus, zero - minus, minus, plus);
        vf codes[FIT_TRIES], invs[FIT_TRIES];
        for (int k = 0; k < n; k++) {
            vf sc = last + vf_set((float)(k - f->around));
            if (f->first && k < f->starts)
                sc = vf_round(near * vf_set(f->start + f->start_step * (float)k));
            else if (f->first)
                sc = vf_round(far * vf_set(f->start + f->start_step * (float)(k - f->starts)));
            codes[k] = vf_min(vf_max(sc, least), most);
            invs[k] = inverse(d * codes[k]);
        }
        vf scale = zero, err = vf_set(3e38f);
        for (int k = 0; k < n; k++) {
            const vf e = error(f, l, kind, zero, d * codes[k], invs[k]);
            scale = vf_pick_less(e, err, codes[k], scale);
            err = vf_min(e, err);
        }
        vf_store(&f->scale[l], scale);
        vf_store(&f->min[l], zero);
        vf_store(&f->err[l], err);
        if (f->more)
            put_sums(f, l, sums(f, l, kind, zero, inverse(d * scale)));
    }
}

/* each case compiled by itself */

#define CASES(f, affine_fn, signed_fn)                                                             \
    do {                                                                                           \
        if (f->affine && f->size == 16)                                                            \
            CASE(f, affine_fn, 16, true, NULL);                                                    \
        else if (f->affine)                                                                        \
            CASE(f, affine_fn, 32, true, NULL);                                                    \
        else if (f->level)                                                                         \
            CASE(f, signed_fn, 32, false, &table);                                                 \
        else if (f->size == 16)                                                                    \
            CASE(f, signed_fn, 16, false, NULL);                                                   \
        else                                                                                       \
            CASE(f, signed_fn, 32, false, NULL);                                                   \
    } while (0)
#define CASE(f, fn, size, affine, table)                                                           \
    (f->weighted ? fn(f, (struct kind){size, affine, true, table})                                 \
                 : fn(f, (struct kind){size, affine, false, table}))

static void start(struct fit *f)
{
    const struct table table = table_of(f->level);
    CASES(f, affine_start, signed_start);
}

static void codes(struct fit *f)
{
    const struct table table = table_of(f->level);
    CASES(f, affine_codes, signed_codes);
}

#include "compress/codecs/fit_rows_vec.h"

const struct fits FIT_TABLE = {
    .name = FIT_NAME,
    .width = VF_N,
    .narrow = &FIT_NARROW,
    .peak = peak,
    .dot = dot,
    .load = load,
    .ready = ready,
    .start = start,
    .codes = codes,
    .spread = spread,
    .snap = snap,
    .clip = clip,
    .pull = pull,
    .tally = tally,
    .move = move,
};
