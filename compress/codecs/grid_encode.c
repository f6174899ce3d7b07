/* Encoders of all formats: which scales to search, around the kernels of fit.h. */
#include <math.h>
#include <string.h>

#include "autograd/base/half.h"
#include "compress/codecs/fit.h"
#include "compress/codecs/grid.h"
#include "compress/codecs/regrid.h"
#include "compress/codecs/settle.h"

/* Blocks of a row that are searched together: as many as there are lanes for. */
struct batch {
    const struct grid *g;
    const struct fits *kernels;
    int blocks, per, size;     /* lanes of a block, elements of a lane */
    const float *x;            /* [blocks][per * size] */
    const float *w;            /* likewise, importance; NULL: none */
    float mean;                /* of x^2 over the row */
    bool important[FIT_LANES]; /* block b has an importance that counts */
    int exp[FIT_LANES];        /* block b of x is that of the row times 2^exp */
    float top[FIT_LANES];      /* the largest |x| of block b of the row, if exp is 0 */
    struct grid_scales best[FIT_LANES];
    float err[FIT_LANES]; /* of best, by block */
    struct fit f;
    float x_copy[FIT_LANES * FIT_SIZE], w_copy[FIT_LANES * FIT_SIZE];
};

/* ---- what is out of the ordinary ---- */

/* x <- a copy that the search can bear: no infinities, NaN as 0, magnitudes near 1, all lanes. */
static void tame(struct batch *t)
{
    const int n = t->per * t->size;
    memset(t->x_copy, 0, sizeof t->x_copy);
    for (int b = 0; b < t->blocks; b++) {
        const float *x = t->x + b * n;
        float top = 0, *y = t->x_copy + b * n;
        for (int i = 0; i < n; i++) {
            y[i] = isnan(x[i]) ? 0 : fmaxf(-0x1p126f, fminf(x[i], 0x1p126f));
            top = fmaxf(top, fabsf(y[i]));
        }
        int e = 0;
        frexpf(top, &e);
        t->exp[b] = top < 0x1p-30f || top > 0x1p30f ? -e : 0;
        for (int i = 0; i < n && t->exp[b]; i++)
            y[i] = ldexpf(y[i], t->exp[b]);
    }
    t->x = t->x_copy;
}

/* top: the largest magnitude of each block, by their bits, which order as the numbers do. */
static bool ordinary(struct batch *t)
{
    uint32_t odd = 0;
    bool yes = true;
    for (int l = 0; l < t->blocks * t->per; l++)
        odd |= half_bits(t->f.odd[l]) << 1;
    for (int b = 0; b < t->blocks; b++) {
        uint32_t top = 0;
        for (int l = b * t->per; l < (b + 1) * t->per; l++) {
            const uint32_t low = half_bits(t->f.low[l]) & 0x7fffffff;
            const uint32_t high = half_bits(t->f.high[l]) & 0x7fffffff;
            const uint32_t more = low > high ? low : high;
            top = more > top ? more : top;
        }
        t->top[b] = half_from(top);
        yes = yes && (top == 0 || (t->top[b] > 0x1p-30f && t->top[b] < 0x1p30f));
    }
    return yes && !odd;
}

/* Without importance: weights far beyond the others of their row count more, (|x| / beyond sigma)^4
   times, where there are any. In trained models a few of them stand where the largest activations
   are, and decide what the whole model says (Yu et al., "The super weight in large language
   models", 2024, arXiv 2411.07191); by squared error alone a coarse format cuts them off. */
static void weigh_outliers(struct batch *t)
{
    struct fit *f = &t->f;
    for (int b = 0; b < t->blocks; b++) {
        const double least = (double)t->mean * (double)t->g->search.beyond *
                             (double)t->g->search.beyond * ldexp(1, 2 * t->exp[b]);
        float top = 0;
        for (int l = b * t->per; l < (b + 1) * t->per; l++)
            top = fmaxf(top, fmaxf(-f->low[l], f->high[l]));
        if (!((double)top * (double)top > least && least > 0x1p-120 && least < 0x1p120))
            continue;
        for (int l = 0; l < f->lanes && !f->weighted; l++)
            for (int i = 0; i < f->size; i++)
                f->w[i][l] = 1;
        f->weighted = true;
        const float inverse = (float)(1 / least);
        for (int l = b * t->per; l < (b + 1) * t->per; l++)
            for (int i = 0; i < f->size; i++) {
                const float r = f->x[i][l] * f->x[i][l] * inverse;
                f->w[i][l] = r > 1 ? r * r : 1;
            }
    }
}

/* Importance counts in proportion to its mean over the block, and a little everywhere, so that no
   element is lost; it does not count if it has none. */
static void weigh(struct batch *t)
{
    fit_lanes gain, floor;
    for (int l = 0; l < FIT_LANES && t->f.weighted; l++) {
        gain[l] = !t->w && l < t->blocks * t->per;
        floor[l] = 1 - gain[l];
    }
    memset(t->important, 0, sizeof t->important);
    for (int b = 0; b < t->blocks && t->w; b++) {
        float sum = 0;
        for (int l = b * t->per; l < (b + 1) * t->per; l++)
            sum += t->f.sw[l];
        const float mean = sum / (float)(t->per * t->size);
        if (!(mean > 0x1p-100f && mean < 0x1p100f))
            continue;
        t->important[b] = true;
        for (int l = b * t->per; l < (b + 1) * t->per; l++) {
            gain[l] = 1 / mean;
            floor[l] = 0x1p-16f;
        }
    }
    t->kernels->ready(&t->f, gain, floor);
}

/* f, exp <- the blocks at x, w (or NULL). */
static void load(struct batch *t, const float *x, const float *w)
{
    const int lanes = t->blocks * t->per, n = lanes * t->size;
    t->kernels = lanes > FIT_LANES / 2 ? fit : fit->narrow;
    t->f.lanes =
        lanes > FIT_LANES / 2 || t->kernels->width > FIT_LANES / 2 ? FIT_LANES : FIT_LANES / 2;
    t->x = x;
    t->w = w;
    t->f.weighted = w != NULL;
    memset(t->exp, 0, sizeof t->exp);
    if (lanes < t->f.lanes) {
        tame(t);
        memset(t->w_copy, 0, sizeof t->w_copy);
        if (w)
            w = memcpy(t->w_copy, w, (size_t)n * sizeof *w);
    }
    t->kernels->load(&t->f, t->x, w);
    if (!ordinary(t)) {
        tame(t);
        t->kernels->load(&t->f, t->x, w);
    }
    if (!w && t->g->search.beyond > 0)
        weigh_outliers(t);
    weigh(t);
}

/* ---- super-blocks ---- */

/* Codes for the d and dmin of next[]; where they are better than all before, best[]. */
static void try_codes(struct batch *t, const struct grid_scales *next)
{
    struct fit *f = &t->f;
    for (int l = 0; l < f->lanes; l++) {
        const int b = l / t->per;
        f->d[l] = b < t->blocks ? next[b].d : 0;
        f->dmin[l] = b < t->blocks ? next[b].dmin : 0;
    }
    t->kernels->codes(f);
    for (int b = 0; b < t->blocks; b++) {
        float err = 0; // of no interest where there is one try
        for (int l = b * t->per; l < (b + 1) * t->per && t->g->search.passes > 1; l++)
            err += f->err[l];
        if (!(err < t->err[b]))
            continue;
        t->err[b] = err;
        t->best[b].d = next[b].d;
        t->best[b].dmin = next[b].dmin;
        for (int j = 0; j < t->g->subs; j++)
            t->best[b].scale[j] = (int16_t)f->scale[b * t->per + j];
        for (int j = 0; j < t->g->subs && f->affine; j++)
            t->best[b].min[j] = (int16_t)f->min[b * t->per + j];
    }
}

/* The d and dmin that are best with the codes just found, by least squares. */
static void improve(const struct batch *t, int b, struct grid_scales *next)
{
    const struct fit *f = &t->f;
    double dd = 0, dm = 0, mm = 0, dx = 0, mx = 0;
    for (int l = b * t->per; l < (b + 1) * t->per; l++) {
        const double s = f->scale[l], m = f->min[l], base = f->base[l];
        dd += s * s * f->svv[l];
        dx += s * (f->svx[l] + base * f->sv[l]);
        if (f->clamped) {
            dm += s * m * f->sv[l];
            mm += m * m * f->sw[l];
            mx += m * (f->sx[l] + base * f->sw[l]);
        }
    }
    const double det = dd * mm - dm * dm;
    double d = next->d, dmin = next->dmin;
    if (det > 1e-9 * dd * mm) {
        d = (dx * mm - mx * dm) / det;
        dmin = (dx * dm - mx * dd) / det;
    } else if (dd > 0) {
        d = (dx + dmin * dm) / dd;
    }
    settle_halves(t->g, t->exp[b], d > 0 ? (float)d : 0, dmin > 0 ? (float)dmin : 0, next);
}

/* The first d and dmin: the largest scale (signed: about the largest that there can be) and the
   largest min have the highest codes. */
static void first_scales(const struct batch *t, int b, struct grid_scales *next)
{
    const struct fit *f = &t->f;
    float d = 0, dmin = 0;
    for (int l = b * t->per; l < (b + 1) * t->per; l++) {
        const float m = -(f->base[l] + f->c[l]);
        float s = f->s[l];
        if (!f->affine) // of the sign that asks for less
            s = t->g->search.full *
                (f->reach[0][l] < f->reach[1][l] ? f->reach[0][l] : f->reach[1][l]);
        d = d < s ? s : d;
        dmin = dmin < m ? m : dmin;
    }
    settle_halves(t->g, t->exp[b], d / f->scale_hi, f->affine ? dmin / f->min_hi : 0, next);
}

static void search_super(struct batch *t)
{
    struct grid_scales next[FIT_LANES] = {{0}};
    if (t->f.affine)
        t->kernels->start(&t->f);
    for (int b = 0; b < t->blocks; b++)
        first_scales(t, b, &next[b]);
    const int passes = t->g->search.passes;
    for (int pass = 0; pass < passes; pass++) {
        t->f.first = pass == 0;
        t->f.more = pass + 1 < passes;
        try_codes(t, next);
        for (int b = 0; b < t->blocks && t->f.more; b++)
            improve(t, b, &next[b]);
    }
}

/* ---- blocks of one scale ---- */

static void search_blocks(struct batch *t)
{
    t->kernels->start(&t->f);
    for (int b = 0; b < t->blocks; b++) {
        t->best[b] = (struct grid_scales){.scale = {1}, .min = {1}};
        settle_halves(t->g, t->exp[b], t->f.s[b], -(t->f.base[b] + t->f.c[b]), &t->best[b]);
    }
}

/* All lanes share d: some first ones, each improved by turns of codes and least squares. */
static void search_ternary(struct batch *t)
{
    struct grid_scales next = {0};
    float top = 0;
    t->f.more = true;
    for (int l = 0; l < t->per; l++) {
        t->f.scale[l] = 1;
        top = fmaxf(top, fmaxf(-t->f.low[l], t->f.high[l]));
    }
    for (int k = 1; k <= t->f.starts; k++) {
        settle_halves(t->g, t->exp[0], top * (float)k / (float)t->f.starts, 0, &next);
        for (int pass = 0; pass < t->g->search.passes; pass++) {
            try_codes(t, &next);
            improve(t, 0, &next);
        }
    }
}

/* The scale that just reaches the largest element; nothing is weighed. */
static void search_largest(struct batch *t)
{
    const struct grid *g = t->g;
    const float top = fminf(fit->peak(g->size, t->x), 0x1p127f);
    struct grid_scales *s = &t->best[0];
    *s = (struct grid_scales){.scale = {1}};
    if (g->wide) { // an f32 of 16 bits: with codes of 8 all values are exact
        const uint32_t up = half_bits(top / 127) + 0xff;
        s->d = top < 0x1p-100f ? 0 : half_from(up & ~0xffu);
    } else {
        s->d = settle_half(top / 127, 0);
        if (s->d * 127.5f < top && s->d < 65504) // subnormal, or top is the largest
            s->d = half_float((uint16_t)(half_of(s->d) + 1));
    }
}

/* ---- blocks ---- */

static void write_block(const struct batch *t, int b, char *block)
{
    const struct grid *g = t->g;
    struct settle e = {.g = g,
                       .f = &t->f,
                       .lane = b * t->per,
                       .exp = t->exp[b],
                       .x = t->x + b * t->per * t->size,
                       .w = t->important[b] ? t->w + b * t->per * t->size : NULL,
                       .s = t->best[b]};
    settle_block(&e);
    if (e.exp) {
        e.s.d = ldexpf(e.s.d, -e.exp);
        e.s.dmin = ldexpf(e.s.dmin, -e.exp);
    }
    g->set(block, &e.s);
    g->pack(block, e.q);
}

/* Whether it is plain from the extremes and a few elements that block b lies on no grid: all are
   multiples of one number that the largest is at most so many times. */
static bool no_grid(const struct batch *t, int b)
{
    const struct fit *f = &t->f;
    const float top = t->top[b];
    if (t->exp[b] || top < 0x1p-60f)
        return false;
    const float *x = t->x + b * t->per * t->size, base = f->base[b * t->per];
    return !regrid_could(t->g, x, base, top);
}

/* Writes the block whose x [block] lies on a grid already. */
static bool find(const struct grid *g, const float *x, char *block)
{
    struct grid_scales s;
    int8_t q[GRID_BLOCK];
    if (!regrid_find(g, x, &s, q))
        return false;
    g->set(block, &s);
    g->pack(block, q);
    return true;
}

static void search(struct batch *t)
{
    static void (*const kinds[])(struct batch *) = {
        [GRID_BLOCKS] = search_blocks,
        [GRID_SUPER] = search_super,
        [GRID_TERNARY] = search_ternary,
    };
    for (int b = 0; b < t->blocks; b++) {
        t->best[b] = (struct grid_scales){0};
        t->err[b] = INFINITY;
    }
    kinds[t->g->search.kind](t);
}

static void describe(struct batch *t, const struct grid *g)
{
    const bool ternary = g->search.kind == GRID_TERNARY;
    struct fit *f = &t->f;
    if (g->level && (g->min_hi || g->size != FIT_SIZE || g->lo || g->hi != GRID_LEVELS - 1))
        BUG("a table of levels in a format that there is no search for");
    t->g = g;
    t->per = ternary ? FIT_LANES : g->subs;
    t->size = ternary ? g->size / FIT_LANES : g->size;
    f->size = t->size;
    f->affine = g->min_hi > 0;
    f->clamped = g->min_hi > 1;
    f->level = g->level;
    f->lo = g->level ? g->level[0] : (float)g->lo;
    f->hi = g->level ? g->level[g->hi] : (float)g->hi;
    f->scale_lo = (float)g->scale_lo;
    f->scale_hi = (float)g->scale_hi;
    f->min_hi = (float)g->min_hi;
    f->starts = g->search.starts;
    f->others = g->search.others;
    f->turns = g->search.turns;
    f->around = g->search.around;
    f->mins = g->search.mins;
    f->start = g->search.start;
    f->start_step = g->search.start_step;
    f->unbiased = g->search.unbiased;
    f->first = f->more = f->weighted = false;
    t->w = NULL;
    memset(t->important, 0, sizeof t->important);
}

/* Blocks of a format that is not searched. */
static void encode_largest(struct batch *t, int64_t n, const float *x, char *block, int bytes)
{
    const int block_n = t->g->size;
    t->blocks = 1;
    t->exp[0] = 0;
    for (int64_t i = 0; i < n; i++, x += block_n, block += bytes) {
        t->x = x;
        // the largest element finds its scale again, unless that was a subnormal
        if (!t->g->wide && fit->peak(block_n, x) < 127 * 0x1p-14f && find(t->g, x, block))
            continue;
        search_largest(t);
        write_block(t, 0, block);
    }
}

void grid_encode(struct tensor *t, int64_t row, const float *x, const float *importance)
{
    const struct grid *g = codecs_grid(t->dt);
    struct batch batch;
    describe(&batch, g);
    char *block = (char *)t->data + (size_t)row * tensor_row_bytes(t);
    const int64_t n = tensor_cols(t) / t->dt->block;
    if (g->search.kind == GRID_LARGEST) {
        encode_largest(&batch, n, x, block, t->dt->bytes);
        return;
    }
    const int most = FIT_LANES / batch.per;
    batch.mean = fit->dot((int)tensor_cols(t), x, x) / (float)tensor_cols(t);
    for (int64_t i = 0; i < n; i += most) {
        const int64_t at = i * t->dt->block;
        batch.blocks = (int)(n - i < most ? n - i : most);
        load(&batch, x + at, importance ? importance + at : NULL);
        search(&batch);
        for (int b = 0; b < batch.blocks; b++) {
            char *to = block + (i + b) * t->dt->bytes;
            if (no_grid(&batch, b) || !find(g, x + at + b * t->dt->block, to))
                write_block(&batch, b, to);
        }
    }
}
