#include "experiments/imatrix_stats.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/mem.h"

struct imatrix_stats imatrix_stats_of(const float *x, int64_t n)
{
    struct imatrix_stats s = {.min = INFINITY, .max = -INFINITY};
    double squares = 0;
    for (int64_t i = 0; i < n; i++) {
        s.sum += (double)x[i];
        squares += (double)x[i] * (double)x[i];
        s.min = fmin(s.min, (double)x[i]);
        s.max = fmax(s.max, (double)x[i]);
        s.active += x[i] > 1e-5f;
    }
    s.mean = s.sum / (double)n;
    s.std = sqrt(fmax(0, squares / (double)n - s.mean * s.mean));
    for (int64_t i = 0; i < n; i++) {
        const double p = s.sum > 0 ? (double)x[i] / s.sum : 0;
        s.entropy -= p > 0 ? p * log2(p) : 0;
        s.above += s.std > 0 && (double)x[i] > s.mean + s.std;
    }
    s.active /= (double)n;
    s.above /= (double)n;
    return s;
}

/* "blk.12.ffn_up.weight" -> 12 and "ffn_up.weight"; -1 and the whole name. */
static int layer_of(const char *name, const char **rest)
{
    int layer, end = 0;
    *rest = name;
    if (sscanf(name, "blk.%6d.%n", &layer, &end) != 1 || !end || layer < 0)
        return -1;
    *rest = name + end;
    return layer;
}

/* The cosine of both entries' sums; NAN if there is no other one. */
static double cosine(const struct imatrix_entry *a, const struct imatrix_entry *b)
{
    double ab = 0, aa = 0, bb = 0;
    if (!b || a->cols != b->cols || a->mats != b->mats)
        return NAN;
    for (int64_t i = 0; i < a->cols * a->mats; i++) {
        ab += (double)a->sum[i] * (double)b->sum[i];
        aa += (double)a->sum[i] * (double)a->sum[i];
        bb += (double)b->sum[i] * (double)b->sum[i];
    }
    return ab / sqrt(aa * bb);
}

static int print_entry(const struct imatrix *m, const struct imatrix_entry *e)
{
    const int64_t n = e->cols * e->mats;
    const char *rest;
    char before[128];
    float *mean = mem_new((size_t)n, sizeof *mean);
    if (!mean)
        return -1;
    imatrix_mean(e, mean);
    const struct imatrix_stats s = imatrix_stats_of(mean, n);
    free(mean);
    const int layer = layer_of(e->name, &rest);
    snprintf(before, sizeof before, "blk.%d.%s", layer - 1, rest);
    const double cos = cosine(e, layer > 0 ? imatrix_find(m, before) : NULL);
    if (layer < 0)
        printf("%5s ", "-");
    else
        printf("%5d ", layer);
    printf("%-22s %10.2f %9.4f %11.4f %8.3f %8.3f %7.2f%% %6lld %8.3f %7.2f%% %6.2f%%", rest, s.sum,
           s.min, s.max, s.mean, s.std, 100 * s.active, (long long)n, s.entropy,
           n > 1 ? 100 * s.entropy / log2((double)n) : 100, 100 * s.above);
    if (isnan(cos))
        printf("%9s\n", "-");
    else
        printf("%9.4f\n", cos);
    return 0;
}

int imatrix_stats_print(const struct imatrix *m)
{
    printf("%5s %-22s %10s %9s %11s %8s %8s %8s %6s %8s %8s %7s %8s\n", "layer", "tensor",
           "sum x^2", "min", "max", "mean", "std", "active", "n", "entropy", "(norm)", "ZD", "cos");
    for (size_t i = 0; i < m->n; i++)
        if (print_entry(m, &m->entry[i]))
            return -1;
    return 0;
}
