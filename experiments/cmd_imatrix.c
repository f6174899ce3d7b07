/* attar imatrix -m MODEL -f TEXT: what quantizing should weigh errors with. */
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/file.h"
#include "autograd/base/mem.h"
#include "experiments/cmd.h"
#include "experiments/flags.h"
#include "experiments/imatrix_stats.h"
#include "experiments/importance.h"
#include "experiments/interrupt.h"
#include "experiments/model_path.h"
#include "experiments/perplexity.h"
#include "experiments/text_tokens.h"

struct imatrix_flags {
    const char *model, *file, *out;
    struct texts in_file;
    int64_t ctx_size, chunk, chunks, threads;
    bool process_output, parse_special, show_statistics;
};

#define AT(member) FIELD_AT(imatrix_flags, member)
static const struct field table[] = {
    {AT(model), .type = FIELD_TEXT, .letter = 'm',
     .doc = "checkpoint, GGUF file, or the folder of a stage or a run"},
    {AT(file), .type = FIELD_TEXT, .letter = 'f',
     .doc = "text to read, also .xz; -: standard input"},
    {AT(out), .type = FIELD_TEXT, .letter = 'o', .def = "imatrix.gguf",
     .doc = "the importance matrix to write"},
    {AT(in_file), .type = FIELD_TEXTS,
     .doc = "an importance matrix to add to, or to show; may be repeated"},
    {AT(ctx_size), .type = FIELD_INT, .letter = 'c', .min = 4, .max = 1 << 24,
     .doc = "tokens of a chunk; not given: 512, or the model's context if that is less"},
    {AT(chunk), .type = FIELD_INT, .min = 0, .max = 1e9, .def = "0",
     .doc = "chunks to leave out at the start"},
    {AT(chunks), .type = FIELD_INT, .min = -1, .max = 1e9, .def = "-1",
     .doc = "chunks to read at most; -1: all"},
    {AT(process_output), .type = FIELD_BOOL, .doc = "also for the head"},
    {AT(parse_special), .type = FIELD_BOOL,
     .doc = "take <|im_start|> and the like in the text for the tokens they name"},
    {AT(show_statistics), .type = FIELD_BOOL, .doc = "show what the matrix looks like"},
    {AT(threads), .type = FIELD_INT, .letter = 't', .min = 0, .max = 4096,
     .doc = "threads to compute with; 0: as many as there are cores"},
    {0},
};
#undef AT

static const struct flags flags = {
    "imatrix -m MODEL -f TEXT [-o OUT.gguf] [flags]",
    "Collects the mean squared input of each column of each matrix while the model reads a text:\n"
    "what `attar quantize --imatrix` and llama-quantize weigh errors with. Prints perplexity too.\n"
    "With --in-file and without a model: adds files up, or shows them.",
    table};

enum { USUAL_CHUNK = 512 };

static int print_chunk(void *arg, const struct perplexity *p)
{
    double error;
    (void)arg;
    printf("[%lld]%.4f,", (long long)p->chunks, perplexity_value(p, &error));
    return fflush(stdout) ? err("stdout cannot be written") : 0;
}

/* ---- sums of files ---- */

static struct imatrix_entry *find(const struct imatrix *m, const char *name)
{
    for (size_t i = 0; i < m->n; i++)
        if (!strcmp(m->entry[i].name, name))
            return &m->entry[i];
    return NULL;
}

/* A legacy file holds sums that are divided by the tokens of a chunk, in calls. */
static int add_entry(struct imatrix *m, const struct imatrix_entry *e, float scale)
{
    struct imatrix_entry *to = find(m, e->name);
    const int64_t n = e->cols * e->mats;
    if (e->mats != 1)
        return err("'%s' is of experts: their matrices cannot be added up", e->name);
    if (!to && !(to = imatrix_add(m, e->name, n)))
        return -1;
    if (to->cols != n)
        return err("'%s' has %lld columns, in another file %lld", e->name, (long long)n,
                   (long long)to->cols);
    for (int64_t i = 0; i < n; i++)
        to->sum[i] += scale * e->sum[i];
    *to->count += scale * *e->count;
    return 0;
}

static int add_file(struct imatrix *m, const char *path, int64_t chunk_size)
{
    struct imatrix in;
    if (imatrix_read(&in, path))
        return -1;
    int rc = 0;
    for (size_t i = 0; i < in.n && !rc; i++)
        rc = add_entry(m, &in.entry[i], in.chunk_size ? 1 : (float)chunk_size);
    for (size_t i = 0; i < in.n_datasets && !rc; i++)
        rc = imatrix_add_dataset(m, in.dataset[i]);
    m->chunks += in.chunks;
    m->chunk_size = m->chunk_size ? m->chunk_size : in.chunk_size;
    imatrix_free(&in);
    return rc ? err_in("%s", path) : 0;
}

/* ---- collecting ---- */

static int collect(const struct imatrix_flags *a, struct transformer *m,
                   const struct tokens *tokens, int32_t bos, int64_t c, struct imatrix *out)
{
    struct importance importance;
    struct perplexity p;
    double error;
    const int64_t skip = a->chunk * c, n = (int64_t)tokens->n - skip;
    if (a->chunk && n < 2 * c)
        return err(
            "the text has %zu tokens: without its first %lld chunks of %lld too few are left",
            tokens->n, (long long)a->chunk, (long long)c);
    if (importance_open(&importance, m, a->process_output))
        return -1;
    const struct perplexity_args args = {.c = c,
                                         .chunks = a->chunks,
                                         .bos = bos,
                                         .stop = &interrupt_flag,
                                         .tap = &importance.tap,
                                         .all = a->process_output};
    const int64_t chunks = perplexity_chunks(&args, m, n);
    int rc = chunks < 0 ? -1 : 0;
    if (!rc) {
        fprintf(stderr, "%zu tokens; %lld chunks of %lld\n", tokens->n, (long long)chunks,
                (long long)c);
        rc = perplexity_run(&p, m, tokens->id + skip, n, &args, print_chunk, NULL);
    }
    if (!rc) {
        const double value = perplexity_value(&p, &error);
        printf("\nFinal estimate: PPL = %.4f +/- %.5f\n", value, error);
        rc = importance_add(&importance, out) || imatrix_add_dataset(out, a->file) ? -1 : 0;
        out->chunks += (uint32_t)chunks;
        out->chunk_size = (uint32_t)c;
    }
    importance_close(&importance);
    return rc;
}

static int read_and_collect(const struct imatrix_flags *a, struct imatrix *out)
{
    struct transformer m;
    struct tokenizer *tok;
    struct tokens tokens = {0};
    if (model_path_open(a->model, &m, &tok, NULL))
        return -1;
    const int64_t usual = m.dims.context < USUAL_CHUNK ? m.dims.context : USUAL_CHUNK;
    int rc = text_tokens(a->file, tok, a->parse_special, &tokens);
    if (!rc)
        rc = collect(a, &m, &tokens, tokenizer_bos(tok), a->ctx_size ? a->ctx_size : usual, out);
    tokens_free(&tokens);
    tokenizer_free(tok);
    transformer_free(&m);
    return rc;
}

static int run(const struct imatrix_flags *a)
{
    struct imatrix m = {0};
    int rc = 0;
    if (!a->model != !a->file || (!a->model && !a->in_file.n)) {
        err("imatrix takes -m MODEL and -f TEXT, or --in-file; `attar imatrix --help` says more");
        return CMD_USAGE;
    }
    if ((a->model || !a->show_statistics) && file_check_out(a->out))
        return -1;
    interrupt_catch();
    const int64_t chunk_size = a->ctx_size ? a->ctx_size : USUAL_CHUNK;
    for (int i = 0; i < a->in_file.n && !rc; i++)
        rc = add_file(&m, a->in_file.value[i], chunk_size);
    if (!rc && a->model)
        rc = read_and_collect(a, &m);
    if (!rc && !m.chunk_size)
        m.chunk_size = (uint32_t)chunk_size;
    if (!rc)
        rc = imatrix_finish(&m);
    // a file that is only shown is not written again
    if (!rc && (a->model || !a->show_statistics))
        rc = imatrix_write(&m, a->out);
    if (!rc && a->show_statistics)
        rc = imatrix_stats_print(&m);
    else if (!rc)
        printf("%s: %zu entries of %u chunks\n", a->out, m.n, m.chunks);
    imatrix_free(&m);
    return rc;
}

int cmd_imatrix(int argc, char **argv)
{
    struct imatrix_flags args;
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
