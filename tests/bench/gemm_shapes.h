/*
 * What bench_gemm.c, bench_dnnl.c and bench_linear.py have in common: the matrix products of
 * training, how they are timed and checked, and the JSON line. The shapes are those of the linears
 * of the models that train_torch.py knows by the same names, GPT-2's 50257 tokens made even: the
 * linear op leaves odd widths to a scalar kernel, the head's op in training pads them.
 *
 * bf16: activations and weights are bf16, sums f32; results are bf16, gradients of weights f32 and
 * not added to what was there. Weights may be packed before the clock starts (training does it once
 * a step), activations not.
 */
#ifndef ATTAR_TESTS_BENCH_GEMM_SHAPES_H
#define ATTAR_TESTS_BENCH_GEMM_SHAPES_H

#include <math.h>
#include <omp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/clock.h"

enum { TOKENS, D, FF, VOCAB, THREADS, N_SIZES };

static const char *const size_flags[] = {"--tokens", "--d", "--ff", "--vocab", "--threads"};

static const struct {
    const char *name;
    long d, ff, vocab;
} models[] = {{"tiny", 256, 768, 2048}, {"small", 512, 1536, 8192}, {"gpt2", 768, 3072, 50258}};

/* C [m,n] = A [m,k] B [k,n]; m, n and k are sizes above. ta: A is stored [k,m], tb: B is [n,k].
   add: C +=, in f32. ta: both are activations, C the gradient of a weight. */
struct shape {
    const char *name;
    int m, n, k;
    bool ta, tb, add;
};
static const struct shape shapes[] = {
    {"attn_forward", TOKENS, D, D, false, true, false},
    {"ffn_up_forward", TOKENS, FF, D, false, true, false},
    {"ffn_down_forward", TOKENS, D, FF, false, true, true},
    {"head_forward", TOKENS, VOCAB, D, false, true, false},
    {"ffn_up_dx", TOKENS, D, FF, false, false, false},
    {"ffn_up_dw", FF, D, TOKENS, true, false, true},
    {"ffn_down_dx", TOKENS, FF, D, false, false, false},
    {"ffn_down_dw", D, FF, TOKENS, true, false, true},
    {"head_dx", TOKENS, D, VOCAB, false, false, false},
    {"head_dw", VOCAB, D, TOKENS, true, false, true},
};

struct matmul {
    const struct shape *shape;
    int64_t m, n, k;
    bool bf16;   /* A and B */
    void *a, *b; /* as stored, values of element() */
    void *c;     /* [m,n], zero before the first run */
    bool c_bf16; /* else f32 */
    double seconds;
};

/* Seconds of the best run in about p->seconds; ends the program if it cannot. */
typedef double measure_fn(const struct matmul *p);

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(1);
}

/* Eighths: exact in bf16, and every product and sum of them that a shape has is exact in f32. */
static float element(int64_t i)
{
    return (float)(i % 17 - 8) / 8;
}

/* Element i of x. */
static float value(const void *x, int64_t i, bool bf16)
{
    if (!bf16)
        return ((const float *)x)[i];
    const uint32_t bits = (uint32_t)((const uint16_t *)x)[i] << 16;
    float y;
    memcpy(&y, &bits, sizeof y);
    return y;
}

static void *matrix(int64_t n, bool bf16)
{
    void *x = aligned_alloc(64, ((size_t)n * (bf16 ? 2 : 4) + 127) / 64 * 64);
    if (!x)
        die("out of memory");
    for (int64_t i = 0; i < n; i++) {
        const float y = element(i);
        uint32_t bits;
        memcpy(&bits, &y, sizeof y);
        if (bf16)
            ((uint16_t *)x)[i] = (uint16_t)(bits >> 16);
        else
            ((float *)x)[i] = y;
    }
    return x;
}

/* Is C what the first run must leave there? */
static bool correct(const struct matmul *p)
{
    for (int64_t at = 0; at < 64; at++) {
        const int64_t i = (p->m - 1) * at / 63, j = (p->n - 1) * (at * 29 % 64) / 63;
        double want = 0;
        for (int64_t l = 0; l < p->k; l++)
            want += (double)element(p->shape->ta ? l * p->m + i : i * p->k + l) *
                    element(p->shape->tb ? j * p->k + l : l * p->n + j);
        const double got = value(p->c, i * p->n + j, p->c_bf16);
        if (fabs(got - want) > fabs(want) * (p->c_bf16 ? 0x1p-8 : 0))
            return false;
    }
    return true;
}

/* Makes C once, and says how many seconds of that count. */
typedef double run_fn(const struct matmul *p, void *state);

/* For measure_fn: the best of runs that take about p->seconds in all, after one that is checked and
   not counted. */
static double best_run(const struct matmul *p, run_fn *run, void *state)
{
    double best = INFINITY;
    memset(p->c, 0, (size_t)(p->m * p->n) * (p->c_bf16 ? 2 : 4));
    run(p, state);
    if (!correct(p))
        die("a product is wrong");
    const double end = clock_seconds() + p->seconds;
    do
        best = fmin(best, run(p, state));
    while (clock_seconds() < end);
    return best;
}

struct gemm_bench {
    long size[N_SIZES];
    bool bf16;
    double seconds; /* a shape */
};

static struct gemm_bench gemm_arguments(int argc, char **argv)
{
    struct gemm_bench b = {{2048, 256, 768, 2048, 2}, false, 0.2};
    for (int i = 1; i < argc; i += 2) {
        const char *word = i + 1 < argc ? argv[i + 1] : "";
        size_t k = 0, model = 0;
        while (k < N_SIZES && strcmp(argv[i], size_flags[k]))
            k++;
        while (model < sizeof models / sizeof *models && strcmp(word, models[model].name))
            model++;
        if (k < N_SIZES && *word) {
            b.size[k] = strtol(word, NULL, 10);
        } else if (!strcmp(argv[i], "--seconds") && *word) {
            b.seconds = strtod(word, NULL);
        } else if (!strcmp(argv[i], "--precision") &&
                   (!strcmp(word, "bf16") || !strcmp(word, "f32"))) {
            b.bf16 = *word == 'b';
        } else if (!strcmp(argv[i], "--shape") && model < sizeof models / sizeof *models) {
            b.size[D] = models[model].d;
            b.size[FF] = models[model].ff;
            b.size[VOCAB] = models[model].vocab;
        } else {
            die(argv[i]);
        }
    }
    omp_set_num_threads((int)b.size[THREADS]);
    return b;
}

/* Measures every shape and prints one JSON line: GFLOP/s of each, and `gflops` of all of them one
   after the other. */
static void gemm_report(const struct gemm_bench *b, const char *name, measure_fn *measure)
{
    double work = 0, time = 0;
    printf("{\"gemm\": \"%s\", \"precision\": \"%s\"", name, b->bf16 ? "bf16" : "f32");
    for (int k = 0; k < N_SIZES; k++)
        printf(", \"%s\": %ld", size_flags[k] + 2, b->size[k]);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const struct shape *s = &shapes[i];
        struct matmul p = {s,
                           b->size[s->m],
                           b->size[s->n],
                           b->size[s->k],
                           b->bf16,
                           .c_bf16 = b->bf16 && !s->ta,
                           .seconds = b->seconds};
        p.a = matrix(p.m * p.k, p.bf16);
        p.b = matrix(p.k * p.n, p.bf16);
        p.c = matrix(p.m * p.n, p.c_bf16);
        const double t = measure(&p), flops = 2.0 * (double)p.m * (double)p.n * (double)p.k;
        printf(", \"%s\": %.1f", s->name, 1e-9 * flops / t);
        work += flops;
        time += t;
        free(p.a);
        free(p.b);
        free(p.c);
    }
    printf(", \"gflops\": %.1f}\n", 1e-9 * work / time);
}

#endif
