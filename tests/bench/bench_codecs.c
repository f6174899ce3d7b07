/* One core's speed with a block format, as JSON: million weights a second that are decoded, rounded
   onto their grid, encoded, and encoded with importance.   bench_codecs TYPE [COLUMNS [SECONDS]] */
#include <stdio.h>
#include <stdlib.h>

#include "autograd/base/clock.h"
#include "autograd/base/mem.h"
#include "autograd/base/rng.h"
#include "compress/codecs/codecs.h"

enum { ROWS = 64 };

static void decode(struct tensor *t, float *x, const float *w)
{
    (void)w;
    for (int64_t r = 0; r < ROWS; r++)
        t->dt->decode(t, r, x + r * tensor_cols(t));
}

static void nearest(struct tensor *t, float *x, const float *w)
{
    (void)w;
    for (int64_t r = 0; r < ROWS; r++)
        t->dt->round(t, r, x + r * tensor_cols(t));
}

static void encode(struct tensor *t, float *x, const float *w)
{
    for (int64_t r = 0; r < ROWS; r++)
        t->dt->encode(t, r, x + r * tensor_cols(t), w);
}

/* The fastest of the passes that fit into the time. */
static double speed(void (*pass)(struct tensor *, float *, const float *), struct tensor *t,
                    float *x, const float *w, double seconds)
{
    double best = 1e9;
    for (const double start = clock_seconds(); clock_seconds() - start < seconds;) {
        const double before = clock_seconds();
        pass(t, x, w);
        const double took = clock_seconds() - before;
        best = took < best ? took : best;
    }
    return (double)tensor_numel(t) / best / 1e6;
}

int main(int argc, char **argv)
{
    const struct dtype *dt = argc > 1 ? codecs_find(argv[1]) : NULL;
    const int64_t cols = argc > 2 ? atoll(argv[2]) : 2048;
    const double seconds = argc > 3 ? atof(argv[3]) : 0.2;
    if (!dt || !dt->encode || cols < dt->block || cols % dt->block) {
        fprintf(stderr, "usage: bench_codecs TYPE [COLUMNS [SECONDS]]\n");
        return 2;
    }
    struct tensor t = {.dt = dt, .nd = 2, .dim = {ROWS, cols}};
    const size_t n = (size_t)tensor_numel(&t);
    t.data = mem_slab(tensor_bytes(&t), 1);
    float *x = mem_slab(n, sizeof *x), *w = mem_slab(n, sizeof *w), *y = mem_slab(n, sizeof *y);
    if (!t.data || !x || !w || !y)
        return 1;
    rng_normal(1, 0.02f, x, n);
    for (size_t i = 0; i < n; i++)
        w[i] = 1 + (float)(i * 7 % 17);
    printf("{\"type\": \"%s\", \"bits\": %.4f, \"encode\": %.1f", dt->name,
           8.0 * dt->bytes / dt->block, speed(encode, &t, x, NULL, seconds));
    printf(", \"encode_importance\": %.1f", speed(encode, &t, x, w, seconds));
    printf(", \"decode\": %.1f", speed(decode, &t, y, NULL, seconds));
    printf(", \"round\": %.1f}\n", speed(nearest, &t, x, NULL, seconds));
    return 0;
}
