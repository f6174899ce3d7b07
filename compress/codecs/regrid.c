#include "compress/codecs/regrid.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/half.h"

/* The block as integers: x = k unit. */
struct whole {
    const struct grid *g;
    const float *x;
    int n;
    double unit;
    int64_t k[GRID_BLOCK];
    int64_t min[GRID_SUBS]; /* of sub-blocks, in units */
};

static int64_t gcd(int64_t a, int64_t b)
{
    while (b) {
        const int64_t r = a % b;
        a = b;
        b = r;
    }
    return a;
}

/* The f16 that is `units` / by units of a block; 0: there is none. */
static float half_units(const struct whole *w, int64_t units, int64_t by)
{
    const double d = (double)units * w->unit / (double)by;
    const float f = (float)d;
    return (double)f == d && fabsf(f) <= 65504 && half_float(half_of(f)) == f ? f : 0;
}

static bool same(float a, float b)
{
    return half_bits(a) == half_bits(b);
}

/* k, unit; false: x has more bits than any grid. */
static bool integers(struct whole *w)
{
    float top = 0;
    for (int i = 0; i < w->n; i++)
        top = fabsf(w->x[i]) > top ? fabsf(w->x[i]) : top;
    if (!(top > 0) || !(top < INFINITY))
        return false;
    int e;
    frexpf(top, &e);
    w->unit = ldexp(1, e - 24);
    const double scale = ldexp(1, 24 - e);
    for (int i = 0; i < w->n; i++) {
        const double k = w->x[i] * scale;
        w->k[i] = (int64_t)k;
        if ((double)w->k[i] != k)
            return false;
    }
    return true;
}

/* The greatest common divisor of all k; 0: they cannot be multiples of a d, at most `most` times.
 */
static int64_t common(const struct whole *w, int64_t most)
{
    int64_t top = 0, all = 0;
    for (int i = 0; i < w->n; i++)
        top = llabs(w->k[i]) > top ? llabs(w->k[i]) : top;
    for (int i = 0; i < w->n; i++) {
        all = gcd(llabs(w->k[i]), all);
        if (all && top / all > most)
            return 0;
    }
    return all;
}

/* ---- signed ---- */

/* q <- the codes of the sub-block x [size] with step s. */
static bool codes_of(const struct grid *g, const float *x, float s, int8_t *q)
{
    for (int i = 0; i < g->size; i++) {
        int code = g->lo - 1;
        if (!g->level && s != 0 && fabsf(x[i] / s) < 256) {
            code = (int)(x[i] / s);
            // not s times a zero: gcc makes (float)code a trunc(), whose zero has the sign of x / s
            const float v = code ? s * (float)code : copysignf(0, s);
            if (code < g->lo || code > g->hi || !same(v, x[i]))
                return false;
        } else {
            do {
                if (++code > g->hi)
                    return false;
            } while (!same(s * (float)(g->level ? g->level[code] : code), x[i]));
        }
        q[i] = (int8_t)code;
    }
    return true;
}

static bool try_signed(const struct whole *w, float d, struct grid_scales *s, int8_t *q)
{
    const struct grid *g = w->g;
    s->d = d;
    for (int j = 0; j < g->subs; j++) {
        int code = g->scale_lo;
        while (!codes_of(g, w->x + j * g->size, d * (float)code, q + j * g->size))
            if (++code > g->scale_hi)
                return false;
        s->scale[j] = (int16_t)code;
    }
    return true;
}

static bool find_signed(const struct whole *w, struct grid_scales *s, int8_t *q)
{
    const struct grid *g = w->g;
    const int64_t most = (int64_t)(g->scale_lo < 0 ? -g->scale_lo : 1) * grid_top(g);
    const int64_t all = common(w, most);
    for (int64_t by = 1; all && by <= most; by++) {
        const float d = half_units(w, all, by);
        if (d != 0 && (try_signed(w, d, s, q) || try_signed(w, -d, s, q)))
            return true;
    }
    return false;
}

/* ---- with a min ---- */

float regrid_floor(float v)
{
    uint16_t h = half_of(fmaxf(fminf(v, 65504), -65504));
    if (half_float(h) > v && v > -65504)
        h = (uint16_t)(h & 0x8000 ? h + 1 : h ? h - 1 : 0x8001);
    return half_float(h);
}

/* A block of one value with a min that is an f16 of its own. */
static bool find_flat(const struct whole *w, struct grid_scales *s, int8_t *q)
{
    const float low = regrid_floor(w->x[0]);
    const double more = ((double)w->x[0] - low) / w->unit;
    s->min[0] = 1;
    s->dmin = 0 - low;
    if (more > 0) {
        s->d = half_units(w, (int64_t)more, w->g->hi);
        memset(q, w->g->hi, (size_t)w->n);
    }
    return !(more < 0) && (more <= 0 || s->d != 0);
}

/* min, k + min. What encoders write has a code of 0 in every sub-block, or its min is 0. */
static void take_mins(struct whole *w)
{
    const struct grid *g = w->g;
    for (int j = 0; j < g->subs; j++) {
        int64_t *k = w->k + j * g->size, low = k[0];
        for (int i = 1; i < g->size; i++)
            low = k[i] < low ? k[i] : low;
        w->min[j] = low > 0 && g->min_hi > 1 ? 0 : -low;
        for (int i = 0; i < g->size; i++)
            k[i] += w->min[j];
    }
}

static bool find_mins(const struct whole *w, struct grid_scales *s)
{
    const struct grid *g = w->g;
    int64_t all = 0;
    for (int j = 0; j < g->subs; j++)
        all = gcd(w->min[j], all);
    for (int by = 1; all && by <= g->min_hi; by++) {
        bool fits = (s->dmin = half_units(w, all, by)) != 0;
        for (int j = 0; j < g->subs; j++) {
            const int64_t code = w->min[j] * by / all;
            s->min[j] = (int16_t)code;
            fits = fits && code <= g->min_hi;
        }
        if (fits)
            return true;
    }
    return !all;
}

/* The scale code and codes of a sub-block with d = all / by units. */
static bool find_scale(const struct whole *w, int j, int64_t all, int64_t by, int16_t *scale,
                       int8_t *q)
{
    const struct grid *g = w->g;
    const int64_t *k = w->k + j * g->size;
    for (int code = g->scale_hi; code >= g->scale_lo; code--) {
        const int64_t step = all * code;
        int i = 0;
        for (; i < g->size; i++) {
            if (k[i] * by > step * g->hi || (step && k[i] * by % step))
                break;
            q[i] = step ? (int8_t)(k[i] * by / step) : 0;
        }
        *scale = (int16_t)code;
        if (i == g->size)
            return true;
    }
    return false;
}

/* A min that is an f16 of its own, of either sign: no code need be 0, the lowest is tried as 0 ...
   hi. q holds the codes for 0. */
static bool find_lowest(const struct whole *w, int64_t all, int64_t by, struct grid_scales *s,
                        int8_t *q)
{
    int8_t top = 0;
    for (int i = 0; i < w->n; i++)
        top = q[i] > top ? q[i] : top;
    s->min[0] = 1;
    for (int low = 0; low + top <= w->g->hi; low++) {
        const int64_t units = w->min[0] * by + low * all;
        s->dmin = half_units(w, units, by);
        if (s->dmin == 0 && units != 0)
            continue;
        for (int i = 0; i < w->n; i++)
            q[i] = (int8_t)(q[i] + low);
        return true;
    }
    return false;
}

static bool find_affine(struct whole *w, struct grid_scales *s, int8_t *q)
{
    const struct grid *g = w->g;
    const int64_t most = (int64_t)g->scale_hi * g->hi;
    take_mins(w);
    bool flat = true;
    for (int i = 0; i < w->n; i++)
        flat = flat && w->k[i] == 0;
    const int64_t all = flat ? 0 : common(w, most);
    if ((!all && !flat) || (g->min_hi > 1 && !find_mins(w, s)))
        return false;
    for (int j = 0; j < g->subs; j++)
        s->scale[j] = (int16_t)g->scale_lo;
    if (flat) {
        memset(q, 0, (size_t)w->n);
        return g->min_hi > 1 || find_flat(w, s, q);
    }
    for (int64_t by = 1; by <= most; by++) {
        bool fits = (s->d = half_units(w, all, by)) != 0;
        for (int j = 0; fits && j < g->subs; j++)
            fits = find_scale(w, j, all, by, &s->scale[j], q + j * g->size);
        if (fits && (g->min_hi > 1 || find_lowest(w, all, by, s, q)))
            return true;
    }
    return false;
}

bool regrid_find(const struct grid *g, const float *x, struct grid_scales *s, int8_t *q)
{
    struct whole w = {.g = g, .x = x, .n = g->subs * g->size};
    float y[GRID_BLOCK];
    *s = (struct grid_scales){0};
    if (!integers(&w) || !(g->min_hi ? find_affine(&w, s, q) : find_signed(&w, s, q)))
        return false;
    grid_values(g, s, q, y);
    return !memcmp(x, y, (size_t)w.n * sizeof *y);
}

bool regrid_could(const struct grid *g, const float *x, float base, float top)
{
    // 2^(23 - exponent of top): top, scaled, is less than 2^24
    const float scale = half_from((277 - (half_bits(top) >> 23)) << 23);
    const bool affine = g->min_hi > 0;
    const uint32_t most = (uint32_t)(affine ? g->hi * g->scale_hi
                                            : grid_top(g) * (g->scale_lo < 0 ? -g->scale_lo : 1));
    uint32_t all = 0, far = affine ? 0 : 1u << 23; // the distance that `most` steps must cover
    for (int i = 0; i < g->size; i++) {
        const double k = fabs((double)x[i] - base) * scale;
        uint32_t a = (uint32_t)(int64_t)k;
        if ((double)a != k)
            return false;
        far = a > far ? a : far;
        while (all && a) { // as Euclid, but what is too small ends it
            const uint32_t rest = all % a;
            all = a;
            a = rest;
            if (a && (uint64_t)a * most < far)
                return false;
        }
        all = all ? all : a;
    }
    return true;
}
