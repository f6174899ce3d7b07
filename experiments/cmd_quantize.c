/* attar quantize IN.gguf [OUT.gguf] TYPE: a file's matrices in other types, as llama-quantize. */
#include <errno.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "autograd/base/clock.h"
#include "autograd/base/file.h"
#include "autograd/base/number.h"
#include "compress/quantize.h"
#include "experiments/cmd.h"
#include "experiments/flags.h"
#include "experiments/interrupt.h"
#include "experiments/mix_args.h"
#include "experiments/mix_lines.h"
#include "experiments/model_gguf.h"

struct quantize_args {
    struct texts files;
    struct mix_args mix;
    bool allow_requantize, dry_run;
    int64_t threads;
};

#define AT(member) FIELD_AT(quantize_args, member)
static const struct field table[] = {
    {AT(files), .type = FIELD_TEXTS, .flags = FIELD_REQUIRED | FIELD_POSITIONAL,
     .doc =
         "IN.gguf [OUT.gguf] TYPE [THREADS]; OUT is ggml-model-TYPE.gguf beside IN if not given"},
    MIX_ARGS_FIELDS(quantize_args, mix),
    {AT(allow_requantize), .type = FIELD_BOOL, .doc = "also from types that are quantized already"},
    {AT(dry_run), .type = FIELD_BOOL,
     .doc = "say what would be done and how large the file would be"},
    {AT(threads), .type = FIELD_INT, .letter = 't', .min = 0, .max = 4096,
     .doc = "threads to compute with; 0: as many as there are cores"},
    {0},
};
#undef AT

static const struct flags flags = {
    "quantize IN.gguf [OUT.gguf] TYPE [flags]",
    "Writes a GGUF file's matrices in other types: Q2_K Q2_K_S Q3_K_S Q3_K_M Q3_K_L Q4_0 Q4_1\n"
    "Q4_K_S Q4_K_M Q5_0 Q5_1 Q5_K_S Q5_K_M Q6_K Q8_0 IQ4_NL IQ4_XS TQ1_0 TQ2_0 F16 BF16 F32.\n"
    "Flags and mixes are llama-quantize's.",
    table};

struct job {
    const struct quantize_args *args;
    struct gguf in;
    struct recipe recipe;
    struct imatrix own;
    const struct imatrix *imatrix; /* NULL: none */
    struct quantize_plan plan;
    struct buf out; /* path */
};

/* ---- arguments ---- */

static int sort_arguments(const struct quantize_args *a, struct job *j, const char **type,
                          int64_t *threads)
{
    const struct texts *t = &a->files;
    int n = t->n;
    *threads = a->threads;
    if (n > 2 && n < 5 && recipe_mix_find(t->value[n - 2]) &&
        !number_int(t->value[n - 1], strlen(t->value[n - 1]), threads))
        n--; // a number behind a type
    if (n < 2 || n > 3) {
        err("quantize takes IN.gguf [OUT.gguf] TYPE [THREADS]; `attar quantize --help` says more");
        return CMD_USAGE;
    }
    *type = t->value[n - 1];
    const struct recipe_mix *mix = recipe_mix_find(*type);
    const size_t len = strlen(*type);
    if (!mix && len > 5 && !strcmp(*type + len - 5, ".gguf")) {
        err("'%s' stands where the type does: quantize takes IN.gguf [OUT.gguf] TYPE [THREADS]",
            *type);
        return CMD_USAGE;
    }
    if (!mix)
        return -1;
    const char *in = t->value[0], *slash = strrchr(in, '/');
    if (n == 3)
        buf_text(&j->out, t->value[1]);
    else
        buf_printf(&j->out, "%.*sggml-model-%s.gguf", slash ? (int)(slash - in) + 1 : 0, in,
                   mix->name);
    return j->out.failed ? -1 : 0;
}

/* The output is none of the input's files. */
static int check_other(const struct gguf *g, const char *in, const char *out)
{
    struct buf name = {0};
    struct stat a, b;
    const int there = file_exists(out);
    if (there <= 0)
        return there;
    int rc = stat(out, &b) ? err("%s: %s", out, strerror(errno)) : 0;
    for (int i = 0; i <= g->n_parts && !rc; i++) {
        rc = gguf_path(g, in, i, &name);
        if (!rc && stat(name.p, &a))
            rc = err("%s: %s", name.p, strerror(errno));
        if (!rc && a.st_dev == b.st_dev && a.st_ino == b.st_ino)
            rc = err("%s: the output would replace the input; give it another name", out);
    }
    buf_free(&name);
    return rc;
}

/* ---- lines ---- */

static void print_head(const struct job *j, size_t i)
{
    const struct gguf_tensor *t = &j->in.tensor[i];
    mix_lines_head(i, j->in.n_tensors,
                   &(struct mix_lines_tensor){t->name.s, (int)t->name.n, t->dim, t->type->name,
                                              (double)t->bytes});
}

/* Tensors whose rows do not fit, all of them, before anything else happens. */
static void print_fallbacks(const struct job *j)
{
    for (size_t i = 0; i < j->in.n_tensors; i++)
        mix_lines_fallback(j->in.tensor[i].name.s, (int)j->in.tensor[i].name.n,
                           (int64_t)j->in.tensor[i].dim[0], &j->plan.choice[i]);
}

static void print_sums(const struct job *j)
{
    const struct quantize_plan *p = &j->plan;
    mix_lines_sums(&(struct mix_lines_sums){(double)p->old_bytes, (double)p->new_bytes,
                                            (double)p->elements, p->matrices, p->fallbacks});
}

/* ---- work ---- */

static bool changes(const struct job *j, size_t i)
{
    const struct recipe_choice *c = &j->plan.choice[i];
    return c->matrix && c->dt && (uint32_t)c->dt->gguf_id != j->in.tensor[i].type_id;
}

static double bytes_as(const struct gguf_tensor *t, const struct dtype *dt)
{
    return (double)t->numel / dt->block * dt->bytes;
}

static int write_tensor(struct job *j, struct gguf_write *w, size_t i)
{
    const struct gguf_tensor *t = &j->in.tensor[i];
    const struct dtype *to = j->plan.choice[i].dt;
    char name[GGUF_NAME];
    float *mean = NULL;
    bool missing = false;
    snprintf(name, sizeof name, "%.*s", (int)t->name.n, t->name.s);
    struct quantize_source s = quantize_from(&j->in, t, name);
    print_head(j, i);
    if (!changes(j, i)) {
        mix_lines_kept((double)t->bytes);
        return quantize_tensor(w, &s, NULL, &interrupt_flag);
    }
    mix_lines_start(to);
    if (quantize_importance(j->imatrix, name, (int64_t)t->dim[0], &mean, &missing))
        return -1;
    s.importance = mean;
    const int rc = quantize_tensor(w, &s, to, &interrupt_flag);
    free(mean);
    if (rc)
        return rc;
    mix_lines_end((double)t->bytes, bytes_as(t, to), missing ? " (no importance)" : "");
    return 0;
}

static int write_file(struct job *j)
{
    struct gguf_write w = {0};
    const double began = clock_seconds();
    quantize_declare(&j->plan, &w, j->imatrix, j->args->mix.imatrix);
    const uint64_t size = gguf_write_size(&w);
    int rc = gguf_write_open(&w, j->out.p);
    for (size_t i = 0; i < j->in.n_tensors && !rc; i++)
        rc = write_tensor(j, &w, i);
    if (rc)
        printf("\n");
    else
        rc = gguf_write_commit(&w);
    gguf_write_abandon(&w);
    if (rc && interrupt_flag)
        return err("stopped by %s; nothing was written", interrupt_name());
    if (rc)
        return rc;
    print_sums(j);
    mix_lines_file(size);
    const double seconds = clock_seconds() - began;
    printf("quantize time = %8.2f ms (%.1f M weights/s)\n", 1000 * seconds,
           (double)j->plan.elements / seconds / 1e6);
    return 0;
}

static void print_plan(const struct job *j)
{
    for (size_t i = 0; i < j->in.n_tensors; i++) {
        const struct gguf_tensor *t = &j->in.tensor[i];
        const struct dtype *to = j->plan.choice[i].dt;
        print_head(j, i);
        if (changes(j, i))
            mix_lines_planned((double)t->bytes, bytes_as(t, to), to);
        else
            mix_lines_kept((double)t->bytes);
    }
    print_sums(j);
    struct gguf_write w = {0};
    quantize_declare(&j->plan, &w, j->imatrix, j->args->mix.imatrix);
    mix_lines_file(gguf_write_size(&w));
    gguf_write_abandon(&w);
}

static int check_importance(const struct job *j)
{
    struct quantize_weighed c = {0};
    for (size_t i = 0; i < j->in.n_tensors; i++) {
        char name[GGUF_NAME];
        snprintf(name, sizeof name, "%.*s", (int)j->in.tensor[i].name.n, j->in.tensor[i].name.s);
        if (changes(j, i) && j->plan.choice[i].dt->block > 1)
            quantize_weighed_count(&c, j->imatrix, name);
    }
    return quantize_weighed_check(&c);
}

static int quantize(struct job *j, const char *type)
{
    const struct quantize_args *a = j->args;
    const char *in = a->files.value[0];
    if (mix_args_recipe(&a->mix, type, &j->recipe))
        return -1;
    if (!a->dry_run && file_check_out(j->out.p))
        return -1;
    if (mix_args_imatrix(&a->mix, &j->own, &j->imatrix) || gguf_open(&j->in, in) ||
        (!a->dry_run && check_other(&j->in, in, j->out.p)))
        return -1;
    const char *arch = model_gguf_kind(&j->in) ? NULL : model_gguf_arch(&j->in, &(enum arch){0});
    if (!arch || model_gguf_check(&j->in) ||
        quantize_plan(&j->plan, &j->in, arch, &j->recipe, j->imatrix != NULL, a->allow_requantize))
        return err_in("%s", in);
    if (a->mix.leave_output_tensor && !gguf_tensor(&j->in, "output.weight"))
        err_warn("--leave-output-tensor has no effect: the head is token_embd.weight");
    print_fallbacks(j);
    if (check_importance(j))
        return err_in("%s", a->mix.imatrix);
    if (a->dry_run) {
        print_plan(j);
        return 0;
    }
    interrupt_catch();
    return write_file(j);
}

static int run(const struct quantize_args *a)
{
    struct job j = {.args = a};
    const char *type;
    int64_t threads;
    int rc = sort_arguments(a, &j, &type, &threads);
    if (!rc) {
        if (threads > 0 && threads <= 4096)
            omp_set_num_threads((int)threads);
        rc = quantize(&j, type);
    }
    quantize_plan_free(&j.plan);
    gguf_close(&j.in);
    imatrix_free(&j.own);
    recipe_free(&j.recipe);
    buf_free(&j.out);
    return rc;
}

int cmd_quantize(int argc, char **argv)
{
    struct quantize_args args;
    struct pool pool = {0};
    int rc = flags_parse(&flags, argc, argv, &args, &pool);
    if (!rc)
        rc = run(&args);
    pool_free(&pool);
    return rc == FLAGS_HELP ? 0 : rc;
}
