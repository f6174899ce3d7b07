#include "experiments/divergence.h"

#include <math.h>
#include <stdlib.h>

#include "autograd/base/mem.h"
#include "experiments/logits_file.h"

enum { FEW = 10, LEAST = -16 }; /* no errors of fewer values; log p that counts */

struct divergence_at divergence_at(int32_t V, const float *logits, const uint16_t *base,
                                   int32_t next)
{
    struct divergence_at a = {.kld = 0};
    int32_t top = 0, top_base = 0;
    double sum = 0;
    for (int32_t v = 1; v < V; v++)
        top = logits[v] > logits[top] ? v : top;
    for (int32_t v = 0; v < V; v++)
        sum += exp((double)logits[v] - logits[top]);
    const double log_sum = logits[top] + log(sum);
    for (int32_t v = 0; v < V; v++) {
        const float log_p = logits_file_log_p(base, v);
        top_base = log_p > logits_file_log_p(base, top_base) ? v : top_base;
        if (log_p > LEAST)
            a.kld += exp((double)log_p) * (log_p - logits[v] + log_sum);
    }
    a.nll = log_sum - logits[next];
    a.nll_base = -logits_file_log_p(base, next);
    a.p_diff = exp(-a.nll) - exp(-a.nll_base);
    a.same_top = top == top_base;
    return a;
}

int divergence_add(struct divergence *d, const struct divergence_at *at, int64_t n)
{
    const size_t need = (size_t)(d->count + n);
    if (mem_grow(&d->kld, &d->cap[0], need, sizeof *d->kld) ||
        mem_grow(&d->p_diff, &d->cap[1], need, sizeof *d->p_diff))
        return -1;
    for (int64_t i = 0; i < n; i++, at++) {
        const double diff2 = at->p_diff * at->p_diff;
        d->nll += at->nll;
        d->nll2 += at->nll * at->nll;
        d->base += at->nll_base;
        d->base2 += at->nll_base * at->nll_base;
        d->both += at->nll * at->nll_base;
        d->kld_sum += at->kld;
        d->kld2 += at->kld * at->kld;
        d->diff += at->p_diff;
        d->diff2 += diff2;
        d->diff4 += diff2 * diff2;
        d->same_top += at->same_top;
        d->kld[d->count] = (float)at->kld;
        d->p_diff[d->count++] = (float)at->p_diff;
    }
    return 0;
}

void divergence_free(struct divergence *d)
{
    free(d->kld);
    free(d->p_diff);
    *d = (struct divergence){0};
}

/* ---- means ---- */

static struct divergence_mean mean_of(const struct divergence *d, double sum, double squares)
{
    const double n = (double)d->count, mean = sum / n, variance = squares / n - mean * mean;
    return (struct divergence_mean){mean,
                                    variance > 0 && d->count > FEW ? sqrt(variance / (n - 1)) : 0};
}

static double covariance(const struct divergence *d)
{
    const double n = (double)d->count;
    return d->count < FEW ? 0 : (d->both / n - d->nll / n * (d->base / n)) / (n - 1);
}

struct divergence_mean divergence_kld(const struct divergence *d)
{
    return mean_of(d, d->kld_sum, d->kld2);
}

static double root(double x)
{
    return x > 0 ? sqrt(x) : 0;
}

struct divergence_mean divergence_log_ratio(const struct divergence *d)
{
    const struct divergence_mean q = mean_of(d, d->nll, d->nll2);
    const struct divergence_mean base = mean_of(d, d->base, d->base2);
    return (struct divergence_mean){q.mean - base.mean,
                                    root(q.error * q.error + base.error * base.error -
                                         2 * covariance(d))};
}

static struct divergence_mean exp_of(struct divergence_mean log)
{
    return (struct divergence_mean){exp(log.mean), exp(log.mean) * log.error};
}

static struct divergence_mean rms_diff(const struct divergence *d)
{
    const struct divergence_mean square = mean_of(d, d->diff2, d->diff4);
    const double rms = root(square.mean);
    return (struct divergence_mean){rms, rms > 0 ? 0.5 / rms * square.error : 0};
}

static struct divergence_mean same_top(const struct divergence *d)
{
    const double n = (double)d->count, p = (double)d->same_top / n;
    return (struct divergence_mean){p, d->count > 1 ? sqrt(p * (1 - p) / (n - 1)) : 0};
}

/* ---- tables, in llama-perplexity's words ---- */

static void put(struct buf *out, const char *label, int width, int digits, struct divergence_mean x)
{
    buf_printf(out, "%s%*.*f ± %*.*f", label, width, digits, x.mean, width, digits, x.error);
}

static struct divergence_mean percent(struct divergence_mean x)
{
    return (struct divergence_mean){100 * x.mean, 100 * x.error};
}

void divergence_heading(struct buf *out)
{
    buf_text(out,
             "chunk             PPL               ln(PPL(Q)/PPL(base))          KL Divergence  "
             "            Δp RMS            Same top p\n");
}

void divergence_line(const struct divergence *d, int64_t chunk, struct buf *out)
{
    buf_printf(out, "%4lld", (long long)chunk);
    put(out, "    ", 9, 4, exp_of(mean_of(d, d->nll, d->nll2)));
    put(out, "    ", 10, 5, divergence_log_ratio(d));
    put(out, "    ", 10, 5, divergence_kld(d));
    put(out, "    ", 6, 3, percent(rms_diff(d)));
    put(out, " %    ", 6, 3, percent(same_top(d)));
    buf_text(out, " %\n");
}

static int ascending(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

double divergence_percentile(const float *x, int64_t n, double share)
{
    const double at = share * (double)(n - 1);
    const int64_t i = (int64_t)at, next = i + 1 < n ? i + 1 : i;
    return (1 - (at - (double)i)) * x[i] + (at - (double)i) * x[next];
}

/* Percentiles; the quarters are shown of Delta p alone. */
struct mark {
    const char *label;
    double share;
    bool quarter;
};

static const struct mark marks[] = {
    {"Maximum", 1, false},    {"99.9%  ", 0.999, false}, {"99.0%  ", 0.99, false},
    {"95.0%  ", 0.95, false}, {"90.0%  ", 0.9, false},   {"75.0%  ", 0.75, true},
    {"Median ", 0.5, false},  {"25.0%  ", 0.25, true},   {"10.0%  ", 0.1, false},
    {" 5.0%  ", 0.05, false}, {" 1.0%  ", 0.01, false},  {" 0.1%  ", 0.001, false},
    {"Minimum", 0, false},
};

static void perplexities(const struct divergence *d, struct buf *out)
{
    const struct divergence_mean log_q = mean_of(d, d->nll, d->nll2), q = exp_of(log_q);
    const struct divergence_mean log_base = mean_of(d, d->base, d->base2), base = exp_of(log_base);
    const double shared = covariance(d), spread = log_q.error * log_base.error;
    const struct divergence_mean diff = {q.mean - base.mean,
                                         root(q.error * q.error + base.error * base.error -
                                              2 * q.mean * base.mean * shared)};
    buf_text(out, "====== Perplexity statistics ======\n");
    put(out, "Mean PPL(Q)                   : ", 10, 6, q);
    put(out, "\nMean PPL(base)                : ", 10, 6, base);
    buf_printf(out, "\nCor(ln(PPL(Q)), ln(PPL(base))): %6.2f%%",
               spread > 0 ? 100 * shared / spread : 0);
    put(out, "\nMean ln(PPL(Q)/PPL(base))     : ", 10, 6, divergence_log_ratio(d));
    put(out, "\nMean PPL(Q)/PPL(base)         : ", 10, 6, exp_of(divergence_log_ratio(d)));
    put(out, "\nMean PPL(Q)-PPL(base)         : ", 10, 6, diff);
}

void divergence_table(struct divergence *d, struct buf *out)
{
    qsort(d->kld, (size_t)d->count, sizeof *d->kld, ascending);
    qsort(d->p_diff, (size_t)d->count, sizeof *d->p_diff, ascending);
    perplexities(d, out);
    buf_text(out, "\n\n====== KL divergence statistics ======\n");
    put(out, "Mean    KLD: ", 10, 6, divergence_kld(d));
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
        if (!marks[i].quarter)
            buf_printf(out, "\n%s KLD: %10.6f", marks[i].label,
                       divergence_percentile(d->kld, d->count, marks[i].share));
    const struct divergence_mean diff = percent(mean_of(d, d->diff, d->diff2));
    const struct divergence_mean rms = percent(rms_diff(d)), top = percent(same_top(d));
    buf_printf(out,
               "\n\n====== Token probability statistics ======\n"
               "Mean    Δp: %6.3f ± %5.3f %%",
               diff.mean, diff.error);
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
        buf_printf(out, "\n%s Δp: %6.3f%%", marks[i].label,
                   100 * divergence_percentile(d->p_diff, d->count, marks[i].share));
    buf_printf(out, "\nRMS Δp    : %6.3f ± %5.3f %%\nSame top p: %6.3f ± %5.3f %%\n", rms.mean,
               rms.error, top.mean, top.error);
}
