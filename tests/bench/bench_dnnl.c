/*
 * The peer for bench_gemm --precision bf16: oneDNN's matrix products on the same shapes, the faster
 * of plain layouts and of layouts that oneDNN chooses: for weights before the clock starts, for the
 * activations that make a weight's gradient while it runs. Flags and output: gemm_shapes.h; needs
 * the API of oneDNN 2 (libdnnl-dev of Debian 12).
 */
#if __has_include(<dnnl.h>) /* elsewhere the Makefile leaves this program out */
#include <dnnl.h>

#include "tests/bench/gemm_shapes.h"

enum { A, B, C, N_OPERANDS };

static const int args[N_OPERANDS] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST};

static dnnl_engine_t engine;
static dnnl_stream_t stream;

/* A product as oneDNN sees it: the operands as they are stored, and as it wants them. */
struct plan {
    dnnl_primitive_t matmul, reorder[N_OPERANDS]; /* NULL: the operand is used as it is stored */
    dnnl_memory_t stored[N_OPERANDS], wanted[N_OPERANDS];
    bool reorder_each; /* in every run */
};

static void check(dnnl_status_t status, const char *what)
{
    if (status == dnnl_success)
        return;
    fprintf(stderr, "oneDNN: %s: status %d: ", what, (int)status);
    die("failed");
}

static void execute(dnnl_primitive_t p, int n, const dnnl_exec_arg_t *arg)
{
    check(dnnl_primitive_execute(p, stream, n, arg), "execute");
    check(dnnl_stream_wait(stream), "wait");
}

static dnnl_memory_desc_t stored_desc(int64_t rows, int64_t cols, bool turned, bool bf16)
{
    dnnl_memory_desc_t md;
    const dnnl_dims_t dims = {rows, cols}, strides = {turned ? 1 : cols, turned ? rows : 1};
    check(dnnl_memory_desc_init_by_strides(&md, 2, dims, bf16 ? dnnl_bf16 : dnnl_f32, strides),
          "strides");
    return md;
}

static dnnl_memory_desc_t any_desc(const dnnl_memory_desc_t *stored)
{
    dnnl_memory_desc_t md;
    check(dnnl_memory_desc_init_by_tag(&md, 2, stored->dims, stored->data_type,
                                       dnnl_format_tag_any),
          "any");
    return md;
}

static void reorder(const struct plan *plan)
{
    for (int i = A; i <= B; i++)
        if (plan->reorder[i])
            execute(plan->reorder[i], 2,
                    (const dnnl_exec_arg_t[]){{DNNL_ARG_FROM, plan->stored[i]},
                                              {DNNL_ARG_TO, plan->wanted[i]}});
}

/* wanted[i], in the layout that the product wants, and how to get there. */
static void plan_operand(struct plan *plan, int i, const dnnl_memory_desc_t *stored,
                         const dnnl_memory_desc_t *wanted)
{
    plan->wanted[i] = plan->stored[i];
    if (dnnl_memory_desc_equal(stored, wanted))
        return;
    dnnl_primitive_desc_t pd;
    check(dnnl_memory_create(&plan->wanted[i], wanted, engine, DNNL_MEMORY_ALLOCATE), "memory");
    check(dnnl_reorder_primitive_desc_create(&pd, stored, engine, wanted, engine, NULL), "reorder");
    check(dnnl_primitive_create(&plan->reorder[i], pd), "reorder");
    dnnl_primitive_desc_destroy(pd);
}

/* any: which operands may have a layout of oneDNN's own. */
static struct plan plan_make(const struct matmul *p, const bool any[N_OPERANDS])
{
    struct plan plan = {.reorder_each = any[A]};
    const dnnl_memory_desc_t stored[] = {stored_desc(p->m, p->k, p->shape->ta, p->bf16),
                                         stored_desc(p->k, p->n, p->shape->tb, p->bf16),
                                         stored_desc(p->m, p->n, false, p->c_bf16)};
    void *const data[] = {p->a, p->b, p->c};
    dnnl_memory_desc_t asked[N_OPERANDS];
    for (int i = 0; i < N_OPERANDS; i++) {
        asked[i] = any[i] ? any_desc(&stored[i]) : stored[i];
        check(dnnl_memory_create(&plan.stored[i], &stored[i], engine, data[i]), "memory");
    }
    dnnl_matmul_desc_t desc;
    dnnl_primitive_desc_t pd;
    check(dnnl_matmul_desc_init(&desc, &asked[A], &asked[B], NULL, &asked[C]), "matmul");
    check(dnnl_primitive_desc_create(&pd, &desc, NULL, engine, NULL), "matmul");
    plan_operand(&plan, A, &stored[A], dnnl_primitive_desc_query_md(pd, dnnl_query_src_md, 0));
    plan_operand(&plan, B, &stored[B], dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0));
    plan.wanted[C] = plan.stored[C];
    check(dnnl_primitive_create(&plan.matmul, pd), "matmul");
    dnnl_primitive_desc_destroy(pd);
    reorder(&plan);
    return plan;
}

static void plan_free(struct plan *plan)
{
    dnnl_primitive_destroy(plan->matmul);
    for (int i = 0; i < N_OPERANDS; i++) {
        if (plan->wanted[i] != plan->stored[i])
            dnnl_memory_destroy(plan->wanted[i]);
        dnnl_memory_destroy(plan->stored[i]);
        if (plan->reorder[i])
            dnnl_primitive_destroy(plan->reorder[i]);
    }
}

static double run(const struct matmul *p, void *state)
{
    const struct plan *plan = state;
    dnnl_exec_arg_t arg[N_OPERANDS];
    (void)p;
    for (int i = 0; i < N_OPERANDS; i++)
        arg[i] = (dnnl_exec_arg_t){args[i], plan->wanted[i]};
    const double start = clock_seconds();
    if (plan->reorder_each)
        reorder(plan);
    execute(plan->matmul, N_OPERANDS, arg);
    return clock_seconds() - start;
}

static double measure(const struct matmul *p)
{
    const bool plain[N_OPERANDS] = {false}, packed[N_OPERANDS] = {[A] = p->shape->ta, [B] = true};
    double best = INFINITY;
    for (int way = 0; way < 2; way++) {
        struct plan plan = plan_make(p, way ? packed : plain);
        best = fmin(best, best_run(p, run, &plan));
        plan_free(&plan);
    }
    return best;
}

int main(int argc, char **argv)
{
    const struct gemm_bench b = gemm_arguments(argc, argv);
    char name[64];
    if (!b.bf16)
        die("bench_dnnl: --precision bf16 is all there is");
    const dnnl_version_t *v = dnnl_version();
    snprintf(name, sizeof name, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
    check(dnnl_engine_create(&engine, dnnl_cpu, 0), "engine");
    check(dnnl_stream_create(&stream, engine, dnnl_stream_in_order), "stream");
    gemm_report(&b, name, measure);
    dnnl_stream_destroy(stream);
    dnnl_engine_destroy(engine);
    return 0;
}

#endif
