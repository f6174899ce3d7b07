#include "compress/codecs/mins.h"

#include <math.h>
#include <string.h>

#include "compress/codecs/fit.h"

bool mins_admissible(const struct grid *g, int min, const int8_t *q)
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

void mins_settle(const struct grid *g, int j, const float *x, const float *w, struct grid_scales *s,
                 int8_t *q)
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
        if (!mins_admissible(g, m, p))
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
