/*
 * Refits of frozen scales. In training the latents move away from where scales were fitted; a new
 * fit from nothing would follow them, but it moves many values that the model has adapted to, and
 * throws training back. Here each sub-block's scale and min go by a code at most (by half the way
 * to least squares where they are no codes), and only where that is worth it: with y what forward
 * used and y' what it would use,
 *
 *     sum w (x - y')^2 + sum w (y' - y)^2  <  (1 - WORTH) sum w (x - y)^2
 *
 * what is gained in distance from the latents x exceeds what the model feels. Without a change of
 * elements' codes that is a step of at most half the way: the proximal point of the error.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/half.h"
#include "autograd/base/mem.h"
#include "compress/codecs/fit.h"
#include "compress/codecs/grid.h"
#include "compress/qat_parts.h"

static const double WORTH = 0.05;

/* A sub-block: latents, weights of their errors (NULL: 1), the levels and values that it has. */
struct sub {
    const struct grid *g;
    const float *x, *w;
    float v[GRID_BLOCK], y[GRID_BLOCK];
};

static double weight(const struct sub *b, int i)
{
    return b->w ? (double)b->w[i] : 1;
}

/* What a grid of this step and min costs: the distance of its values from latents and from y. */
static double cost(const struct sub *b, float step, float min)
{
    const struct grid *g = b->g;
    int8_t q[GRID_BLOCK];
    float y[GRID_BLOCK];
    double sum = 0;
    fit->snap(g->size, g->size, g->level, g->lo, g->hi, b->x, &step, &min, q);
    fit->spread(g->size, g->size, g->level, q, &step, &min, y);
    for (int i = 0; i < g->size; i++) {
        const double e = (double)b->x[i] - (double)y[i], d = (double)y[i] - (double)b->y[i];
        sum += weight(b, i) * (e * e + d * d);
    }
    return sum;
}

static double error(const struct sub *b)
{
    double sum = 0;
    for (int i = 0; i < b->g->size; i++) {
        const double e = (double)b->x[i] - (double)b->y[i];
        sum += weight(b, i) * e * e;
    }
    return sum;
}

/* Half the way to the step and min that fit the codes best. */
static void half_way(const struct sub *b, float *step, float *min)
{
    double w = 0, wv = 0, wvv = 0, wx = 0, wvx = 0;
    for (int i = 0; i < b->g->size; i++) {
        const double k = weight(b, i), v = b->v[i], x = b->x[i];
        w += k;
        wv += k * v;
        wvv += k * v * v;
        wx += k * x;
        wvx += k * v * x;
    }
    const bool affine = b->g->min_hi;
    const double det = affine ? w * wvv - wv * wv : wvv;
    if (!(det > 0))
        return;
    const double s = affine ? (w * wvx - wv * wx) / det : wvx / det;
    const double m = affine ? (s * wv - wx) / w : 0;
    *step = half_float(half_of((float)(0.5 * (*step + s))));
    *min = affine ? half_float(half_of((float)(0.5 * (*min + m)))) : 0;
}

/* Formats whose block has one scale. True: it has moved. */
static bool refit_flat(const struct sub *b, struct grid_scales *s)
{
    float step = s->d, min = b->g->min_hi ? s->dmin : 0;
    half_way(b, &step, &min);
    if (!isfinite(step) || !isfinite(min) || (step < 0) != (s->d < 0) ||
        cost(b, step, min) >= (1 - WORTH) * error(b))
        return false;
    const bool same = fabsf(step - s->d) <= 0 && fabsf(min - s->dmin) <= 0;
    s->d = step;
    if (b->g->min_hi)
        s->dmin = min;
    return !same;
}

/* The codes beside those of sub-block j. True: they have moved. */
static bool refit_codes(const struct sub *b, struct grid_scales *s, int j)
{
    const struct grid *g = b->g;
    const int scale = s->scale[j], min = g->min_hi ? s->min[j] : 0;
    double best = (1 - WORTH) * error(b);
    bool moved = false;
    for (int k = 0; k < 9; k++) {
        const int c = scale + k / 3 - 1, m = min + k % 3 - 1;
        const bool turned = (c < 0) != (scale < 0) || !c;
        if (k == 4 || turned || c < g->scale_lo || c > g->scale_hi || m < 0 || m > g->min_hi)
            continue;
        const double e = cost(b, s->d * (float)c, s->dmin * (float)m);
        if (e >= best)
            continue;
        best = e;
        moved = true;
        s->scale[j] = (int16_t)c;
        s->min[j] = (int16_t)m;
    }
    return moved;
}

/* The sub-blocks of a row that have moved. */
static int64_t refit_row(const struct qat_weight *w, int64_t row, const float *x,
                         const float *importance)
{
    const struct grid *g = w->grid;
    const struct dtype *dt = w->blocks.dt;
    char *block = (char *)w->blocks.data + (size_t)row * tensor_row_bytes(&w->blocks);
    int64_t moved = 0;
    for (int64_t i = 0; i < tensor_cols(&w->blocks); i += dt->block, block += dt->bytes) {
        struct grid_scales s = {0};
        int8_t q[GRID_BLOCK];
        float y[GRID_BLOCK];
        const int64_t before = moved;
        g->get(block, &s);
        g->unpack(block, q);
        grid_values(g, &s, q, y);
        for (int j = 0; j < g->subs; j++) {
            const int at = j * g->size;
            struct sub b = {.g = g, .x = x + i + at, .w = importance ? importance + i + at : NULL};
            if (!s.scale[j] || !(s.d < 0 || s.d > 0))
                continue;
            memcpy(b.y, y + at, (size_t)g->size * sizeof *y);
            for (int k = 0; k < g->size; k++)
                b.v[k] = (float)(g->level ? g->level[q[at + k]] : q[at + k]);
            moved += g->scale_lo == g->scale_hi ? refit_flat(&b, &s) : refit_codes(&b, &s, j);
        }
        if (moved > before)
            g->set(block, &s);
    }
    return moved;
}

int64_t qat_refit(struct qat *q, int i, const float *importance)
{
    const struct qat_weight *w = &q->weight[i];
    const int64_t rows = tensor_rows(&w->blocks), cols = tensor_cols(&w->blocks);
    int64_t moved = 0;
#pragma omp parallel for schedule(dynamic, 4) reduction(+ : moved) if (w->grid)
    for (int64_t r = 0; r < (w->grid ? rows : 0); r++)
        moved += refit_row(w, r, w->p->latent + r * cols, importance);
    return moved;
}

int64_t qat_subs(const struct qat *q, int i)
{
    const struct qat_weight *w = &q->weight[i];
    return w->grid ? tensor_numel(&w->blocks) / w->grid->size : 0;
}
