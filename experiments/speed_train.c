#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

#include "autograd/base/cpu.h"
#include "autograd/base/mem.h"
#include "autograd/kernels/gemm.h"
#include "autograd/kernels/gemm_bf16.h"
#include "experiments/estimate.h"
#include "experiments/speed.h"

enum { WARM_UP = 2 };

struct result {
    double *time; /* [steps] seconds, sorted */
    double sum;   /* of all steps */
    double plan;  /* seconds of a step by the rates alone */
    double measuring;
    double flops; /* a second, the model's: recomputation does not count */
    double peak;  /* FLOP/s of the step's fastest product */
    double loss;
    size_t arena;
    int64_t params;
};

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_of(const struct speed_args *a, const struct result *t)
{
    return (t->time[(a->steps - 1) / 2] + t->time[a->steps / 2]) / 2;
}

static double tokens_of(const struct speed_args *a)
{
    return (double)(a->step.batch * a->step.pass.T);
}

/* ---- measuring ---- */

static int run_steps(const struct speed_args *a, struct rehearsal *r, struct result *t)
{
    for (int64_t i = -WARM_UP; i < a->steps; i++) {
        double seconds;
        if (i == 0)
            profile_clear(&r->profile);
        if (rehearsal_step(r, &seconds))
            return -1;
        if (i < 0)
            continue;
        t->time[i] = seconds;
        t->sum += seconds;
    }
    qsort(t->time, (size_t)a->steps, sizeof *t->time, by_value);
    t->flops /= median_of(a, t);
    t->loss = r->loss;
    t->arena = r->ctx.arena.peak;
    t->params = store_numel(&r->m.store);
    return 0;
}

/* FLOPs of a step in which nothing is computed twice. */
static int once_flops(const struct speed_args *a, double *flops)
{
    struct plan_step step = a->step;
    struct profile p = {0};
    step.pass.recompute = false;
    const int rc = rehearsal_plan(&step, &p);
    *flops = rehearsal_flops(&p);
    profile_free(&p);
    return rc;
}

/* The plan of the step, made before it runs; the rates stay for the table. */
static int make_plan(const struct speed_args *a, struct rates *rates, struct result *t)
{
    struct estimate e;
    if (estimate_training(&a->step, rates, &e))
        return -1;
    t->plan = e.step;
    if (once_flops(a, &t->flops))
        return -1;
    t->measuring = rates->seconds;
    t->peak = rates_peak(rates);
    fprintf(stderr, "planned: %.0f tokens/s; %lld steps will take %.1f s\n", tokens_of(a) / e.step,
            (long long)(a->steps + WARM_UP), (double)(a->steps + WARM_UP) * e.step);
    return 0;
}

/* ---- the table ---- */

/* A figure, or blanks where there is nothing to divide. */
static void print_rate(double amount, double seconds, struct buf *out)
{
    if (amount > 0 && seconds > 0)
        buf_printf(out, " %9.1f", 1e-9 * amount / seconds);
    else
        buf_printf(out, " %9s", "");
}

static int print_row(const struct speed_args *a, const struct profile *p, int i,
                     struct rates *rates, double sum, struct buf *out)
{
    const struct profile_row *r = &p->row[i];
    const double steps = (double)a->steps, floor = rates_row(rates, p, i);
    if (floor < 0)
        return -1;
    buf_printf(out, "%-14s%-9s %8.0f %10.3f %6.1f%%", r->name, r->backward ? "backward" : "",
               (double)r->calls / steps, 1e3 * r->seconds / steps, 100 * r->seconds / sum);
    print_rate(r->flops, r->seconds, out);
    print_rate(r->bytes, r->seconds, out);
    if (floor > 0)
        buf_printf(out, " %6.0f%%", 100 * floor / r->seconds);
    buf_text(out, "\n");
    return 0;
}

static int print_table(const struct speed_args *a, const struct profile *p, struct rates *rates,
                       double sum, struct buf *out)
{
    double known = 0, floors = 0;
    buf_printf(out, "\n%-23s %8s %10s %7s %9s %9s %7s\n", "a step", "calls", "ms", "share",
               "GFLOP/s", "GB/s", "floor");
    for (int i = 0; i < p->n; i++) {
        if (print_row(a, p, i, rates, sum, out))
            return -1;
        known += p->row[i].seconds;
        floors += rates_row(rates, p, i);
    }
    const double steps = (double)a->steps;
    buf_printf(out, "%-23s %8s %10.3f %6.1f%%\n", "between them", "", 1e3 * (sum - known) / steps,
               100 * (sum - known) / sum);
    buf_printf(out, "%-23s %8s %10.3f %6.1f%% %9s %9s %6.0f%%\n", "sum", "", 1e3 * sum / steps,
               100.0, "", "", 100 * floors / sum);
    buf_text(out, "floor: the part of the time that its products and bytes take at the rates of "
                  "this machine\n");
    return 0;
}

static void print_head(const struct speed_args *a, const struct result *t, struct buf *out)
{
    const double MB = 1e6, tokens = tokens_of(a), median = median_of(a, t);
    const bool bf16 = a->step.pass.bf16;
    buf_printf(out,
               "%s: %.4gM parameters, %lld sequences of %lld a step, %lld at once, %s (%s), "
               "%d thread%s\n",
               a->what, 1e-6 * (double)t->params, (long long)a->step.batch,
               (long long)a->step.pass.T, (long long)a->step.pass.n_seqs, bf16 ? "bf16" : "f32",
               bf16 ? gemm_bf16->name : gemm_describe(), omp_get_max_threads(),
               omp_get_max_threads() > 1 ? "s" : "");
    buf_printf(out, "planned   %9.0f tokens/s  (rates measured in %.1f s)\n", tokens / t->plan,
               t->measuring);
    buf_printf(out, "measured  %9.0f tokens/s  (median of %lld steps, %.0f to %.0f)\n",
               tokens / median, (long long)a->steps, tokens / t->time[a->steps - 1],
               tokens / t->time[0]);
    buf_printf(out, "          %9.1f GFLOP/s   (%.0f%% of the fastest product's %.1f)\n",
               1e-9 * t->flops, 100 * t->flops / t->peak, 1e-9 * t->peak);
    buf_printf(out, "memory    %9.1f MB arena, %.1f MB in all at its highest\n",
               (double)t->arena / MB, (double)cpu_rss_peak() / MB);
}

/* ---- JSON ---- */

static int print_json(const struct speed_args *a, const struct result *t, const struct profile *p,
                      struct rates *rates, struct buf *out)
{
    const double MIB = 0x1p20, tokens = tokens_of(a), steps = (double)a->steps;
    double known = 0;
    const bool bf16 = a->step.pass.bf16;
    buf_printf(out,
               "{\"bench\": \"train\", \"what\": \"%s\", \"precision\": \"%s\", \"gemm\": \"%s\", "
               "\"threads\": %d, \"params\": %lld, \"seq\": %lld, \"batch\": %lld, "
               "\"micro\": %lld, \"recompute\": %s, \"steps\": %lld, ",
               a->what, bf16 ? "bf16" : "f32", bf16 ? gemm_bf16->name : gemm_describe(),
               omp_get_max_threads(), (long long)t->params, (long long)a->step.pass.T,
               (long long)a->step.batch, (long long)a->step.pass.n_seqs,
               a->step.pass.recompute ? "true" : "false", (long long)a->steps);
    buf_printf(out,
               "\"planned_tokens_per_s\": %.1f, \"planning_s\": %.3f, \"tokens_per_s\": %.1f, "
               "\"tokens_per_s_min\": %.1f, \"tokens_per_s_max\": %.1f, \"gflops\": %.1f, "
               "\"peak_gflops\": %.1f, \"arena_mib\": %.2f, \"peak_rss_mib\": %.1f, "
               "\"loss\": %.4f, \"ops\": [",
               tokens / t->plan, t->measuring, tokens / median_of(a, t),
               tokens / t->time[a->steps - 1], tokens / t->time[0], 1e-9 * t->flops, 1e-9 * t->peak,
               (double)t->arena / MIB, (double)cpu_rss_peak() / MIB, t->loss);
    for (int i = 0; i < p->n; i++) {
        const struct profile_row *r = &p->row[i];
        const double floor = rates_row(rates, p, i);
        if (floor < 0)
            return -1;
        buf_printf(out,
                   "%s{\"op\": \"%s\", \"backward\": %s, \"calls\": %.0f, \"ms\": %.4f, "
                   "\"share\": %.5f, \"gflop\": %.6g, \"gb\": %.6g, \"floor_ms\": %.4f}",
                   i ? ", " : "", r->name, r->backward ? "true" : "false", (double)r->calls / steps,
                   1e3 * r->seconds / steps, r->seconds / t->sum, 1e-9 * r->flops / steps,
                   1e-9 * r->bytes / steps, 1e3 * floor / steps);
        known += r->seconds;
    }
    buf_printf(out, "], \"between_share\": %.5f}\n", (t->sum - known) / t->sum);
    return 0;
}

int speed_train(const struct speed_args *a, struct buf *out)
{
    struct rates rates = {0};
    struct rehearsal r = {0};
    struct result t = {.time = mem_new((size_t)a->steps, sizeof *t.time)};
    int rc =
        !t.time || make_plan(a, &rates, &t) || rehearsal_init(&r, &a->step) || run_steps(a, &r, &t)
            ? -1
            : 0;
    if (!rc && a->json) {
        rc = print_json(a, &t, &r.profile, &rates, out);
    } else if (!rc) {
        print_head(a, &t, out);
        rc = print_table(a, &r.profile, &rates, t.sum, out);
    }
    rehearsal_free(&r);
    rates_free(&rates);
    free(t.time);
    return rc || out->failed ? -1 : 0;
}
