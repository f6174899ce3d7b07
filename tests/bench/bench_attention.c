/*
 * Memory and time of one attention, forward and backward.
 *
 *   bench_attention [--seq 4096 --d 256 --heads 4 --kv-heads 4 --threads 2 --steps 3 --batch 1]
 *                   [--precision f32|bf16]
 *
 * Prints one JSON line: arena_mib, the highest use of the arena (inputs, outputs and all gradients
 * included), seconds, the median of the steps, of which forward is forward_seconds, gflops, the
 * rate of the products that the mask leaves, and scores_mib, what the scores alone would take if
 * they were kept in f32: [B,H,T,T].
 */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/clock.h"
#include "autograd/base/rng.h"
#include "autograd/kernels/gemm.h"
#include "autograd/kernels/gemm_bf16.h"
#include "autograd/ops/ops.h"

enum { SEQ, WIDTH, HEADS, KV_HEADS, THREADS, STEPS, BATCH, N_SIZES };
enum { STEPS_MAX = 100, BATCH_MAX = 64 };

static const char *const size_flags[] = {"--seq",     "--d",     "--heads", "--kv-heads",
                                         "--threads", "--steps", "--batch"};

static void die(const char *what)
{
    fprintf(stderr, "bench_attention: %s\n", what);
    exit(1);
}

static struct tensor *input(struct ctx *ctx, int64_t rows, int64_t cols, uint64_t key)
{
    struct tensor *t = ctx_matrix(ctx, ctx->act, rows, cols);
    const size_t mark = ctx_mark(ctx);
    float *x = t ? ctx_scratch(ctx, (size_t)cols * sizeof *x) : NULL;
    if (!x)
        die(ctx->text);
    t->needs_grad = true;
    for (int64_t i = 0; i < rows && !ctx->measuring; i++) {
        rng_normal(key + (uint64_t)i * 3, 1, x, (size_t)cols);
        t->dt->encode(t, i, x, NULL);
    }
    ctx_release(ctx, mark);
    return t;
}

/* Seconds of forward and backward; *forward: of forward alone. */
static double step(struct ctx *ctx, const long *size, double *forward)
{
    const int64_t T = size[SEQ], N = T * size[BATCH], D = size[WIDTH] / size[HEADS];
    struct attention_seq seqs[BATCH_MAX];
    for (int i = 0; i < size[BATCH]; i++)
        seqs[i] = (struct attention_seq){.start = i * T, .len = T};
    ctx_reset(ctx);
    ctx->recording = true;
    struct tensor *q = input(ctx, N, size[WIDTH], 1), *k = input(ctx, N, D * size[KV_HEADS], 2);
    struct tensor *v = input(ctx, N, D * size[KV_HEADS], 3);
    const double start = clock_seconds();
    struct tensor *y = op_attention(ctx, q, k, v, (int)D, seqs, (int)size[BATCH]);
    *forward = clock_seconds() - start;
    bool fresh;
    void *dy = y ? ctx_grad(ctx, y, &fresh) : NULL;
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
    long size[N_SIZES] = {4096, 256, 4, 4, 2, 3, 1};
    const struct dtype *act = &dtype_f32;
    for (int i = 1; i + 1 < argc; i += 2) {
        int k = 0;
        if (!strcmp(argv[i], "--precision")) {
            act = dtype_find(argv[i + 1]);
            if (act != &dtype_f32 && act != &dtype_bf16)
                die("--precision is f32 or bf16");
            continue;
        }
        while (k < N_SIZES && strcmp(argv[i], size_flags[k]))
            k++;
        if (k == N_SIZES)
            die(argv[i]);
        size[k] = strtol(argv[i + 1], NULL, 10);
    }
    if (size[STEPS] < 1 || size[STEPS] > STEPS_MAX)
        die("--steps is 1 to 100");
    if (size[BATCH] < 1 || size[BATCH] > BATCH_MAX)
        die("--batch is 1 to 64");
    omp_set_num_threads((int)size[THREADS]);
    struct ctx ctx;
    if (gemm_init(argv, GEMM_SPIN) || ctx_init(&ctx, 0))
        die(err_text());
    double seconds[STEPS_MAX], forward[STEPS_MAX];
    ctx.act = act;
    step(&ctx, size, forward);
    const size_t peak = ctx.arena.peak;
    ctx_free(&ctx);
    if (ctx_init(&ctx, peak))
        die(err_text());
    ctx.act = act;
    for (long i = 0; i < size[STEPS]; i++)
        seconds[i] = step(&ctx, size, &forward[i]);
    qsort(seconds, (size_t)size[STEPS], sizeof *seconds, by_value);
    qsort(forward, (size_t)size[STEPS], sizeof *forward, by_value);
    const double B = (double)size[BATCH], T = (double)size[SEQ];
    printf("{\"program\": \"attar\", \"precision\": \"%s\", \"gemm\": \"%s\"", act->name,
           act == &dtype_bf16 ? gemm_bf16->name : gemm_describe());
    for (int k = 0; k < N_SIZES; k++)
        printf(", \"%s\": %ld", k == KV_HEADS ? "kv_heads" : size_flags[k] + 2, size[k]);
    const double median = seconds[size[STEPS] / 2];
    printf(", \"arena_mib\": %.2f, \"scores_mib\": %.2f, \"forward_seconds\": %.5f, \"seconds\": "
           "%.5f, \"gflops\": %.1f}\n",
           (double)peak / 0x1p20, 4 * B * (double)size[HEADS] * T * T / 0x1p20,
           forward[size[STEPS] / 2], median,
           14e-9 * B * T * (T + 1) / 2 * (double)size[WIDTH] / median);
    ctx_free(&ctx);
    return 0;
}
