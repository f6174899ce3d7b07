/*
 * Matrix products of the shapes that training has (gemm_shapes.h). f32: by the GEMM that the
 * environment asks for, ATTAR_GEMM=own|openblas, ATTAR_CPU=avx2|avx512, OPENBLAS_CORETYPE. bf16: by
 * the linear op, the way training runs it, asked for one of its products at a time.
 *
 *   bench_gemm [--precision f32|bf16] [--shape tiny|small|gpt2 | --d 256 --ff 768 --vocab 2048]
 *              [--tokens 2048 --threads 2 --seconds 0.2]
 */
#include "autograd/base/err.h"
#include "autograd/kernels/gemm.h"
#include "autograd/kernels/gemm_bf16.h"
#include "autograd/ops/ops.h"
#include "tests/bench/gemm_shapes.h"

static double run_f32(const struct matmul *p, void *state)
{
    const struct shape *s = p->shape;
    const double start = clock_seconds();
    (void)state;
    gemm(s->ta, s->tb, p->m, p->n, p->k, p->a, s->ta ? p->m : p->k, p->b, s->tb ? p->k : p->n,
         s->add, p->c, p->n);
    return clock_seconds() - start;
}

static double measure_f32(const struct matmul *p)
{
    return best_run(p, run_f32, NULL);
}

/* A linear op y = x w^T one of whose three products is p: y (tb), dw (ta), dx (neither). */
struct linear {
    struct ctx ctx;
    struct store store; /* of w alone */
    struct tensor x;
};

/* What the op made of p. */
static const void *result(const struct matmul *p, const struct linear *l, const struct tensor *y)
{
    return p->shape->tb ? y->data : p->shape->ta ? l->store.p->latent_grad : l->x.grad;
}

static double run_bf16(const struct matmul *p, void *state)
{
    struct linear *l = state;
    struct tensor *w = &l->store.p->used, *y;
    bool fresh;
    store_zero_grad(&l->store);
    ctx_reset(&l->ctx);
    l->x.grad = NULL;
    double start = clock_seconds();
    if (!op_linear(&l->ctx, &l->x, 1, &w, NULL, NULL, &y) && l->ctx.recording) {
        memcpy(ctx_grad(&l->ctx, y, &fresh), p->a, tensor_bytes(y));
        start = clock_seconds();
        tape_backward(&l->ctx, NULL);
    }
    const double stop = clock_seconds();
    if (l->ctx.failed)
        die(l->ctx.text);
    memcpy(p->c, result(p, l, y), (size_t)(p->m * p->n) * (p->c_bf16 ? 2 : 4));
    return stop - start;
}

static double measure_bf16(const struct matmul *p)
{
    const bool dx = !p->shape->ta && !p->shape->tb, dw = p->shape->ta;
    const int64_t tokens = dw ? p->k : p->m, in = p->shape->tb ? p->k : p->n;
    const int64_t dim[] = {dx ? p->k : dw ? p->m : p->n, in};
    struct linear l = {.x = {.dt = &dtype_bf16, .nd = 2, .dim = {tokens, in}, .needs_grad = dx}};
    void *x = dx ? matrix(tokens * in, true) : NULL;
    l.x.data = dx ? x : dw ? p->b : p->a;
    const size_t bytes = tensor_bytes(&l.x) + 2 * (size_t)(tokens * dim[0]) * sizeof(uint16_t);
    if (store_add(&l.store, "weight", 2, dim, 0) || store_alloc(&l.store, STORE_TRAINED) ||
        store_panels(&l.store) || ctx_init(&l.ctx, 4 * bytes + ((size_t)1 << 28)))
        die(err_text());
    for (int64_t i = 0; !dw && i < dim[0] * in; i++)
        l.store.p->latent[i] = value(p->b, i, true);
    store_project(&l.store);
    l.store.p->used.needs_grad = dw;
    l.ctx.act = &dtype_bf16;
    l.ctx.recording = dx || dw;
    const double best = best_run(p, run_bf16, &l);
    ctx_free(&l.ctx);
    store_free(&l.store);
    free(x);
    return best;
}

int main(int argc, char **argv)
{
    const struct gemm_bench b = gemm_arguments(argc, argv);
    if (gemm_init(argv, GEMM_SPIN))
        die(err_text());
    gemm_report(&b, b.bf16 ? gemm_bf16->name : gemm_describe(),
                b.bf16 ? measure_bf16 : measure_f32);
    return 0;
}
