/*
 * Training speed: random tokens of fixed shape; a step is forward, mean cross-entropy, backward,
 * clipping and AdamW, as train_torch.py has it. Also the memory of one forward and backward pass.
 *
 *   bench_train [--shape tiny|small|gpt2|recover] [--arch llama|gpt2|...] [--d 256 --layers 6 ...]
 *               [--precision f32|bf16] [--recompute 1 --memory 1] [--micro SEQUENCES]
 *               [--qat Q2_K|Q3_K_M|Q4_K_M|Q6_K [--scales frozen|learned|super] [--rank 8]]
 *
 * --shape: defaults of what the model and the batch look like, the same as train_torch.py's;
 * recover: of configs/recover-5m.yaml. bf16: activations and products, with f32 master weights.
 * qat: training in the blocks of that mix; with a rank: of factors over them, which stay.
 *
 * Prints one JSON line: tokens_per_s is the median over the steps after the warm-up, first_step_s
 * the time from main to the end of the first step, arena_mib what a step needs beside the weights.
 */
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "autograd/base/clock.h"
#include "autograd/base/mem.h"
#include "autograd/base/rng.h"
#include "autograd/kernels/gemm.h"
#include "autograd/kernels/gemm_bf16.h"
#include "autograd/kernels/rows.h"
#include "autograd/ops/ops.h"
#include "experiments/blocks.h"
#include "experiments/config.h"
#include "experiments/plan.h"
#include "layers/transformer.h"
#include "optim/optimizer.h"

struct bench {
    long d, layers, heads, kv_heads, ff, vocab, seq, batch;
    long arch, tie, context; /* context: 0: seq */
    long threads, steps, warmup, bf16, recompute, memory, shape;
    long micro;       /* sequences at once; 0: all that `attar run` would take by default */
    long qat, scales; /* places in mixes, scales */
    long rank;        /* of factors over the blocks; 0: all is trained */
};

static const struct bench shapes[] = {
    {256, 6, 4, 2, 768, 2048, 256, 8, .threads = 2, .steps = 20, .warmup = 4},
    {512, 8, 8, 8, 1536, 8192, 512, 4, .threads = 2, .steps = 20, .warmup = 4},
    {768, 12, 12, 12, 3072, 50257, 512, 4, .arch = ARCH_GPT2, .tie = true, .context = 1024,
     .threads = 2, .steps = 20, .warmup = 4},
    {256, 6, 4, 2, 768, 2048, 256, 16, .tie = true, .threads = 2, .steps = 20, .warmup = 4},
};
static const char *const shape_names[] = {"tiny", "small", "gpt2", "recover", NULL};
static const char *const precisions[] = {"f32", "bf16", NULL};
static const char *const mixes[] = {"none", "Q2_K", "Q3_K_M", "Q4_K_M", "Q6_K", NULL};
static const char *const scales[] = {"frozen", "learned", "super", NULL};

static const struct {
    const char *name;
    size_t offset;
    const char *const *words; /* the value is the place of a word here; NULL: a number */
} flags[] = {
    {"--shape", offsetof(struct bench, shape), shape_names},
    {"--precision", offsetof(struct bench, bf16), precisions},
    {"--arch", offsetof(struct bench, arch), arch_names},
    {"--context", offsetof(struct bench, context), NULL},
    {"--d", offsetof(struct bench, d), NULL},
    {"--layers", offsetof(struct bench, layers), NULL},
    {"--heads", offsetof(struct bench, heads), NULL},
    {"--kv-heads", offsetof(struct bench, kv_heads), NULL},
    {"--ff", offsetof(struct bench, ff), NULL},
    {"--vocab", offsetof(struct bench, vocab), NULL},
    {"--seq", offsetof(struct bench, seq), NULL},
    {"--batch", offsetof(struct bench, batch), NULL},
    {"--micro", offsetof(struct bench, micro), NULL},
    {"--threads", offsetof(struct bench, threads), NULL},
    {"--steps", offsetof(struct bench, steps), NULL},
    {"--warmup", offsetof(struct bench, warmup), NULL},
    {"--tie", offsetof(struct bench, tie), NULL},
    {"--recompute", offsetof(struct bench, recompute), NULL},
    {"--qat", offsetof(struct bench, qat), mixes},
    {"--scales", offsetof(struct bench, scales), scales},
    {"--rank", offsetof(struct bench, rank), NULL},
    {"--memory", offsetof(struct bench, memory), NULL}, // only the plan: nothing is computed
};

static void die(const char *what)
{
    fprintf(stderr, "bench_train: %s\n", what);
    exit(1);
}

static long number(const char *const *words, const char *word)
{
    char *end;
    long x = 0;
    if (!words) {
        x = strtol(word, &end, 10);
        return *end || end == word ? -1 : x;
    }
    while (words[x] && strcmp(words[x], word))
        x++;
    return words[x] ? x : -1;
}

static struct bench arguments(struct bench b, int argc, char **argv)
{
    for (int i = 1; i < argc; i += 2) {
        size_t k = 0;
        while (k < sizeof flags / sizeof *flags && strcmp(argv[i], flags[k].name))
            k++;
        const bool known = k < sizeof flags / sizeof *flags && i + 1 < argc;
        const long x = known ? number(flags[k].words, argv[i + 1]) : -1;
        if (x < 0)
            die(argv[i]);
        *(long *)((char *)&b + flags[k].offset) = x;
    }
    return b;
}

static struct transformer_dims dims_of(const struct bench *b)
{
    struct transformer_dims d = {.arch = (enum arch)b->arch,
                                 .n_layers = (int)b->layers,
                                 .d_model = (int)b->d,
                                 .vocab = (int)b->vocab,
                                 .head_dim = (int)(b->d / b->heads),
                                 .context = (int)(b->context ? b->context : b->seq),
                                 .tied = b->tie,
                                 .norm_eps = 1e-5,
                                 .init_std = 0.02,
                                 .rope.base = 10000};
    for (long l = 0; l < b->layers; l++) {
        d.n_heads[l] = (int)b->heads;
        d.n_kv_heads[l] = (int)b->kv_heads;
        d.d_ff[l] = (int)b->ff;
    }
    return d;
}

/* One step: b sequences of T tokens and the token after each, some of them at once. */
struct data {
    int32_t *tok, *pos, *target;
    uint64_t *row_id;
    struct sequence *seqs;
    struct batch batch; /* the first of the parts */
    long parts;
};

static void fill(struct data *x, const struct bench *b, long step)
{
    const int64_t n = b->batch * b->seq;
    const uint64_t key = rng_key(1, "bench");
    for (int64_t i = 0; i < b->batch; i++) {
        x->seqs[i] = (struct sequence){.start = i % b->micro * b->seq, .len = b->seq};
        for (int64_t t = 0; t < b->seq; t++) {
            const int64_t at = i * b->seq + t;
            const uint64_t c = (uint64_t)step * (uint64_t)(n + b->batch) + (uint64_t)(at + i);
            x->tok[at] = (int32_t)rng_below(key, c, (uint64_t)b->vocab);
            x->target[at] = (int32_t)rng_below(key, c + 1, (uint64_t)b->vocab);
            x->pos[at] = (int32_t)t;
            x->row_id[at] = (uint64_t)at;
        }
    }
    x->parts = b->batch / b->micro;
    x->batch = (struct batch){.n = n / x->parts,
                              .tok = x->tok,
                              .pos = x->pos,
                              .row_id = x->row_id,
                              .seqs = x->seqs,
                              .n_seqs = (int)b->micro};
}

/* Forward and backward of part i. */
static void pass(struct transformer *m, struct ctx *ctx, const struct data *x, long i,
                 struct loss *loss)
{
    struct batch b = x->batch;
    const int64_t at = i * b.n;
    const struct head_loss_args head = {.target = x->target + at, .weight = 1};
    b.tok += at;
    b.row_id += at;
    ctx_reset(ctx);
    ctx->recording = ctx->training = true;
    struct tensor *hidden = transformer_forward(ctx, m, &b);
    if (!op_head_loss(ctx, hidden, &m->output->used, &head, loss))
        tape_backward(ctx, NULL);
    if (ctx->failed)
        die(ctx->text);
}

static double step(struct transformer *m, struct blocks *blocks, struct ctx *ctx,
                   const struct data *x, long done)
{
    struct store *s = m->lora.factors.n ? &m->lora.factors : &m->store;
    struct loss loss = {0};
    store_zero_grad(s);
    for (long i = 0; i < x->parts; i++)
        pass(m, ctx, x, i, &loss);
    store_pullback(s);
    const double count = (double)loss.count, norm = grad_norm(s) / count;
    const struct optimizer_args args = {.step = done + 1,
                                        .lr = 1e-3f,
                                        .grad_scale = (float)(fmin(1, 1 / (norm + 1e-6)) / count),
                                        .weight_decay = 0.1f,
                                        .beta1 = 0.9f,
                                        .beta2 = 0.95f,
                                        .eps = 1e-8f};
    if (optimizers[OPTIMIZER_ADAMW].step(s, &args))
        die(err_text());
    if (blocks && blocks->qat.scales.n &&
        optimizers[OPTIMIZER_ADAMW].step(&blocks->qat.scales, &args))
        die(err_text());
    store_project(s);
    if (blocks && qat_check(&blocks->qat))
        die(err_text());
    return loss.nll / count;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static struct lora_args factors(const struct bench *b)
{
    static const char *all = "all";
    return (struct lora_args){.rank = b->rank, .alpha = (double)b->rank, .targets = {1, &all}};
}

static size_t plan(const struct bench *b, const struct transformer_dims *dims)
{
    const struct lora_args lora = factors(b);
    const struct plan_args args = {.n_seqs = b->micro,
                                   .T = b->seq,
                                   .parts = 1,
                                   .bf16 = b->bf16,
                                   .recompute = b->recompute,
                                   .lora = b->rank ? &lora : NULL};
    const size_t bytes = plan_train(dims, &args);
    if (!bytes)
        die(err_text());
    return bytes;
}

static void report(const struct bench *b, const struct transformer *m, size_t arena, double *rate,
                   double first, double loss)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    qsort(rate, (size_t)b->steps, sizeof *rate, by_value);
    const double median = (rate[(b->steps - 1) / 2] + rate[b->steps / 2]) / 2;
    printf("{\"program\": \"attar\", \"rows\": \"%s\", \"gemm\": \"%s\", \"arch\": \"%s\", "
           "\"precision\": \"%s\", "
           "\"d\": %ld, \"layers\": %ld, \"heads\": %ld, \"kv_heads\": %ld, \"ff\": %ld, "
           "\"vocab\": %ld, \"seq\": %ld, \"batch\": %ld, \"micro\": %ld, \"threads\": %ld, "
           "\"tie\": %s, "
           "\"recompute\": %s, \"qat\": \"%s\", \"scales\": \"%s\", \"params\": %lld, "
           "\"rank\": %ld, \"trained\": %lld, "
           "\"steps\": %ld, \"tokens_per_s\": %.1f, \"step_ms\": %.2f, "
           "\"tokens_per_s_min\": %.1f, \"tokens_per_s_max\": %.1f, \"first_step_s\": %.3f, "
           "\"peak_rss_mib\": %.1f, \"arena_mib\": %.2f, \"loss\": %.4f}\n",
           rows->name, b->bf16 ? gemm_bf16->name : gemm_describe(), arch_names[b->arch],
           precisions[b->bf16], b->d, b->layers, b->heads, b->kv_heads, b->ff, b->vocab, b->seq,
           b->batch, b->micro, b->threads, b->tie ? "true" : "false",
           b->recompute ? "true" : "false", mixes[b->qat], scales[b->scales],
           (long long)store_numel(&m->store), b->rank,
           (long long)store_numel(b->rank ? &m->lora.factors : &m->store), b->steps, median,
           1e3 * (double)(b->batch * b->seq) / median, rate[0], rate[b->steps - 1], first,
           (double)usage.ru_maxrss / 1024, (double)arena / 0x1p20, loss);
}

/* The model, random, in blocks if it is to be; or under factors. */
static void make(const struct bench *b, const struct transformer_dims *dims, struct transformer *m,
                 struct blocks *blocks)
{
    const struct config_qat qat = {.type = mixes[b->qat],
                                   .ste = STE_CLIPPED,
                                   .scales = (int)b->scales};
    const struct lora_args lora = factors(b);
    if (transformer_init(m, dims, b->rank ? STORE_FROZEN : STORE_TRAINED))
        die(err_text());
    if (b->bf16 && !b->rank && store_panels(&m->store))
        die(err_text());
    store_init(&m->store, 1);
    if (b->qat && blocks_open(blocks, &qat, b->bf16, ".", m))
        die(err_text());
    if (!b->rank && b->qat && blocks_begin(blocks, m))
        die(err_text());
    if (!b->rank)
        return;
    if (blocks_fit(blocks) || blocks_freeze(blocks, m, b->bf16) || lora_add_targets(m, &lora) ||
        lora_attach(m, lora.alpha, STORE_TRAINED) || (b->bf16 && store_panels(&m->store)))
        die(err_text());
    store_init(&m->lora.factors, 1);
}

int main(int argc, char **argv)
{
    const double start = clock_seconds();
    struct bench b = arguments(shapes[0], argc, argv);
    b = arguments(shapes[b.shape], argc, argv);
    const struct config_train plain = {.batch_tokens = b.batch * b.seq};
    b.micro = b.micro ? b.micro : config_micro_batch(&plain, b.seq) / b.seq;
    if (b.batch % b.micro)
        die("--micro does not divide --batch");
    if (b.rank && !b.qat)
        die("--rank wants blocks: --qat");
    omp_set_num_threads((int)b.threads);
    if (gemm_init(argv, GEMM_SPIN))
        die(err_text());
    const struct transformer_dims dims = dims_of(&b);
    const size_t arena = plan(&b, &dims);
    if (b.memory) {
        printf("{\"seq\": %ld, \"recompute\": %s, \"arena_mib\": %.2f}\n", b.seq,
               b.recompute ? "true" : "false", (double)arena / 0x1p20);
        return 0;
    }
    struct transformer m;
    struct blocks blocks;
    struct ctx ctx;
    if (ctx_init(&ctx, arena))
        die(err_text());
    ctx.recompute = b.recompute;
    ctx.act = b.bf16 ? &dtype_bf16 : &dtype_f32;
    make(&b, &dims, &m, &blocks);
    const size_t n = (size_t)(b.batch * b.seq);
    struct data x = {.tok = mem_new(n, sizeof *x.tok),
                     .pos = mem_new(n, sizeof *x.pos),
                     .target = mem_new(n, sizeof *x.target),
                     .row_id = mem_new(n, sizeof *x.row_id),
                     .seqs = mem_new((size_t)b.batch, sizeof *x.seqs)};
    double *rate = mem_new((size_t)b.steps, sizeof *rate), first = 0, loss = 0;
    if (!x.tok || !x.pos || !x.target || !x.row_id || !x.seqs || !rate)
        die(err_text());
    for (long i = 0; i < b.warmup + b.steps; i++) {
        fill(&x, &b, i);
        const double begin = clock_seconds();
        loss = step(&m, b.qat ? &blocks : NULL, &ctx, &x, i);
        const double end = clock_seconds();
        if (!i)
            first = end - start;
        if (i >= b.warmup)
            rate[i - b.warmup] = (double)n / (end - begin);
    }
    report(&b, &m, arena, rate, first, loss);
    return 0;
}
