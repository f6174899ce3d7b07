#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <string.h>

#include "autograd/base/err.h"
#include "datasets/stream.h"
#include "experiments/cmd.h"
#include "experiments/flags.h"
#include "experiments/interrupt.h"
#include "experiments/model_path.h"
#include "experiments/perplexity.h"

struct perplexity_flags {
    const char *model, *file;
    int64_t ctx_size, chunks, threads;
};

#define AT(member) FIELD_AT(perplexity_flags, member)
static const struct field table[] = {
    {AT(model), .type = FIELD_TEXT, .letter = 'm', .flags = FIELD_REQUIRED,
     .doc = "GGUF file or checkpoint, or the folder of a stage or a run"},
    {AT(file), .type = FIELD_TEXT, .letter = 'f', .flags = FIELD_REQUIRED,
     .doc = "text to measure on, also .xz"},
    {AT(ctx_size), .type = FIELD_INT, .letter = 'c', .min = 4, .max = 1 << 24,
     .doc = "tokens of a chunk; not given: 512, or the model's context if that is less"},
    {AT(chunks), .type = FIELD_INT, .min = -1, .max = 1e9, .def = "-1",
     .doc = "chunks to measure on at most; -1: all"},
    {AT(threads), .type = FIELD_INT, .letter = 't', .min = 0, .max = 4096,
     .doc = "threads to compute with; 0: as many as there are cores"},
    {0},
};

static const struct flags flags = {
    "perplexity -m MODEL -f TEXT [flags]",
    "Measures perplexity by llama-perplexity's convention: the second half of each chunk.", table};

enum { TEXT_MOST = 1 << 30, BLOCK = 1 << 16 };

/* The text without the newline at its end, as llama.cpp reads files. */
static int read_text(const char *path, struct buf *text)
{
    struct stream *s;
    const size_t n = strlen(path);
    static char block[BLOCK];
    size_t got = 0;
    if (stream_open(&s, path, n > 3 && !strcmp(path + n - 3, ".xz"), NULL))
        return -1;
    int rc = 0;
    do {
        rc = stream_read(s, block, sizeof block, &got);
        if (!rc)
            buf_add(text, block, got);
        if (text->failed)
            rc = -1;
        if (!rc && text->n > TEXT_MOST)
            rc = err("%s: more than 1 GiB of text", path);
    } while (got && !rc);
    stream_close(s);
    if (!rc && text->n && text->p[text->n - 1] == '\n')
        text->n--;
    return rc;
}

static int read_tokens(const char *path, const struct tokenizer *t, struct tokens *out)
{
    struct buf text = {0};
    const int32_t bos = tokenizer_bos(t);
    int rc = read_text(path, &text);
    if (!rc && bos >= 0)
        rc = tokens_add(out, &bos, 1);
    if (!rc)
        rc = tokenizer_encode(t, text.p ? text.p : "", text.n, false, out);
    buf_free(&text);
    return rc;
}

static int print_chunk(void *arg, const struct perplexity *p)
{
    double error;
    (void)arg;
    printf("[%lld]%.4f,", (long long)p->chunks, perplexity_value(p, &error));
    return fflush(stdout) ? err("stdout cannot be written") : 0;
}

static int measure(struct transformer *m, const struct tokens *tokens,
                   const struct perplexity_args *args)
{
    struct perplexity p;
    double error;
    const int64_t n = (int64_t)tokens->n, chunks = perplexity_chunks(args, m, n);
    if (chunks < 0)
        return -1;
    fprintf(stderr, "%lld tokens; %lld chunks of %lld\n", (long long)n, (long long)chunks,
            (long long)args->c);
    const int rc = perplexity_run(&p, m, tokens->id, n, args, print_chunk, NULL);
    if (p.chunks)
        printf("\n");
    if (rc)
        return rc;
    const double value = perplexity_value(&p, &error);
    if (!isfinite(value))
        return err("perplexity is %g: the model is broken", value);
    printf("Final estimate: PPL = %.4f +/- %.5f\n", value, error);
    return 0;
}

static int run(const struct perplexity_flags *a)
{
    struct transformer m;
    struct tokenizer *tok;
    struct tokens tokens = {0};
    if (model_path_open(a->model, &m, &tok, NULL))
        return -1;
    const int64_t usual = m.dims.context < 512 ? m.dims.context : 512;
    const struct perplexity_args args = {.c = a->ctx_size ? a->ctx_size : usual,
                                         .chunks = a->chunks,
                                         .bos = tokenizer_bos(tok),
                                         .stop = &interrupt_flag};
    interrupt_catch();
    int rc = read_tokens(a->file, tok, &tokens);
    if (!rc)
        rc = measure(&m, &tokens, &args);
    tokens_free(&tokens);
    tokenizer_free(tok);
    transformer_free(&m);
    return rc;
}

int cmd_perplexity(int argc, char **argv)
{
    struct perplexity_flags args;
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
