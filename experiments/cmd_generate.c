#include <omp.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "autograd/base/clock.h"
#include "autograd/base/err.h"
#include "autograd/base/file.h"
#include "autograd/base/utf8.h"
#include "experiments/cmd.h"
#include "experiments/cmd_generate.h"
#include "experiments/decode.h"
#include "experiments/flags.h"
#include "experiments/interrupt.h"
#include "experiments/model_path.h"

enum { PROMPT_MOST = 64 << 20 };

#define AT(member)      FIELD_AT(generate_args, member)
#define IN_SAMPLER(key) .name = #key, .offset = offsetof(struct generate_args, sampler.key)
static const struct field table[] = {
    {AT(model), .type = FIELD_TEXT, .letter = 'm', .flags = FIELD_REQUIRED,
     .doc = "GGUF file or checkpoint, or the folder of a stage or a run"},
    ADAPTER_FIELDS(generate_args, adapter),
    {AT(prompt), .type = FIELD_TEXT, .letter = 'p', .doc = "text to go on from"},
    {AT(file), .type = FIELD_TEXT, .letter = 'f',
     .doc = "file with the text to go on from; -: standard input"},
    {AT(prompts), .type = FIELD_TEXT,
     .doc =
         "file with many prompts (-: standard input), a JSON object a line with the key `prompt` "
         "and, if they are to differ, n_predict, seed, samples, temp, top_k, ..., stop, id"},
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
    {AT(reverse_prompt), .type = FIELD_TEXTS, .letter = 'r',
     .doc = "end where this text comes, before it; may be repeated"},
    {AT(ctx_size), .type = FIELD_INT, .letter = 'c', .min = 1, .max = 1 << 24,
     .doc = "tokens of a text at most, prompt included; not given: the model's context"},
    {AT(seed), .type = FIELD_INT, .letter = 's', .min = -1, .max = 9007199254740992, .def = "-1",
     .doc = "of the draws; -1: from the clock"},
    {AT(cache_type), .type = FIELD_ENUM, .names = kvblock_names, .def = "f16",
     .doc = "how keys and values of what was read are kept"},
    {AT(parallel), .type = FIELD_INT, .min = 1, .max = 4096, .def = "32", .when = "prompts",
     .doc = "texts to write at once"},
    {AT(samples), .type = FIELD_INT, .min = 1, .max = 1e6, .def = "1", .when = "prompts",
     .doc = "texts of each prompt"},
    {AT(batch_size), .type = FIELD_INT, .letter = 'b', .min = 1, .max = 1 << 20, .def = "512",
     .when = "prompts", .doc = "tokens that go through the model together at most"},
    {AT(cache_blocks), .type = FIELD_INT, .min = 1, .max = 1e9, .when = "prompts",
     .doc = "size of the cache in blocks of 16 tokens; not given: enough for --parallel texts, "
            "or half of the memory"},
    {AT(cache_memory), .type = FIELD_INT, .min = 1, .max = 1e15, .when = "prompts",
     .doc = "its size in bytes: 2Gi"},
    {AT(threads), .type = FIELD_INT, .letter = 't', .min = 0, .max = 4096,
     .doc = "threads to compute with at most; 0: as many as there are cores"},
    {AT(repack), .type = FIELD_BOOL,
     .doc = "copy a GGUF file's weights into large pages: faster, and as much memory again"},
    {0},
};

static const struct flags flags = {
    "generate -m MODEL [-p PROMPT | -f FILE | --prompts FILE.jsonl] [flags]",
    "Writes text with a model: the prompt and how it goes on, to stdout; the speed to stderr. "
    "With\n"
    "--prompts many texts at once: a JSON object a line as each is finished, with index (of the\n"
    "prompt, from 0), sample, id, text (without the prompt), tokens, prompt_tokens and finish: "
    "eos,\n"
    "stop, length or context.",
    table};

/* ---- output ---- */

/* Bytes are held back while they may be the start of a character, or of a text to stop at. */
struct out {
    struct buf held;
    const struct texts *stop; /* NULL: none */
};

static int write_bytes(const char *s, size_t n)
{
    if (n && fwrite(s, 1, n, stdout) != n)
        return err("the text cannot be written to stdout");
    return 0;
}

/* Bytes of s [n] that can be shown: up to where a text to stop at is, *found, or may begin. */
static size_t before_stop(const struct texts *stop, const char *s, size_t n, bool *found)
{
    size_t end = n;
    for (int i = 0; stop && i < stop->n; i++) {
        const size_t m = strlen(stop->value[i]);
        for (size_t at = 0; m && at < end; at++) {
            const size_t k = n - at < m ? n - at : m;
            if (memcmp(s + at, stop->value[i], k) != 0)
                continue;
            *found = k == m;
            end = at;
        }
    }
    return end;
}

static int emit(void *arg, const char *s, size_t n)
{
    struct out *o = arg;
    bool found = false;
    buf_add(&o->held, s, n);
    if (o->held.failed)
        return -1;
    size_t ready = before_stop(o->stop, o->held.p, o->held.n, &found);
    if (!found)
        ready = utf8_whole(o->held.p, ready);
    if (write_bytes(o->held.p, ready))
        return -1;
    o->held.n = found ? 0 : o->held.n - ready;
    memmove(o->held.p, o->held.p + ready, o->held.n);
    return fflush(stdout) ? err("the text cannot be written to stdout") : found;
}

/* ---- the command ---- */

static int read_prompt(const struct generate_args *a, struct buf *text)
{
    if (!a->file) {
        buf_text(text, a->prompt ? a->prompt : "");
        return text->failed ? -1 : 0;
    }
    if (file_read_argument(a->file, PROMPT_MOST, text))
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
        [DECODE_CUT] = "; stopped",
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
    struct out out = {.stop = NULL};
    enum decode_end end = DECODE_STOPPED;
    int64_t made = 0;
    const double start = clock_seconds();
    int rc = text->n ? emit(&out, text->p, text->n) : 0;
    out.stop = &a->reverse_prompt;
    if (!rc)
        rc = decode_feed(d, prompt->id, (int64_t)prompt->n);
    const double fed = clock_seconds();
    if (!rc && !d->stopped)
        rc = decode_generate(d, a->n_predict, emit, &out, &made, &end);
    const double done = clock_seconds();
    write_bytes(out.held.p, out.held.n);
    write_bytes("\n", 1);
    fflush(stdout);
    buf_free(&out.held);
    if (!rc)
        report(d, end, d->kv.len < (int64_t)prompt->n ? d->kv.len : (int64_t)prompt->n, made,
               fed - start, done - fed);
    return rc;
}

/* One text, from the flags' prompt. */
static int one(const struct generate_args *a, struct transformer *m, const struct tokenizer *tok)
{
    struct decode d;
    struct tokens prompt = {0};
    struct buf text = {0};
    const int64_t context = a->ctx_size ? a->ctx_size : m->dims.context;
    int rc = read_prompt(a, &text);
    if (!rc)
        rc = decode_prompt(tok, text.p ? text.p : "", text.n, &prompt);
    if (!rc && (int64_t)prompt.n > context)
        rc = err("the prompt has %zu tokens, the %s %lld: shorten it", prompt.n,
                 a->ctx_size ? "context is limited to" : "model's context is", (long long)context);
    if (!rc)
        rc = decode_open(&d, m, tok, context, (enum kvblock_type)a->cache_type, &a->sampler,
                         &interrupt_flag);
    if (!rc) {
        rc = generate(&d, a, &text, &prompt);
        decode_close(&d);
    }
    tokens_free(&prompt);
    buf_free(&text);
    return rc;
}

static int run(struct generate_args *a)
{
    struct transformer m;
    struct tokenizer *tok;
    if (a->prompt && a->file) {
        err("-p and -f exclude each other");
        return CMD_USAGE;
    }
    if (model_path_open(a->model, &m, &tok, NULL))
        return -1;
    if (adapter_args_use(&a->adapter, &m)) {
        tokenizer_free(tok);
        transformer_free(&m);
        return -1;
    }
    if (a->seed < 0)
        fprintf(stderr, "seed: %lld\n", (long long)(a->seed = (int64_t)time(NULL)));
    a->sampler.seed = a->seed;
    interrupt_catch();
    int rc = a->repack ? store_copy(&m.store) : 0;
    if (!rc)
        rc = a->prompts ? cmd_generate_many(a, &m, tok) : one(a, &m, tok);
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
