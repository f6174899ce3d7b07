#include "experiments/rates.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/clock.h"
#include "autograd/base/mem.h"
#include "autograd/base/rng.h"
#include "autograd/kernels/rows.h"
#include "autograd/ops/ops.h"

/* One measurement: at least RUNS, and for SPELL seconds. */
enum { RUNS = 3, RUNS_MAX = 64 };
static const double SPELL = 0.012;
static const double LARGE = 3e9; // FLOPs of a run: more takes too long and is no faster
enum { LONG = 2048 };            // tokens of a sequence that keep attention at its speed

void rates_free(struct rates *r)
{
    free(r->known);
    *r = (struct rates){0};
}

/* ---- the median of some runs ---- */

struct runs {
    double time[RUNS_MAX], begin, sum;
    int n; /* -1: the first run only warms up */
};

static bool more(const struct runs *r)
{
    return r->n < RUNS || (r->sum < SPELL && r->n < RUNS_MAX);
}

static void start(struct runs *r)
{
    r->begin = clock_seconds();
}

static void stop(struct runs *r)
{
    const double seconds = clock_seconds() - r->begin;
    if (r->n >= 0) {
        r->time[r->n] = seconds;
        r->sum += seconds;
    }
    r->n++;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(struct runs *r)
{
    qsort(r->time, (size_t)r->n, sizeof *r->time, by_value);
    return r->time[r->n / 2] > 0 ? r->time[r->n / 2] : 1e-9;
}

/* ---- products: an op on tensors of that shape ---- */

/* A tensor [rows,cols] of some numbers, not on the arena. 0, or -1 with err() set. */
static int make(struct tensor *t, const struct dtype *dt, int64_t n, int64_t cols)
{
    *t = (struct tensor){.dt = dt, .nd = 2, .dim = {n, cols}};
    t->data = mem_slab(tensor_bytes(t), 1);
    float *row = mem_new((size_t)cols, sizeof *row);
    if (!t->data || !row) {
        free(t->data);
        free(row);
        return -1;
    }
    for (int64_t i = 0; i < cols; i++)
        row[i] = (float)(i * 7 % 17 - 8) / 16;
    for (int64_t i = 0; i < n; i++)
        dt->encode(t, i, row, NULL);
    free(row);
    return 0;
}

/* The gradient of an op's result, as the op behind it would have left it. */
static void arrive(struct ctx *ctx, struct tensor *y)
{
    bool fresh;
    void *grad = ctx_grad(ctx, y, &fresh);
    if (grad)
        memcpy(grad, y->data, tensor_bytes(y));
}

/* Runs the linear of p; only one of the gradients is wanted, if any. */
static int time_linear(const struct product *p, struct ctx *ctx, struct tensor *x, struct tensor *w,
                       struct runs *runs)
{
    x->needs_grad = p->kind == COST_DX;
    w->needs_grad = p->kind == COST_DW;
    ctx->recording = p->kind != COST_FORWARD;
    while (more(runs)) {
        struct tensor *y;
        x->grad = NULL;
        ctx_reset(ctx);
        if (!ctx->recording)
            start(runs);
        if (op_linear(ctx, x, 1, &w, NULL, NULL, &y))
            break;
        if (ctx->recording) {
            arrive(ctx, y);
            start(runs);
            tape_backward(ctx, NULL);
        }
        stop(runs);
        if (ctx->failed)
            break;
    }
    return ctx->failed ? err("%s", ctx->text) : 0;
}

static int measure_linear(const struct product *p, struct runs *runs)
{
    const int64_t dim[] = {p->N, p->K};
    struct store s = {0};
    struct tensor x = {0};
    struct ctx ctx = {0};
    int rc = store_add(&s, "weight", 2, dim, 0.02f) || store_alloc(&s, STORE_TRAINED) ||
                     (p->dt == &dtype_bf16 && store_panels(&s)) || make(&x, p->dt, p->M, p->K) ||
                     ctx_init(&ctx, (size_t)(p->M * p->K + p->M * p->N + p->N * p->K) * 16 +
                                        ((size_t)1 << 26))
                 ? -1
                 : 0;
    if (!rc) {
        store_init(&s, 1);
        ctx.act = p->dt;
        rc = time_linear(p, &ctx, &x, &s.p[0].used, runs);
    }
    ctx_free(&ctx);
    free(x.data);
    store_free(&s);
    return rc;
}

static int time_attention(const struct product *p, struct ctx *ctx, struct tensor *const qkv[3],
                          struct runs *runs)
{
    struct attention_seq *seqs = mem_new((size_t)p->N, sizeof *seqs);
    if (!seqs)
        return -1;
    for (int64_t i = 0; i < p->N; i++)
        seqs[i] = (struct attention_seq){.start = i * p->M, .len = p->M};
    ctx->recording = p->kind == COST_ATTENTION_BACKWARD;
    while (more(runs)) {
        ctx_reset(ctx);
        for (int i = 0; i < 3; i++) {
            qkv[i]->needs_grad = ctx->recording;
            qkv[i]->grad = NULL;
        }
        if (!ctx->recording)
            start(runs);
        struct tensor *y = op_attention(ctx, qkv[0], qkv[1], qkv[2], (int)p->K, seqs, (int)p->N);
        if (!y)
            break;
        if (ctx->recording) {
            arrive(ctx, y);
            start(runs);
            tape_backward(ctx, NULL);
        }
        stop(runs);
        if (ctx->failed)
            break;
    }
    free(seqs);
    return ctx->failed ? err("%s", ctx->text) : 0;
}

static int measure_attention(const struct product *p, struct runs *runs)
{
    const int64_t n = p->M * p->N, wide = p->H * p->K, narrow = p->Hkv * p->K;
    struct tensor q = {0}, k = {0}, v = {0};
    struct ctx ctx = {0};
    int rc = make(&q, p->dt, n, wide) || make(&k, p->dt, n, narrow) || make(&v, p->dt, n, narrow) ||
                     ctx_init(&ctx, (size_t)(n * (wide + narrow)) * 32 + ((size_t)1 << 27))
                 ? -1
                 : 0;
    if (!rc) {
        ctx.act = p->dt;
        rc = time_attention(p, &ctx, (struct tensor *[]){&q, &k, &v}, runs);
    }
    ctx_free(&ctx);
    free(q.data);
    free(k.data);
    free(v.data);
    return rc;
}

static bool of_attention(const struct product *p)
{
    return p->kind == COST_ATTENTION || p->kind == COST_ATTENTION_BACKWARD;
}

/* n, or a little less: whole panels. */
static int64_t even(int64_t n)
{
    enum { PANEL_SIZE = 32 };
    return n > 2 * PANEL_SIZE ? n - n % PANEL_SIZE : n;
}

/* A part of p that runs at the same rate in bearable time: fewer sequences and heads, but enough
   for the threads, then shorter ones; the longest of a product's sides halved. */
static struct product part_of(struct product p)
{
    const int64_t threads = omp_get_max_threads();
    while (p.flops > LARGE && of_attention(&p)) {
        int64_t *fewer = p.N > 1 ? &p.N : &p.Hkv;
        const int64_t n = *fewer, half = (n + 1) / 2, heads = p.N * p.Hkv;
        if (n == 1 || heads / n * half < threads)
            break;
        if (fewer == &p.Hkv)
            p.H = p.H / p.Hkv * half;
        *fewer = half;
        p.flops = p.flops * (double)half / (double)n;
    }
    // long sequences go through the cache in tiles: one of a quarter of the work is as fast
    while (p.flops > LARGE && of_attention(&p) && p.M > LONG) {
        p.M /= 2;
        p.flops /= 4;
    }
    if (of_attention(&p))
        return p;
    // kernels have slow ends for odd sizes, which a head pads its vocabulary against
    p.N = even(p.N);
    while ((p.flops = 2 * (double)p.M * (double)p.N * (double)p.K) > LARGE) {
        int64_t *side = p.M >= p.N && p.M >= p.K ? &p.M : p.N >= p.K ? &p.N : &p.K;
        *side = even(*side / 2);
    }
    return p;
}

/* How far two shapes are apart; infinite if nothing is to be learnt from one about the other. */
static double distance(const struct rate *r, const struct product *p)
{
    const struct product *q = &r->shape;
    if (q->kind != p->kind || q->dt != p->dt || r->threads != omp_get_max_threads())
        return INFINITY;
    return fabs(log((double)p->M / (double)q->M)) + fabs(log((double)p->N / (double)q->N)) +
           fabs(log((double)p->K / (double)q->K)) +
           (p->H ? fabs(log((double)p->H / (double)q->H)) +
                       fabs(log((double)p->Hkv / (double)q->Hkv))
                 : 0);
}

double rates_product(struct rates *r, const struct product *p)
{
    const struct rate *near = NULL;
    double apart = INFINITY;
    for (size_t i = 0; i < r->n; i++) {
        const double d = distance(&r->known[i], p);
        if (d < apart) {
            apart = d;
            near = &r->known[i];
        }
    }
    if (near && (apart == 0 || (r->most > 0 && r->seconds > r->most)))
        return near->flops;
    const double begin = clock_seconds();
    const struct product part = part_of(*p);
    struct runs runs = {.n = -1};
    if ((of_attention(p) ? measure_attention : measure_linear)(&part, &runs) ||
        mem_grow(&r->known, &r->cap, r->n + 1, sizeof *r->known))
        return 0;
    struct rate *new = &r->known[r->n++];
    *new = (struct rate){*p, omp_get_max_threads(), part.flops / median(&runs)};
    r->seconds += clock_seconds() - begin;
    return new->flops;
}

double rates_peak(const struct rates *r)
{
    double peak = 0;
    for (size_t i = 0; i < r->n; i++)
        if (r->known[i].threads == omp_get_max_threads())
            peak = fmax(peak, r->known[i].flops);
    return peak;
}

/* ---- passes over rows ---- */

static double footprint_of(int size)
{
    return ldexp(1, 17 + 3 * size);
}

/* y = a + b on arrays of n floats, shared by the threads as ops share rows. */
static void pass(int64_t n, const float *a, const float *b, float *y)
{
    enum { ROW = 1 << 10 };
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i += ROW)
        rows->add(n - i < ROW ? n - i : ROW, a + i, b + i, y + i);
}

static double measure_bytes(double footprint)
{
    const int64_t n = (int64_t)(footprint / (3 * sizeof(float)));
    float *a = mem_slab((size_t)n, sizeof *a), *b = mem_slab((size_t)n, sizeof *b);
    float *y = mem_slab((size_t)n, sizeof *y);
    struct runs runs = {.n = -1};
    if (a && b && y) {
        memset(a, 0, (size_t)n * sizeof *a); // else all its pages are the same one of zeros
        memset(b, 0, (size_t)n * sizeof *b);
        while (more(&runs)) {
            start(&runs);
            pass(n, a, b, y);
            stop(&runs);
        }
    }
    free(a);
    free(b);
    free(y);
    return runs.n > 0 ? footprint / median(&runs) : 0;
}

double rates_bytes(struct rates *r, double footprint)
{
    const double begin = clock_seconds();
    const double at = fmin(fmax((log2(footprint) - 17) / 3, 0), RATES_SIZES - 1);
    const int low = (int)at, high = low + 1 < RATES_SIZES ? low + 1 : low;
    for (int i = low; i <= high; i++)
        if (!(r->bytes[i] > 0) && !((r->bytes[i] = measure_bytes(footprint_of(i))) > 0))
            return 0;
    r->seconds += clock_seconds() - begin;
    return r->bytes[low] * pow(r->bytes[high] / r->bytes[low], at - low);
}

/* ---- what a row kernel computes ---- */

enum { ELEMENTS = 1 << 16 }; // in L1 and L2: 4096 of them at a time

static void all_exps(void)
{
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < ELEMENTS; i += 4096) {
        float x[4096];
        for (int j = 0; j < 4096; j++)
            x[j] = -(float)(j % 64) / 8;
        for (int k = 0; k < 8; k++)
            rows->exp_sum(4096, x, 1, 0, x);
    }
}

static void all_draws(void)
{
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < ELEMENTS; i += 4) {
        uint32_t draw[4];
        rng_block(1, 2, (uint64_t)i, draw);
        volatile uint32_t used = draw[0];
        (void)used;
    }
}

static void nothing(void)
{
#pragma omp parallel
    {
        volatile int here = omp_get_thread_num();
        (void)here;
    }
}

static double once(double *known, double *spent, void (*fn)(void))
{
    const double begin = clock_seconds();
    struct runs runs = {.n = -1};
    while (!(*known > 0) && more(&runs)) {
        start(&runs);
        fn();
        stop(&runs);
    }
    if (!(*known > 0))
        *known = median(&runs);
    *spent += clock_seconds() - begin;
    return *known;
}

double rates_exps(struct rates *r)
{
    return 8.0 * ELEMENTS / once(&r->exps, &r->seconds, all_exps);
}

double rates_draws(struct rates *r)
{
    return ELEMENTS / once(&r->draws, &r->seconds, all_draws);
}

double rates_region(struct rates *r)
{
    return once(&r->region, &r->seconds, nothing);
}

double rates_row(struct rates *r, const struct profile *p, int row)
{
    const struct profile_row *at = &p->row[row];
    const double calls = (double)at->calls;
    double sum = 0;
    for (size_t i = 0; i < p->n_work; i++) {
        const struct product *product = &p->work[i].product;
        if (p->work[i].row != row)
            continue;
        const double rate = rates_product(r, product);
        if (!(rate > 0))
            return -1;
        sum += product->flops * product->times / rate;
    }
    if (at->calls < 1 || !(at->bytes > 0))
        return sum;
    const double rate = rates_bytes(r, at->bytes / calls);
    if (!(rate > 0))
        return -1;
    // a pass computes while it waits for memory: the slower of both counts
    const double reading = at->bytes / rate;
    const double computing = at->exps > 0 ? at->exps / rates_exps(r) : 0;
    sum += fmax(reading, computing) + calls * rates_region(r);
    return at->draws > 0 ? sum + at->draws / rates_draws(r) : sum;
}
