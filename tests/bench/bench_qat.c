/*
 * What training in blocks adds to a step, for one type and one matrix, on all threads, as JSON:
 *
 *   bench_qat TYPE [ROWS COLUMNS [SECONDS]]      (default 8192 4096 0.5)
 *
 * fit: scales are searched. project: latents are rounded into the kept blocks, which become panels
 * for products in bf16; plain: the same matrix without blocks, packed. pullback: gradients clipped.
 * super: with d and dmin that are moved before and get gradients behind; the optimizer apart.
 * Million weights a second of the fastest pass; GB/s of what project must move (a latent is read,
 * its block read and written, its panel written) beside what copying moves; by_floor: times by that
 * of copying as many bytes (fit: a latent is read, its block written).
 */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/clock.h"
#include "autograd/base/mem.h"
#include "autograd/base/rng.h"
#include "compress/codecs/codecs.h"
#include "compress/qat.h"

struct bench {
    struct store store;
    struct qat qat;
    float *copy; /* as large as the matrix */
};

static void die(const char *what)
{
    fprintf(stderr, "bench_qat: %s\n", what);
    exit(1);
}

static void make(struct bench *b, const struct dtype *dt, int64_t rows, int64_t cols, bool super)
{
    const int64_t dim[] = {rows, cols};
    *b = (struct bench){.store = {0}};
    if (store_add(&b->store, "w", 2, dim, 0.02F))
        die(err_text());
    b->store.p[0].product = true;
    if (store_alloc(&b->store, STORE_TRAINED) || store_panels(&b->store))
        die(err_text());
    store_init(&b->store, 1);
    store_project(&b->store);
    qat_init(&b->qat, &(struct qat_options){
                          .clipped = true, .packed = true, .learned = super, .super = super});
    b->copy = mem_slab((size_t)(rows * cols), sizeof *b->copy);
    if (!b->copy || qat_add(&b->qat, &b->store.p[0], dt) || qat_ready(&b->qat))
        die(err_text());
}

static void fit(struct bench *b)
{
    if (qat_fit(&b->qat, 0, NULL))
        die(err_text());
}

static void project(struct bench *b)
{
    store_project(&b->store);
}

static void pullback(struct bench *b)
{
    store_pullback(&b->store);
}

static void copy(struct bench *b)
{
    const int64_t rows = tensor_rows(&b->qat.weight[0].blocks);
    const int64_t cols = tensor_cols(&b->qat.weight[0].blocks);
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++)
        memcpy(b->copy + r * cols, b->store.latent + r * cols, (size_t)cols * sizeof(float));
}

/* Of the fastest pass; at least three. */
static double fastest(void (*pass)(struct bench *), struct bench *b, double seconds)
{
    const double start = clock_seconds();
    double best = 1e9;
    for (int i = 0; i < 3 || clock_seconds() - start < seconds; i++) {
        const double before = clock_seconds();
        pass(b);
        const double took = clock_seconds() - before;
        best = took < best ? took : best;
    }
    return best;
}

/* Seconds of the fastest pass. */
struct times {
    double plain, copy, fit, project, pullback;
};

static struct times measure(const struct dtype *dt, int64_t rows, int64_t cols, bool super,
                            double seconds)
{
    struct bench b;
    struct times t;
    make(&b, dt, rows, cols, super);
    t.plain = fastest(project, &b, seconds);
    t.copy = fastest(copy, &b, seconds);
    t.fit = fastest(fit, &b, seconds);
    if (qat_attach(&b.qat))
        die(err_text());
    t.project = fastest(project, &b, seconds);
    store_zero_grad(&b.store);
    store_pullback(&b.store); // zeroed: it has none
    t.pullback = fastest(pullback, &b, seconds);
    if (qat_check(&b.qat))
        die(err_text());
    qat_free(&b.qat);
    store_free(&b.store);
    free(b.copy);
    return t;
}

int main(int argc, char **argv)
{
    const struct dtype *dt = argc > 1 ? codecs_find(argv[1]) : NULL;
    const int64_t rows = argc > 3 ? atoll(argv[2]) : 8192, cols = argc > 3 ? atoll(argv[3]) : 4096;
    const double seconds = argc > 4 ? atof(argv[4]) : 0.5;
    if (!dt || !dt->encode || rows < 1 || cols < dt->block || cols % dt->block) {
        fprintf(stderr, "usage: bench_qat TYPE [ROWS COLUMNS [SECONDS]]\n");
        return 2;
    }
    const struct times t = measure(dt, rows, cols, false, seconds);
    const struct times s = measure(dt, rows, cols, true, seconds);
    const double n = (double)(rows * cols), m = n / 1e6, block = (double)dt->bytes / dt->block;
    const double moved = n * (sizeof(float) + 2 * block + sizeof(uint16_t));
    const double speed = 2 * sizeof(float) * n / t.copy; // of memory, bytes a second
    printf("{\"type\": \"%s\", \"bits\": %.4f, \"threads\": %d, \"weights\": %.0f, "
           "\"fit_mweights_s\": %.1f, \"fit_by_floor\": %.2f, \"project_mweights_s\": %.1f, "
           "\"plain_mweights_s\": %.1f, \"pullback_mweights_s\": %.1f, \"project_gb_s\": %.2f, "
           "\"copy_gb_s\": %.2f, \"project_ms\": %.3f, \"floor_ms\": %.3f, \"by_floor\": %.3f, "
           "\"super_project_mweights_s\": %.1f, \"super_pullback_mweights_s\": %.1f}\n",
           dt->name, 8 * block, omp_get_max_threads(), n, m / t.fit,
           t.fit * speed / (n * (sizeof(float) + block)), m / t.project, m / t.plain,
           m / t.pullback, moved / t.project / 1e9, speed / 1e9, 1e3 * t.project,
           1e3 * moved / speed, t.project * speed / moved, m / s.project, m / s.pullback);
    return 0;
}
