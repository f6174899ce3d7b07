#include <omp.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "autograd/base/clock.h"
#include "autograd/base/err.h"
#include "autograd/base/file.h"
#include "autograd/base/utf8.h"
#include "experiments/cmd.h"
#include "experiments/decode.h"
#include "experiments/flags.h"
#include "experiments/interrupt.h"
#include "experiments/model_path.h"

enum { PROMPT_MOST = 64 << 20 };

struct generate_args {
    const char *model, *prompt, *file;
    int64_t n_predict, seed, threads;
    int cache_type;
    struct sampler_args sampler;
};

#define AT(member)      FIELD_AT(generate_args, member)
#define IN_SAMPLER(key) .name = #key, .offset = offsetof(struct generate_args, sampler.key)
static const struct field table[] = {
    {AT(model), .type = FIELD_TEXT, .letter = 'm', .flags = FIELD_REQUIRED,
     .doc = "GGUF file or checkpoint, or the folder of a stage or a run"},
    {AT(prompt), .type = FIELD_TEXT, .letter = 'p', .doc = "text to go on from"},
    {AT(file), .type = FIELD_TEXT, .letter = 'f', .doc = "file with the text to go on from"},
    {AT(n_predict), .type = FIELD_INT, .letter = 'n', .min = -1, .max = 1e9, .def = "-1",
     .doc = "tokens to write; -1: until the text ends or the context is full"},
    {IN_SAMPLER(temp), .type = FIELD_FLOAT, .min = 0, .max = 100, .def = "0.8",
     .doc = "temperature; 0: always the likeliest token"},
    {IN_SAMPLER(top_k), .type = FIELD_INT, .min = 0, .max = 1e9, .def = "40",
     .doc = "draw from this many of the likeliest tokens; 0: all"},
    {IN_SAMPLER(top_p), .type = FIELD_FLOAT, .min = 0, .max = 1, .def = "0.95",
     .doc = "draw from the fewest tokens that are this likely together; 1: all"},
    {IN_SAMPLER(min_p), .type = FIELD_FLOAT, .min = 0, .max = 1, .def = "0.05",
     .doc = "leave out tokens below this share of the likeliest one's probability; 0: none"},
    {IN_SAMPLER(repeat_penalty), .type = FIELD_FLOAT, .min = 0.01, .max = 100, .def = "1",
     .doc = "make tokens that occurred less likely; 1: off"},
    {IN_SAMPLER(repeat_last_n), .type = FIELD_INT, .min = -1, .max = 1e9, .def = "64",
     .doc = "how far back repetition is looked for, in tokens; 0: off, -1: all"},
    {AT(seed), .type = FIELD_INT, .letter = 's', .min = -1, .max = 9007199254740992, .def = "-1",
     .doc = "of the draws; -1: from the clock"},
    {AT(cache_type), .type = FIELD_ENUM, .names = kvblock_names, .def = "f16",
     .doc = "how keys and values of what was read are kept"},
    {AT(threads), .type = FIELD_INT, .letter = 't', .min = 0, .max = 4096,
     .doc = "threads to compute with at most; 0: as many as there are cores"},
    {0},
};

static const struct flags flags = {
    "generate -m MODEL [-p PROMPT | -f FILE] [flags]",
    "Writes text with a model: the prompt and how it goes on, to stdout; the speed to stderr.",
    table};

/* ---- output: bytes of a character that is still arriving are held back ---- */

struct out {
    char held[4];
    size_t n;
};

static int write_bytes(const char *s, size_t n)
{
    if (n && fwrite(s, 1, n, stdout) != n)
        return err("the text cannot be written to stdout");
    return 0;
}

static int emit(void *arg, const char *s, size_t n)
{
    struct out *o = arg;
    struct buf all = {0};
    buf_add(&all, o->held, o->n);
    buf_add(&all, s, n);
    const size_t whole = all.failed ? 0 : utf8_whole(all.p, all.n);
    int rc = all.failed ? -1 : write_bytes(all.p, whole);
    if (!rc) {
        o->n = all.n - whole;
        memcpy(o->held, all.p + whole, o->n);
        if (fflush(stdout))
            rc = err("the text cannot be written to stdout");
    }
    buf_free(&all);
    return rc;
}

/* ---- the command ---- */

static int read_prompt(const struct generate_args *a, struct buf *text)
{
    if (a->prompt && a->file) {
        err("-p and -f exclude each other");
        return CMD_USAGE;
    }
    if (!a->file) {
        buf_text(text, a->prompt ? a->prompt : "");
        return text->failed ? -1 : 0;
    }
    if (file_read(a->file, PROMPT_MOST, text))
        return -1;
    if (text->n && text->p[text->n - 1] == '\n') // an editor's, as llama.cpp takes it
        text->n--;
    return 0;
}

static void report(const struct decode *d, enum decode_end end, int64_t fed, int64_t made,
                   double read, double wrote)
{
    static const char *const reason[] = {
        [DECODE_COUNT] = "",
        [DECODE_EOT] = "; the text has ended",
        [DECODE_FULL] = "; the context is full",
        [DECODE_STOPPED] = "; interrupted",
    };
    fprintf(stderr, "prompt: %lld tokens, %.1f tokens/s; generated: %lld tokens, %.1f tokens/s%s",
            (long long)fed, read > 0 ? (double)fed / read : 0, (long long)made,
            wrote > 0 ? (double)made / wrote : 0, reason[end]);
    if (end == DECODE_FULL)
        fprintf(stderr, " (%lld tokens)", (long long)d->capacity);
    fprintf(stderr, "\n");
}

static int generate(struct decode *d, const struct generate_args *a, const struct buf *text,
                    const struct tokens *prompt)
{
    struct out out = {.n = 0};
    enum decode_end end = DECODE_STOPPED;
    int64_t made = 0;
    const double start = clock_seconds();
    int rc = emit(&out, text->p ? text->p : "", text->n);
    if (!rc)
        rc = decode_feed(d, prompt->id, (int64_t)prompt->n);
    const double fed = clock_seconds();
    if (!rc && !d->stopped)
        rc = decode_generate(d, a->n_predict, emit, &out, &made, &end);
    const double done = clock_seconds();
    write_bytes(out.held, out.n);
    write_bytes("\n", 1);
    fflush(stdout);
    if (!rc)
        report(d, end, d->kv.len < (int64_t)prompt->n ? d->kv.len : (int64_t)prompt->n, made,
               fed - start, done - fed);
    return rc;
}

static int run(struct generate_args *a)
{
    struct transformer m;
    struct tokenizer *tok;
    struct decode d;
    struct tokens prompt = {0};
    struct buf text = {0};
    int rc = read_prompt(a, &text);
    if (rc || (rc = model_path_open(a->model, &m, &tok, NULL))) {
        buf_free(&text);
        return rc;
    }
    if (a->seed < 0)
        fprintf(stderr, "seed: %lld\n", (long long)(a->seed = (int64_t)time(NULL)));
    a->sampler.seed = a->seed;
    interrupt_catch();
    rc = decode_prompt(tok, text.p ? text.p : "", text.n, &prompt);
    if (!rc && (int64_t)prompt.n > m.dims.context)
        rc = err("the prompt has %zu tokens, the model's context is %d: shorten it", prompt.n,
                 m.dims.context);
    if (!rc)
        rc = decode_open(&d, &m, tok, m.dims.context, (enum kvblock_type)a->cache_type, &a->sampler,
                         &interrupt_flag);
    if (!rc) {
        rc = generate(&d, a, &text, &prompt);
        decode_close(&d);
    }
    tokens_free(&prompt);
    buf_free(&text);
    tokenizer_free(tok);
    transformer_free(&m);
    return rc;
}

int cmd_generate(int argc, char **argv)
{
    struct generate_args args;
    struct pool pool = {0};
    int rc = flags_parse(&flags, argc, argv, &args, &pool);
    if (!rc) {
        if (args.threads)
            omp_set_num_threads((int)args.threads);
        rc = run(&args);
    }
    pool_free(&pool);
    return rc == FLAGS_HELP ? 0 : rc;
}
