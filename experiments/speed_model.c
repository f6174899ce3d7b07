#include "experiments/speed_model.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/clock.h"
#include "autograd/base/mem.h"
#include "autograd/base/rng.h"
#include "datasets/tokenizer.h"
#include "experiments/model_path.h"
#include "layers/transformer.h"

enum { WARM = 1 };

/* A model, opened for a test of up to `most` tokens. */
struct subject {
    struct transformer m;
    struct tokenizer *tok;
    struct buf path;
    struct ctx ctx;
    struct kv_pool pool;
    int32_t *token; /* [most], at random */
    int64_t most;
};

struct test {
    int64_t prompt, gen, threads; /* prompt or gen is 0 */
    int64_t n;                    /* samples */
    double *seconds;              /* [n] */
};

/* Tokens [from, from + n) of the sequence. 0, or -1 with the ctx failed. */
static int forward(struct subject *s, struct ctx *ctx, struct kv *kv, int64_t from, int64_t n)
{
    ctx_reset(ctx);
    int32_t *pos = ctx_push(ctx, (size_t)n * sizeof *pos);
    for (int64_t i = 0; pos && i < n; i++)
        pos[i] = (int32_t)(from + i);
    const struct sequence seq = {.len = n, .kv = kv};
    const struct batch batch = {
        .n = n, .tok = s->token + from, .pos = pos, .seqs = &seq, .n_seqs = 1};
    struct tensor *hidden = pos ? transformer_forward(ctx, &s->m, &batch) : NULL;
    return transformer_logits(ctx, &s->m, hidden, n - 1, 1) && !ctx->failed ? 0 : -1;
}

/* Bytes of arena for all tests; 0 with err() set. */
static size_t measured(struct subject *s, int64_t longest)
{
    struct ctx ctx;
    struct kv kv;
    if (ctx_init(&ctx, 0))
        return 0;
    kv_open(&kv, &s->pool);
    bool failed = forward(s, &ctx, &kv, 0, longest);
    kv.len = s->most - 1;
    failed = failed || forward(s, &ctx, &kv, s->most - 1, 1);
    const size_t peak = ctx.arena.peak;
    if (failed)
        err("%s", ctx.text);
    ctx_free(&ctx);
    return failed ? 0 : peak;
}

static int opened(struct subject *s, const char *name, int64_t longest)
{
    const int64_t context = s->m.dims.context;
    if (s->most > context)
        return err("%s: %lld tokens are to be measured, the model's context is %lld", name,
                   (long long)s->most, (long long)context);
    s->token = mem_new((size_t)s->most, sizeof *s->token);
    if (!s->token || kv_pool_init(&s->pool, &s->m.dims, KVBLOCK_F16, kv_blocks(s->most)))
        return -1;
    for (int64_t i = 0; i < s->most; i++) {
        uint32_t draw[4];
        rng_block(1, 0, (uint64_t)i, draw);
        s->token[i] = (int32_t)(draw[0] % (uint32_t)s->m.dims.vocab);
    }
    const size_t bytes = measured(s, longest);
    return bytes ? ctx_init(&s->ctx, bytes) : -1;
}

static void closed(struct subject *s)
{
    ctx_free(&s->ctx);
    kv_pool_free(&s->pool);
    free(s->token);
    buf_free(&s->path);
    tokenizer_free(s->tok);
    transformer_free(&s->m);
}

/* One pass of a test; `gen` tokens of it at most. Seconds, or -1 with err() set. */
static double pass(struct subject *s, const struct test *t, int64_t gen)
{
    struct kv kv;
    kv_open(&kv, &s->pool);
    const double start = clock_seconds();
    int rc = t->prompt ? forward(s, &s->ctx, &kv, 0, t->prompt) : 0;
    for (int64_t i = 0; i < gen && !rc; i++)
        rc = forward(s, &s->ctx, &kv, i, 1);
    const double seconds = clock_seconds() - start;
    kv_close(&kv);
    if (rc)
        err("%s", s->ctx.text);
    return rc ? -1 : seconds;
}

static int run(struct subject *s, struct test *t)
{
    omp_set_num_threads((int)t->threads);
    if (pass(s, t, t->gen ? WARM : 0) < 0) // a prompt whole, of the others the first token
        return -1;
    for (int64_t i = 0; i < t->n; i++)
        if ((t->seconds[i] = pass(s, t, t->gen)) < 0)
            return -1;
    return 0;
}

/* ---- printing, with llama-bench's names ---- */

struct figures {
    double mean, deviation;
};

static struct figures figures_of(const struct test *t, double (*of)(const struct test *, int64_t))
{
    struct figures f = {0, 0};
    for (int64_t i = 0; i < t->n; i++)
        f.mean += of(t, i) / (double)t->n;
    for (int64_t i = 0; i < t->n && t->n > 1; i++)
        f.deviation += (of(t, i) - f.mean) * (of(t, i) - f.mean) / (double)(t->n - 1);
    f.deviation = sqrt(f.deviation);
    return f;
}

static double rate(const struct test *t, int64_t i)
{
    return (double)(t->prompt + t->gen) / t->seconds[i];
}

static double nanoseconds(const struct test *t, int64_t i)
{
    return 1e9 * t->seconds[i];
}

struct facts {
    const char *path, *arch, *type;
    double bytes;
    int64_t params;
};

/* Bytes of the parameters, and the type that most of them have. */
static struct facts facts_of(const struct subject *s)
{
    const struct store *store = &s->m.store;
    struct facts f = {.path = s->path.p, .arch = arch_rows[s->m.dims.arch].name, .type = ""};
    double best = 0;
    for (int i = 0; i < store->n; i++) {
        const struct dtype *dt = store->p[i].used.dt;
        double of_type = 0;
        f.bytes += (double)tensor_bytes(&store->p[i].used);
        f.params += tensor_numel(&store->p[i].used);
        for (int j = 0; j < store->n; j++)
            if (store->p[j].used.dt == dt)
                of_type += (double)tensor_bytes(&store->p[j].used);
        if (of_type > best) {
            best = of_type;
            f.type = dt->name;
        }
    }
    return f;
}

static void print_count(double n, struct buf *out)
{
    const bool billions = n >= 1e9;
    buf_printf(out, " %8.2f %s |", n / (billions ? 1e9 : 1e6), billions ? "B" : "M");
}

static void print_md(const struct facts *f, const struct test *t, bool first, struct buf *out)
{
    const struct figures r = figures_of(t, rate);
    char test[32], model[64];
    if (first)
        buf_text(out,
                 "| model                |       size |     params | backend | threads |   test "
                 "|              t/s |\n| -------------------- | ---------: | ---------: | "
                 "------- | ------: | -----: | ---------------: |\n");
    snprintf(test, sizeof test, "%s%lld", t->prompt ? "pp" : "tg", (long long)(t->prompt + t->gen));
    snprintf(model, sizeof model, "%s %s", f->arch, f->type);
    const bool large = f->bytes >= 0x1p30;
    buf_printf(out, "| %-20s | %6.2f %s |", model, f->bytes / (large ? 0x1p30 : 0x1p20),
               large ? "GiB" : "MiB");
    print_count((double)f->params, out);
    buf_printf(out, " CPU     | %7lld | %6s | %8.2f ± %5.2f |\n", (long long)t->threads, test,
               r.mean, r.deviation);
}

static void print_csv(const struct facts *f, const struct test *t, bool first, struct buf *out)
{
    const struct figures r = figures_of(t, rate), ns = figures_of(t, nanoseconds);
    if (first)
        buf_text(out, "model_filename,model_type,model_size,model_n_params,n_threads,n_prompt,"
                      "n_gen,avg_ns,stddev_ns,avg_ts,stddev_ts\n");
    buf_printf(out, "\"%s\",\"%s %s\",%.0f,%lld,%lld,%lld,%lld,%.0f,%.0f,%.6f,%.6f\n", f->path,
               f->arch, f->type, f->bytes, (long long)f->params, (long long)t->threads,
               (long long)t->prompt, (long long)t->gen, ns.mean, ns.deviation, r.mean, r.deviation);
}

static void print_object(const struct facts *f, const struct test *t, struct buf *out)
{
    const struct figures r = figures_of(t, rate), ns = figures_of(t, nanoseconds);
    buf_text(out, "{\"model_filename\": ");
    buf_json(out, f->path, strlen(f->path));
    buf_printf(out,
               ", \"model_type\": \"%s %s\", \"model_size\": %.0f, \"model_n_params\": %lld, "
               "\"n_threads\": %lld, \"n_prompt\": %lld, \"n_gen\": %lld, \"avg_ns\": %.0f, "
               "\"stddev_ns\": %.0f, \"avg_ts\": %.6f, \"stddev_ts\": %.6f, \"samples_ts\": [",
               f->arch, f->type, f->bytes, (long long)f->params, (long long)t->threads,
               (long long)t->prompt, (long long)t->gen, ns.mean, ns.deviation, r.mean, r.deviation);
    for (int64_t i = 0; i < t->n; i++)
        buf_printf(out, "%s%.6f", i ? ", " : "", rate(t, i));
    buf_text(out, "]}");
}

static void print_test(const struct speed_model_args *a, const struct facts *f,
                       const struct test *t, bool first, struct buf *out)
{
    if (a->form == SPEED_MD)
        print_md(f, t, first, out);
    if (a->form == SPEED_CSV)
        print_csv(f, t, first, out);
    if (a->form == SPEED_JSON)
        buf_text(out, first ? "[\n  " : ",\n  ");
    if (a->form == SPEED_JSON || a->form == SPEED_JSONL)
        print_object(f, t, out);
    if (a->form == SPEED_JSONL)
        buf_text(out, "\n");
}

static int all_tests(const struct speed_model_args *a, struct subject *s, double *seconds,
                     struct buf *out)
{
    const struct facts f = facts_of(s);
    bool first = true;
    for (int k = 0; k < a->threads->n; k++)
        for (int i = 0; i < a->prompt->n + a->gen->n; i++) {
            const bool prompt = i < a->prompt->n;
            const int64_t n = prompt ? a->prompt->value[i] : a->gen->value[i - a->prompt->n];
            struct test t = {.prompt = prompt ? n : 0,
                             .gen = prompt ? 0 : n,
                             .threads = a->threads->value[k],
                             .n = a->repetitions,
                             .seconds = seconds};
            if (!n)
                continue;
            if (run(s, &t))
                return -1;
            print_test(a, &f, &t, first, out);
            first = false;
        }
    if (a->form == SPEED_JSON)
        buf_text(out, first ? "[]\n" : "\n]\n");
    return out->failed ? -1 : 0;
}

int speed_model(const struct speed_model_args *a, struct buf *out)
{
    struct subject s = {.most = 1};
    int64_t longest = 1;
    for (int i = 0; i < a->prompt->n; i++)
        longest = a->prompt->value[i] > longest ? a->prompt->value[i] : longest;
    s.most = longest;
    for (int i = 0; i < a->gen->n; i++)
        s.most = a->gen->value[i] > s.most ? a->gen->value[i] : s.most;
    for (int k = 0; k < a->threads->n; k++) // scratch is by the most threads
        if (a->threads->value[k] > omp_get_max_threads())
            omp_set_num_threads((int)a->threads->value[k]);
    if (model_path_open(a->model, &s.m, &s.tok, &s.path))
        return -1;
    double *seconds = mem_new((size_t)a->repetitions, sizeof *seconds);
    const int rc = !seconds || (a->repack && store_copy(&s.m.store)) ||
                           opened(&s, a->model, longest) || all_tests(a, &s, seconds, out)
                       ? -1
                       : 0;
    free(seconds);
    closed(&s);
    return rc;
}
