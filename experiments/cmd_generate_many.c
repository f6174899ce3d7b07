#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "autograd/base/err.h"
#include "autograd/base/mem.h"
#include "experiments/batcher.h"
#include "experiments/cmd.h"
#include "experiments/cmd_generate.h"
#include "experiments/interrupt.h"
#include "experiments/progress.h"
#include "experiments/prompts.h"

/* Of each request: the prompt it goes on from. */
struct whose {
    size_t prompt;
    int64_t sample;
};

struct many {
    struct prompts prompts;
    struct batcher_request *requests; /* [n] */
    struct whose *whose;              /* [n] */
    size_t n;
    struct progress progress;
    struct buf line;
    int64_t finished; /* tokens of finished texts */
};

static const char *const reasons[] = {
    [BATCHER_EOS] = "eos",
    [BATCHER_STOP] = "stop",
    [BATCHER_LENGTH] = "length",
    [BATCHER_CONTEXT] = "context",
};

/* A request for each sample. A line with a seed of its own gives the same texts wherever it
   stands; else the line's number is part of what is drawn. */
static int expand(struct many *w, int64_t seed)
{
    for (size_t i = 0; i < w->prompts.n; i++)
        w->n += (size_t)w->prompts.p[i].o.samples;
    w->requests = mem_new(w->n, sizeof *w->requests);
    w->whose = mem_new(w->n, sizeof *w->whose);
    if (!w->requests || !w->whose)
        return -1;
    for (size_t i = 0, at = 0; i < w->prompts.n; i++) {
        const struct prompt *p = &w->prompts.p[i];
        for (int64_t k = 0; k < p->o.samples; k++, at++) {
            w->whose[at] = (struct whose){i, k};
            w->requests[at] = (struct batcher_request){
                .prompt = p->tokens.id,
                .n = (int64_t)p->tokens.n,
                .n_predict = p->o.n_predict,
                .sampler = p->o.sampler,
                .stream = (uint64_t)k << 32 | (p->seeded ? 0 : i),
                .stop = &p->o.stop,
            };
            w->requests[at].sampler.seed = p->seeded ? p->o.seed : seed;
        }
    }
    return 0;
}

static int print_result(void *arg, const struct batcher_result *r)
{
    struct many *w = arg;
    const struct whose *whose = &w->whose[r->index];
    const struct prompt *p = &w->prompts.p[whose->prompt];
    struct buf *l = &w->line;
    buf_clear(l);
    buf_printf(l, "{\"index\": %zu, \"sample\": %lld, ", whose->prompt, (long long)whose->sample);
    if (p->id)
        buf_printf(l, "\"id\": %s, ", p->id);
    buf_text(l, "\"text\": ");
    buf_json(l, r->text, r->n_text);
    buf_printf(l, ", \"tokens\": %lld, \"prompt_tokens\": %zu, \"finish\": \"%s\"}\n",
               (long long)r->made, p->tokens.n, reasons[r->end]);
    w->finished += r->made;
    progress_clear(&w->progress);
    if (l->failed)
        return -1;
    return fwrite(l->p, 1, l->n, stdout) != l->n || fflush(stdout)
               ? err("the text cannot be written to stdout")
               : 0;
}

/* The rest is taken to be as long as what is done, or as it may become. */
static int show(void *arg, const struct batcher_stats *s)
{
    struct many *w = arg;
    double total = 0;
    if (s->done) {
        total = (double)w->finished / (double)s->done * (double)w->n;
    } else {
        for (size_t i = 0; i < w->n; i++)
            total += w->requests[i].n_predict < 0 ? NAN : (double)w->requests[i].n_predict;
    }
    const double made = (double)s->made;
    progress_update(&w->progress, made, isnan(total) ? 0 : fmax(total, made), "tokens");
    return 0;
}

/* Blocks for the `parallel` largest texts, but no more than half of the machine's memory holds,
   and enough for any one. */
static int64_t usual_blocks(const struct many *w, const struct generate_args *a, int64_t context,
                            size_t block)
{
    const double memory = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    const int64_t most = (int64_t)(memory / 2 / (double)block);
    int64_t largest = 0, all = 0;
    for (size_t i = 0; i < w->n; i++) {
        const int64_t n = batcher_blocks(&w->requests[i], context);
        largest = n > largest ? n : largest;
    }
    all = largest * (a->parallel < (int64_t)w->n ? a->parallel : (int64_t)w->n);
    return all < most ? all : most > largest ? most : largest;
}

static int choose_blocks(const struct many *w, const struct generate_args *a, int64_t context,
                         size_t block, int64_t *blocks)
{
    if (a->cache_blocks && a->cache_memory) {
        err("--cache-blocks and --cache-memory exclude each other");
        return CMD_USAGE;
    }
    *blocks = a->cache_blocks ? a->cache_blocks : a->cache_memory / (int64_t)block;
    if (!a->cache_blocks && !a->cache_memory)
        *blocks = usual_blocks(w, a, context, block);
    return *blocks ? 0
                   : err("--cache-memory %lld: a block of the cache takes %zu bytes",
                         (long long)a->cache_memory, block);
}

static void report(const struct many *w, const struct batcher_args *args,
                   const struct batcher_stats *s, size_t block)
{
    const double seconds = s->seconds > 0 ? s->seconds : 1;
    int64_t prompts = 0;
    for (size_t i = 0; i < w->n; i++)
        prompts += w->requests[i].n;
    fprintf(stderr,
            "%lld of %zu texts, at most %lld at once; generated: %lld tokens, %.1f tokens/s; "
            "prompts: %lld tokens; %lld passes\n",
            (long long)s->done, w->n, (long long)s->most, (long long)s->made,
            (double)s->made / seconds, (long long)prompts, (long long)s->passes);
    fprintf(
        stderr,
        "cache: %lld of %lld blocks at the peak, %.1f MiB of %s, %.1f with what stayed "
        "known; %lld tokens shared, %lld blocks copied; %lld preemptions, %lld tokens given back\n",
        (long long)s->peak, (long long)args->blocks, (double)s->peak * (double)block / (1 << 20),
        kvblock_names[args->cache], (double)s->touched * (double)block / (1 << 20),
        (long long)s->shared, (long long)s->copied, (long long)s->preempted, (long long)s->again);
}

static int run(struct many *w, const struct generate_args *a, struct transformer *m,
               const struct tokenizer *t, int64_t context)
{
    struct batcher_stats stats;
    struct batcher_args args = {.parallel = a->parallel,
                                .batch = a->batch_size,
                                .context = context,
                                .cache = (enum kvblock_type)a->cache_type,
                                .stop = &interrupt_flag};
    const size_t block = kv_block_bytes(&m->dims, args.cache);
    if (!block)
        return -1;
    int rc = choose_blocks(w, a, context, block, &args.blocks);
    if (rc)
        return rc;
    progress_open(&w->progress, STDERR_FILENO, "generating");
    rc = batcher_run(m, t, &args, w->requests, w->n, print_result, show, w, &stats);
    progress_close(&w->progress);
    if (stats.passes)
        report(w, &args, &stats, block);
    if (!rc && stats.done < (int64_t)w->n)
        rc = err("interrupted: %lld of %zu texts are finished", (long long)stats.done, w->n);
    return rc;
}

int cmd_generate_many(const struct generate_args *a, struct transformer *m,
                      const struct tokenizer *t)
{
    struct many w = {.n = 0};
    const int64_t context = a->ctx_size ? a->ctx_size : m->dims.context;
    const struct prompt_options defaults = {.n_predict = a->n_predict,
                                            .seed = a->seed,
                                            .samples = a->samples,
                                            .sampler = a->sampler,
                                            .stop = a->reverse_prompt};
    if (a->prompt || a->file) {
        err("--prompts excludes -p and -f");
        return CMD_USAGE;
    }
    if (a->batch_size < a->parallel) {
        err("--batch-size %lld: every text of --parallel %lld takes one token of a pass",
            (long long)a->batch_size, (long long)a->parallel);
        return CMD_USAGE;
    }
    int rc = prompts_load(&w.prompts, a->prompts, &defaults, t, context);
    if (!rc)
        rc = expand(&w, a->seed);
    if (!rc)
        rc = run(&w, a, m, t, context);
    prompts_free(&w.prompts);
    free(w.requests);
    free(w.whose);
    buf_free(&w.line);
    return rc;
}
