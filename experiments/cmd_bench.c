/* attar bench: how fast this machine multiplies and trains, and where the time goes. */
#include <omp.h>
#include <stdio.h>
#include <string.h>

#include "autograd/base/spell.h"
#include "experiments/cmd.h"
#include "experiments/config.h"
#include "experiments/flags.h"
#include "experiments/model.h"
#include "experiments/speed.h"
#include "experiments/speed_model.h"
#include "experiments/stage_plan.h"

struct bench_flags {
    bool gemm, train;
    const char *config;
    struct texts overrides;
    const char *shape, *arch;
    int64_t d, layers, heads, kv_heads, ff, vocab, seq, batch;
    bool tie, recompute;
    int precision; /* enum config_precision */
    int64_t steps;
    struct ints threads;
    bool json;
    const char *model;
    struct ints n_prompt, n_gen;
    int64_t repetitions;
    bool repack;
    int output; /* enum speed_model_form */
};

static const char *const forms[] = {
    [SPEED_MD] = "md", [SPEED_CSV] = "csv", [SPEED_JSON] = "json", [SPEED_JSONL] = "jsonl", NULL};

static const char *const precisions[] = {
    [PRECISION_AUTO] = "auto", [PRECISION_BF16] = "bf16", [PRECISION_F32] = "f32", NULL};

#define AT(member) FIELD_AT(bench_flags, member)
static const struct field table[] = {
    {AT(gemm), .type = FIELD_BOOL, .doc = "the products of training, by shape"},
    {AT(train), .type = FIELD_BOOL, .doc = "training steps on random tokens, by op"},
    {AT(config), .type = FIELD_TEXT, .flags = FIELD_POSITIONAL,
     .doc = "an experiment, whose first stage that trains is measured"},
    {AT(overrides), .type = FIELD_TEXTS, .flags = FIELD_POSITIONAL,
     .doc = "key=value: changes of the config, e.g. pretrain.recompute=blocks"},
    {AT(shape), .type = FIELD_TEXT,
     .doc = "instead of a config: tiny (5.8M parameters, the default), small or gpt2"},
    {AT(arch), .type = FIELD_TEXT, .doc = "architecture, as a config has it; else the shape's"},
    {AT(d), .type = FIELD_INT, .min = 1, .max = 65536, .doc = "model width, else the shape's"},
    {AT(layers), .type = FIELD_INT, .min = 1, .max = LAYERS_MAX, .doc = "layers"},
    {AT(heads), .type = FIELD_INT, .min = 1, .max = 1024, .doc = "query heads"},
    {AT(kv_heads), .type = FIELD_INT, .min = 1, .max = 1024, .doc = "key and value heads"},
    {AT(ff), .type = FIELD_INT, .min = 1, .max = 1 << 20, .doc = "feed-forward width"},
    {AT(vocab), .type = FIELD_INT, .min = 1, .max = 1 << 20, .doc = "vocabulary"},
    {AT(seq), .type = FIELD_INT, .min = 1, .max = 1 << 20, .doc = "tokens of a sequence"},
    {AT(batch), .type = FIELD_INT, .min = 1, .max = 1 << 20, .doc = "sequences of a step"},
    {AT(tie), .type = FIELD_BOOL, .doc = "one matrix for embedding and head"},
    {AT(recompute), .type = FIELD_BOOL, .when = "train", .doc = "recompute blocks in backward"},
    {AT(precision), .type = FIELD_ENUM, .names = precisions, .def = "auto",
     .doc = "of products; auto: the config's, or bf16 where the processor has it"},
    {AT(steps), .type = FIELD_INT, .min = 1, .max = 1e6, .def = "10", .when = "train",
     .doc = "steps to measure"},
    {AT(threads), .type = FIELD_INTS, .letter = 't', .min = 1, .max = 4096,
     .doc = "threads to compute with, else as many as there are cores; with -m also 1,2,4"},
    {AT(json), .type = FIELD_BOOL, .doc = "one line of JSON instead of a table"},
    {AT(model), .type = FIELD_TEXT, .letter = 'm',
     .doc = "a model in use, as generate takes it: prompts read and tokens written a second"},
    {AT(n_prompt), .type = FIELD_INTS, .letter = 'p', .min = 0, .max = 1 << 24, .def = "512",
     .when = "model", .doc = "tokens of the prompt, also 128,512; 0: no such test"},
    {AT(n_gen), .type = FIELD_INTS, .letter = 'n', .min = 0, .max = 1 << 24, .def = "128",
     .when = "model", .doc = "tokens written one by one, also 32,128; 0: no such test"},
    {AT(repetitions), .type = FIELD_INT, .letter = 'r', .min = 1, .max = 1e6, .def = "5",
     .when = "model", .doc = "runs of each test"},
    {AT(repack), .type = FIELD_BOOL, .when = "model",
     .doc = "copy a GGUF file's weights into large pages first"},
    {AT(output), .type = FIELD_ENUM, .letter = 'o', .names = forms, .def = "md", .when = "model",
     .doc = "form of the table"},
    {0},
};

static const struct flags flags = {
    "bench --gemm|--train [CONFIG.yaml [key=value ...]] [flags], or bench -m MODEL [flags]",
    "Measures products and training steps of a config's model or of a given shape, or a model in "
    "use.",
    table};

/* The models that the README's figures are about. */
struct shape {
    const char *name;
    int64_t d, layers, heads, kv_heads, ff, vocab, seq, batch;
    enum arch arch;
    int context; /* 0: seq */
    bool tie;
};

static const struct shape shapes[] = {
    {"tiny", 256, 6, 4, 2, 768, 2048, 256, 8, ARCH_LLAMA, 0, false},
    {"small", 512, 8, 8, 8, 1536, 8192, 512, 4, ARCH_LLAMA, 0, false},
    {"gpt2", 768, 12, 12, 12, 3072, 50257, 512, 4, ARCH_GPT2, 1024, true},
};

static int wrong_call(const char *why)
{
    err("%s; usage: attar %s", why, flags.synopsis);
    return CMD_USAGE;
}

static int shape_named(const char *name, const struct shape **found)
{
    struct spell near = {.word = name};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        if (!strcmp(shapes[i].name, name)) {
            *found = &shapes[i];
            return 0;
        }
        spell_offer(&near, shapes[i].name);
    }
    err("--shape: '%s' is not one of tiny, small, gpt2%s%s%s", name,
        near.best ? "; did you mean " : "", near.best ? near.best : "", near.best ? "?" : "");
    return CMD_USAGE;
}

/* The first that was given, the flag's or the shape's. */
static int given(int64_t flag, int64_t shape)
{
    return (int)(flag ? flag : shape);
}

/* A model and a step by flags. */
static int by_flags(const struct bench_flags *f, struct transformer_dims *dims,
                    struct speed_args *a)
{
    const struct shape *s;
    const int rc = shape_named(f->shape ? f->shape : "tiny", &s);
    if (rc)
        return rc;
    const int arch = f->arch ? arch_find(f->arch) : (int)s->arch;
    if (arch < 0) {
        err("--arch: '%s' is not an architecture; `attar help config` lists them", f->arch);
        return CMD_USAGE;
    }
    const int d = given(f->d, s->d), heads = given(f->heads, s->heads);
    if (d % heads)
        return err("%d heads do not divide a width of %d", heads, d);
    const int seq = given(f->seq, s->seq);
    *dims = (struct transformer_dims){.arch = (enum arch)arch,
                                      .n_layers = given(f->layers, s->layers),
                                      .d_model = d,
                                      .vocab = given(f->vocab, s->vocab),
                                      .head_dim = d / heads,
                                      .context = seq > s->context ? seq : s->context,
                                      .tied = f->tie || s->tie,
                                      .norm_eps = 1e-5,
                                      .init_std = 0.02,
                                      .rope.base = 10000};
    for (int l = 0; l < dims->n_layers; l++) {
        dims->n_heads[l] = heads;
        dims->n_kv_heads[l] = given(f->kv_heads, f->heads ? heads : s->kv_heads);
        dims->d_ff[l] = given(f->ff, s->ff);
    }
    if (transformer_check(dims))
        return -1;
    a->step.batch = given(f->batch, s->batch);
    const struct config_train whole = {.batch_tokens = a->step.batch * seq};
    a->step.pass = (struct plan_args){.n_seqs = config_micro_batch(&whole, seq) / seq,
                                      .T = seq,
                                      .parts = 1,
                                      .recompute = f->recompute};
    a->what = f->shape || !f->d ? s->name : "a model";
    return 0;
}

/* The first stage of the config that trains. */
static int by_config(const struct bench_flags *f, struct config *c, struct stage_plan *plan,
                     struct speed_args *a)
{
    if (f->shape || f->arch || f->d || f->layers || f->heads || f->kv_heads || f->ff || f->vocab ||
        f->seq || f->batch || f->tie || f->recompute)
        return wrong_call("with a config, key=value changes the shape, flags do not");
    if (config_read(c, f->config, f->overrides.n, f->overrides.value))
        return -1;
    int i = 0;
    while (i < c->n_stages && !config_kinds[c->stages[i].kind].makes_model)
        i++;
    if (i == c->n_stages)
        return err("%s: no stage trains", f->config);
    const int vocab = model_vocabulary(c);
    if (vocab < 0 || stage_plan_init(plan, c, i, vocab))
        return -1;
    if (c->threads > 0 && !f->threads.n)
        omp_set_num_threads((int)c->threads);
    a->step = plan->step;
    a->step.pass.parts = 1;
    a->precision = (enum config_precision)c->stages[i].train.precision;
    a->what = c->name;
    return 0;
}

static int run(const struct bench_flags *f, struct config *config)
{
    static struct stage_plan plan; // large
    struct speed_args a = {.step.dims = &plan.dims, .steps = f->steps, .json = f->json};
    if (f->gemm == f->train)
        return wrong_call("one of --gemm and --train is wanted");
    if (f->threads.n > 1)
        return wrong_call("one number of threads is wanted");
    if (f->threads.n)
        omp_set_num_threads((int)f->threads.value[0]);
    const int rc = f->config ? by_config(f, config, &plan, &a) : by_flags(f, &plan.dims, &a);
    if (rc)
        return rc;
    if (f->precision != PRECISION_AUTO || !f->config)
        a.precision = (enum config_precision)f->precision;
    a.step.pass.bf16 = config_bf16(&(struct config_train){.precision = a.precision});
    struct buf out = {0};
    const int done = (f->gemm ? speed_gemm : speed_train)(&a, &out);
    if (!done)
        fputs(out.p, stdout);
    buf_free(&out);
    stage_plan_free(&plan);
    return done;
}

static int run_model(const struct bench_flags *f)
{
    struct ints threads = f->threads;
    if (f->gemm || f->train || f->config)
        return wrong_call("a model (-m) is measured by itself");
    if (!threads.n)
        threads = (struct ints){.n = 1, .value = {omp_get_max_threads()}};
    const struct speed_model_args a = {.model = f->model,
                                       .prompt = &f->n_prompt,
                                       .gen = &f->n_gen,
                                       .threads = &threads,
                                       .repetitions = f->repetitions,
                                       .repack = f->repack,
                                       .form = (enum speed_model_form)f->output};
    struct buf out = {0};
    const int rc = speed_model(&a, &out);
    if (!rc)
        fputs(out.p, stdout);
    buf_free(&out);
    return rc;
}

int cmd_bench(int argc, char **argv)
{
    struct bench_flags args;
    struct pool pool = {0};
    struct config config = {0};
    int rc = flags_parse(&flags, argc, argv, &args, &pool);
    if (!rc)
        rc = args.model ? run_model(&args) : run(&args, &config);
    config_free(&config);
    pool_free(&pool);
    return rc == FLAGS_HELP ? 0 : rc;
}
