/*
 * f32 matrix products of the shapes that training has, by the GEMM that the environment asks for:
 * ATTAR_GEMM=own|openblas, ATTAR_CPU=avx2|avx512, OPENBLAS_CORETYPE.
 *
 *   bench_gemm [--tokens 2048 --d 256 --ff 768 --vocab 2048 --threads 2 --seconds 0.2]
 *
 * Prints one JSON line: GFLOP/s of each shape, its best run in `seconds`, and `gflops` of all of
 * them one after the other.
 */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/clock.h"
#include "autograd/base/err.h"
#include "autograd/base/mem.h"
#include "autograd/kernels/gemm.h"

enum { TOKENS, D, FF, VOCAB, THREADS, N_SIZES };

static const char *const size_flags[] = {"--tokens", "--d", "--ff", "--vocab", "--threads"};

/* C [m,n] (acc: +)= A B; m, n and k are sizes above. */
static const struct shape {
    const char *name;
    int m, n, k;
    bool ta, tb, acc;
} shapes[] = {
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

static void die(const char *what)
{
    fprintf(stderr, "bench_gemm: %s\n", what);
    exit(1);
}

static float *matrix(int64_t n)
{
    float *x = mem_slab((size_t)n, sizeof *x);
    if (!x)
        die(err_text());
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(i % 17 - 8) / 8;
    return x;
}

/* Seconds of the best run. */
static double measure(const struct shape *s, const long *size, double seconds)
{
    const int64_t m = size[s->m], n = size[s->n], k = size[s->k];
    float *a = matrix(m * k), *b = matrix(k * n), *c = matrix(m * n);
    double best = 1e9;
    for (double end = clock_seconds() + seconds, start = clock_seconds(), stop; start < end;
         start = stop) {
        gemm(s->ta, s->tb, m, n, k, a, s->ta ? m : k, b, s->tb ? k : n, s->acc, c, n);
        stop = clock_seconds();
        if (stop - start < best)
            best = stop - start;
    }
    free(a);
    free(b);
    free(c);
    return best;
}

int main(int argc, char **argv)
{
    long size[N_SIZES] = {2048, 256, 768, 2048, 2};
    double seconds = 0.2, work = 0, time = 0;
    for (int i = 1; i + 1 < argc; i += 2) {
        int k = 0;
        while (k < N_SIZES && strcmp(argv[i], size_flags[k]))
            k++;
        if (k < N_SIZES)
            size[k] = strtol(argv[i + 1], NULL, 10);
        else if (!strcmp(argv[i], "--seconds"))
            seconds = strtod(argv[i + 1], NULL);
        else
            die(argv[i]);
    }
    omp_set_num_threads((int)size[THREADS]);
    if (gemm_init(argv))
        die(err_text());
    printf("{\"gemm\": \"%s\"", gemm_describe());
    for (int k = 0; k < N_SIZES; k++)
        printf(", \"%s\": %ld", size_flags[k] + 2, size[k]);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const struct shape *s = &shapes[i];
        const double t = measure(s, size, seconds);
        const double flops = 2.0 * (double)size[s->m] * (double)size[s->n] * (double)size[s->k];
        printf(", \"%s\": %.1f", s->name, 1e-9 * flops / t);
        work += flops;
        time += t;
    }
    printf(", \"gflops\": %.1f}\n", 1e-9 * work / time);
    return 0;
}
