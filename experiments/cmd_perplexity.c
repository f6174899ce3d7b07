#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/mem.h"
#include "experiments/adapter.h"
#include "experiments/cmd.h"
#include "experiments/divergence.h"
#include "experiments/flags.h"
#include "experiments/interrupt.h"
#include "experiments/logits_file.h"
#include "experiments/model_path.h"
#include "experiments/perplexity.h"
#include "experiments/text_tokens.h"

struct perplexity_flags {
    const char *model, *file, *kl_divergence_base;
    int64_t ctx_size, chunks, threads;
    int cache_type;
    bool kl_divergence;
    struct adapter_args adapter;
};

#define AT(member) FIELD_AT(perplexity_flags, member)
static const struct field table[] = {
    {AT(model), .type = FIELD_TEXT, .letter = 'm', .flags = FIELD_REQUIRED,
     .doc = "GGUF file or checkpoint, or the folder of a stage or a run"},
    ADAPTER_FIELDS(perplexity_flags, adapter),
    {AT(file), .type = FIELD_TEXT, .letter = 'f',
     .doc = "text to measure on, also .xz; -: standard input"},
    {AT(ctx_size), .type = FIELD_INT, .letter = 'c', .min = 4, .max = 1 << 24,
     .doc = "tokens of a chunk; not given: 512, or the model's context if that is less"},
    {AT(chunks), .type = FIELD_INT, .min = -1, .max = 1e9, .def = "-1",
     .doc = "chunks to measure on at most; -1: all"},
    {AT(kl_divergence_base), .type = FIELD_TEXT,
     .doc = "file of log-probabilities to write, as llama-perplexity does"},
    {AT(kl_divergence), .type = FIELD_BOOL, .when = "kl_divergence_base",
     .doc = "compare with that file instead, on its text"},
    {AT(cache_type), .type = FIELD_ENUM, .names = kvblock_names, .def = "f16",
     .doc = "how attention keeps keys and values"},
    {AT(threads), .type = FIELD_INT, .letter = 't', .min = 0, .max = 4096,
     .doc = "threads to compute with; 0: as many as there are cores"},
    {0},
};

static const struct flags flags = {
    "perplexity -m MODEL -f TEXT [flags]",
    "Measures perplexity by llama-perplexity's convention: the second half of each chunk. With\n"
    "--kl-divergence how far the model is from another, whose log-probabilities\n"
    "--kl-divergence-base names: a file that this program or llama-perplexity wrote.",
    table};

static int print(const struct buf *out)
{
    if (out->failed)
        return -1;
    return fwrite(out->p, 1, out->n, stdout) != out->n || fflush(stdout)
               ? err("stdout cannot be written")
               : 0;
}

/* What is done with the logits: nothing more, written to a file, or compared with one. */
struct use {
    struct logits_file *file; /* NULL: nothing */
    struct divergence *apart; /* NULL: they are written */
    struct divergence_at *at; /* [scored] */
    struct buf line;
};

static void take_row(void *arg, int64_t i, const float *logits, int32_t next)
{
    const struct use *u = arg;
    const struct logits_file *f = u->file;
    if (u->apart)
        u->at[i] = divergence_at(f->V, logits, f->rows + i * logits_file_row(f->V), next);
    else
        logits_file_pack(u->file, i, logits);
}

static int take_chunk(void *arg, const struct perplexity *p)
{
    struct use *u = arg;
    double error;
    int rc = 0;
    buf_clear(&u->line);
    if (!u->apart) {
        buf_printf(&u->line, "[%lld]%.4f,", (long long)p->chunks, perplexity_value(p, &error));
        rc = u->file ? logits_file_add(u->file) : 0;
    } else {
        rc = divergence_add(u->apart, u->at, u->file->scored);
        if (p->chunks == 1)
            divergence_heading(&u->line);
        divergence_line(u->apart, p->chunks, &u->line);
        if (!rc && u->file->done < u->file->chunks)
            rc = logits_file_next(u->file);
    }
    return rc ? rc : print(&u->line);
}

/* llama-perplexity's, which does no statistics on fewer values. */
enum { ENOUGH = 100 };

static int summary(struct use *u, const struct perplexity *p)
{
    double error;
    const double value = perplexity_value(p, &error);
    buf_clear(&u->line);
    buf_text(&u->line, "\n");
    if (!isfinite(value))
        return err("perplexity is %g: the model is broken", value);
    if (!u->apart)
        buf_printf(&u->line, "Final estimate: PPL = %.4f +/- %.5f\n", value, error);
    else if (u->apart->count >= ENOUGH)
        divergence_table(u->apart, &u->line);
    else
        fprintf(stderr, "%lld values are too few for statistics: take more chunks\n",
                (long long)u->apart->count);
    return print(&u->line);
}

static int measure(struct transformer *m, const int32_t *token, int64_t n,
                   struct perplexity_args *args, struct use *u)
{
    struct perplexity p;
    const int64_t chunks = perplexity_chunks(args, m, n);
    if (chunks < 0)
        return -1;
    fprintf(stderr, "%lld tokens; %lld chunks of %lld\n", (long long)n, (long long)chunks,
            (long long)args->c);
    if (u->file) {
        args->row = take_row;
        args->arg = u;
    }
    const int rc = perplexity_run(&p, m, token, n, args, take_chunk, u);
    if (rc && p.chunks)
        printf("\n");
    return rc ? rc : summary(u, &p);
}

/* The text's perplexity; its log-probabilities go to a file if one is named. */
static int on_text(const struct perplexity_flags *a, struct transformer *m,
                   const struct tokenizer *tok, struct perplexity_args *args)
{
    struct tokens tokens = {0};
    struct logits_file file = {.fd = -1};
    struct use u = {.file = a->kl_divergence_base ? &file : NULL};
    int rc = text_tokens(a->file, tok, false, &tokens);
    if (!rc && u.file) {
        const int64_t chunks = perplexity_chunks(args, m, (int64_t)tokens.n);
        rc = chunks < 0 || chunks > INT32_MAX
                 ? -1
                 : logits_file_create(&file, a->kl_divergence_base, (int32_t)args->c, m->dims.vocab,
                                      (int32_t)chunks, tokens.id);
    }
    if (!rc)
        rc = measure(m, tokens.id, (int64_t)tokens.n, args, &u);
    logits_file_close(&file);
    buf_free(&u.line);
    tokens_free(&tokens);
    return rc;
}

/* On a file's text, how far from what it says. */
static int on_file(const struct perplexity_flags *a, struct transformer *m,
                   struct perplexity_args *args)
{
    struct logits_file file;
    struct divergence apart = {0};
    struct use u = {.file = &file, .apart = &apart};
    if (a->file || a->ctx_size) {
        err("--kl-divergence measures on the text in %s, in its chunks: leave -f and -c out",
            a->kl_divergence_base);
        return CMD_USAGE;
    }
    if (logits_file_open(&file, a->kl_divergence_base))
        return -1;
    args->c = file.c;
    int rc = file.V == m->dims.vocab ? 0
                                     : err("%s is of a model with %d tokens, this one has %d",
                                           a->kl_divergence_base, file.V, m->dims.vocab);
    if (!rc && file.c > m->dims.context)
        rc = err("%s has chunks of %d tokens, the model's context is %d", a->kl_divergence_base,
                 file.c, m->dims.context);
    if (!rc)
        rc = (u.at = mem_new((size_t)file.scored, sizeof *u.at)) ? logits_file_next(&file) : -1;
    if (!rc)
        rc = measure(m, file.token, (int64_t)file.chunks * file.c, args, &u);
    logits_file_close(&file);
    divergence_free(&apart);
    free(u.at);
    buf_free(&u.line);
    return rc;
}

static int run(const struct perplexity_flags *a)
{
    struct transformer m;
    struct tokenizer *tok;
    if (!a->file && !a->kl_divergence) {
        err("missing --file; usage: attar %s", flags.synopsis);
        return CMD_USAGE;
    }
    if (model_path_open(a->model, &m, &tok, NULL))
        return -1;
    if (adapter_args_use(&a->adapter, &m)) {
        tokenizer_free(tok);
        transformer_free(&m);
        return -1;
    }
    const int64_t usual = m.dims.context < 512 ? m.dims.context : 512;
    struct perplexity_args args = {.c = a->ctx_size ? a->ctx_size : usual,
                                   .chunks = a->chunks,
                                   .bos = tokenizer_bos(tok),
                                   .cache = (enum kvblock_type)a->cache_type,
                                   .stop = &interrupt_flag};
    interrupt_catch();
    const int rc = a->kl_divergence ? on_file(a, &m, &args) : on_text(a, &m, tok, &args);
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
