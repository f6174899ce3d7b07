#include <omp.h>
#include <string.h>

#include "autograd/kernels/gemm.h"
#include "autograd/kernels/gemm_bf16.h"
#include "experiments/speed.h"

enum { KINDS = 3, PRODUCTS_MAX = 32 };

/* A product of the step and its speed, in FLOP/s. */
struct line {
    const struct product *p; /* forward */
    double one[KINDS], all[KINDS];
};

/* The forward products of a plan, each shape once. */
static int products_of(const struct profile *plan, struct line line[PRODUCTS_MAX])
{
    int n = 0;
    for (size_t i = 0; i < plan->n_work && n < PRODUCTS_MAX; i++) {
        const struct product *p = &plan->work[i].product;
        bool known = p->kind != COST_FORWARD;
        for (int k = 0; k < n; k++)
            known |= line[k].p->M == p->M && line[k].p->N == p->N && line[k].p->K == p->K;
        if (!known)
            line[n++].p = p;
    }
    return n;
}

static int measure(struct rates *r, const struct line *line, double rate[KINDS])
{
    for (int kind = 0; kind < KINDS; kind++) {
        struct product p = *line->p;
        p.kind = (enum cost_kind)(COST_FORWARD + kind);
        rate[kind] = rates_product(r, &p);
        if (!(rate[kind] > 0))
            return -1;
    }
    return 0;
}

static void print_line(const struct line *l, struct buf *out)
{
    const double G = 1e-9;
    buf_printf(out, "%7lld %7lld %7lld", (long long)l->p->M, (long long)l->p->N,
               (long long)l->p->K);
    for (int side = 0; side < 2; side++) {
        const double *rate = side ? l->all : l->one;
        buf_printf(out, "%s%9.1f %9.1f %9.1f", side ? "   " : "     ", G * rate[0], G * rate[1],
                   G * rate[2]);
    }
    buf_text(out, "\n");
}

static void print_json(const struct line *l, bool bf16, bool first, struct buf *out)
{
    static const char *const names[KINDS] = {"forward", "dx", "dw"};
    buf_printf(out, "%s{\"precision\": \"%s\", \"m\": %lld, \"n\": %lld, \"k\": %lld",
               first ? "" : ", ", bf16 ? "bf16" : "f32", (long long)l->p->M, (long long)l->p->N,
               (long long)l->p->K);
    for (int i = 0; i < 2 * KINDS; i++)
        buf_printf(out, ", \"%s_%s\": %.4g", names[i % KINDS], i < KINDS ? "one" : "all",
                   1e-9 * (i < KINDS ? l->one : l->all)[i % KINDS]);
    buf_text(out, "}");
}

/* One precision: all of its lines. */
static int print_products(const struct speed_args *a, bool bf16, bool first, struct buf *out)
{
    struct line line[PRODUCTS_MAX];
    struct profile plan = {0};
    struct rates rates = {0};
    struct plan_step step = a->step;
    const int threads = omp_get_max_threads();
    step.pass.bf16 = bf16;
    int rc = rehearsal_plan(&step, &plan);
    const int n = products_of(&plan, line);
    if (!a->json)
        buf_printf(out,
                   "\n%s (%s), GFLOP/s of a linear's products, y [m,n] = x [m,k] w^T\n"
                   "%35s1 thread%20s%d thread%s\n%7s %7s %7s     %9s %9s %9s   %9s %9s %9s\n",
                   bf16 ? "bf16" : "f32", bf16 ? gemm_bf16->name : gemm_describe(), "", "", threads,
                   threads > 1 ? "s" : "", "m", "n", "k", "y", "dx", "dw", "y", "dx", "dw");
    for (int i = 0; i < n && !rc; i++) {
        omp_set_num_threads(1);
        rc = measure(&rates, &line[i], line[i].one);
        omp_set_num_threads(threads);
        rc = rc || measure(&rates, &line[i], line[i].all) ? -1 : 0;
        if (rc)
            break;
        if (a->json)
            print_json(&line[i], bf16, first && i == 0, out);
        else
            print_line(&line[i], out);
    }
    profile_free(&plan);
    rates_free(&rates);
    return rc;
}

int speed_gemm(const struct speed_args *a, struct buf *out)
{
    const bool f32 = a->precision != PRECISION_BF16;
    const bool bf16 =
        a->precision == PRECISION_BF16 || (a->precision == PRECISION_AUTO && a->step.pass.bf16);
    const long long tokens = a->step.pass.n_seqs * a->step.pass.T;
    if (a->json)
        buf_printf(out,
                   "{\"bench\": \"gemm\", \"what\": \"%s\", \"threads\": %d, \"tokens\": %lld, "
                   "\"f32\": \"%s\", \"bf16\": \"%s\", \"products\": [",
                   a->what, omp_get_max_threads(), tokens, gemm_describe(), gemm_bf16->name);
    else
        buf_printf(out, "%s: products of training, %lld tokens at once\n", a->what, tokens);
    if ((f32 && print_products(a, false, true, out)) ||
        (bf16 && print_products(a, true, !f32, out)))
        return -1;
    buf_text(out, a->json ? "]}\n" : "");
    return out->failed ? -1 : 0;
}
