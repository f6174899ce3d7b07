/*
 * Memory and time of one attention, forward and backward.
 *
 *   bench_attention [--seq 4096 --d 256 --heads 4 --kv-heads 4 --threads 2 --steps 3]
 *
 * Prints one JSON line: arena_mib, the highest use of the arena (inputs, outputs and all gradients
 * included), seconds, the median of the steps, and scores_mib, what the scores alone would take if
 * they were kept: [H,T,T].
 */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/clock.h"
#include "autograd/base/rng.h"
#include "autograd/kernels/gemm.h"
#include "autograd/ops/ops.h"

enum { SEQ, WIDTH, HEADS, KV_HEADS, THREADS, STEPS, N_SIZES, STEPS_MAX = 100 };

static const char *const size_flags[] = {"--seq",      "--d",       "--heads",
                                         "--kv-heads", "--threads", "--steps"};

static void die(const char *what)
{
    fprintf(stderr, "bench_attention: %s\n", what);
    exit(1);
}

static struct tensor *input(struct ctx *ctx, int64_t rows, int64_t cols, uint64_t key)
{
    struct tensor *t = ctx_matrix(ctx, &dtype_f32, rows, cols);
    if (!t)
        die(ctx->text);
    t->needs_grad = true;
    if (!ctx->measuring)
        rng_normal(key, 1, t->data, (size_t)(rows * cols));
    return t;
}

/* Seconds of forward and backward. */
static double step(struct ctx *ctx, const long *size)
{
    const int64_t T = size[SEQ], D = size[WIDTH] / size[HEADS];
    const struct attention_seq seq = {.len = T};
    ctx_reset(ctx);
    ctx->recording = true;
    struct tensor *q = input(ctx, T, size[WIDTH], 1), *k = input(ctx, T, D * size[KV_HEADS], 2);
    struct tensor *v = input(ctx, T, D * size[KV_HEADS], 3);
    const double start = clock_seconds();
    struct tensor *y = op_attention(ctx, q, k, v, (int)D, &seq, 1);
    bool fresh;
    float *dy = y ? ctx_grad(ctx, y, &fresh) : NULL;
    if (dy && !ctx->measuring)
        memcpy(dy, y->data, tensor_bytes(y));
    tape_backward(ctx, NULL);
    if (ctx->failed)
        die(ctx->text);
    return clock_seconds() - start;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    long size[N_SIZES] = {4096, 256, 4, 4, 2, 3};
    for (int i = 1; i + 1 < argc; i += 2) {
        int k = 0;
        while (k < N_SIZES && strcmp(argv[i], size_flags[k]))
            k++;
        if (k == N_SIZES)
            die(argv[i]);
        size[k] = strtol(argv[i + 1], NULL, 10);
    }
    if (size[STEPS] < 1 || size[STEPS] > STEPS_MAX)
        die("--steps is 1 to 100");
    omp_set_num_threads((int)size[THREADS]);
    struct ctx ctx;
    if (gemm_init(argv) || ctx_init(&ctx, 0))
        die(err_text());
    step(&ctx, size);
    const size_t peak = ctx.arena.peak;
    ctx_free(&ctx);
    if (ctx_init(&ctx, peak))
        die(err_text());
    double seconds[STEPS_MAX];
    for (long i = 0; i < size[STEPS]; i++)
        seconds[i] = step(&ctx, size);
    qsort(seconds, (size_t)size[STEPS], sizeof *seconds, by_value);
    printf("{\"program\": \"attar\", \"gemm\": \"%s\"", gemm_describe());
    for (int k = 0; k < N_SIZES; k++)
        printf(", \"%s\": %ld", k == KV_HEADS ? "kv_heads" : size_flags[k] + 2, size[k]);
    printf(", \"arena_mib\": %.2f, \"scores_mib\": %.2f, \"seconds\": %.4f}\n",
           (double)peak / 0x1p20,
           4.0 * (double)size[HEADS] * (double)size[SEQ] * (double)size[SEQ] / 0x1p20,
           seconds[size[STEPS] / 2]);
    ctx_free(&ctx);
    return 0;
}
