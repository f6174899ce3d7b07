/* attar export CKPT.h5|RUN OUT.gguf: a trained model as GGUF. */
#include <omp.h>
#include <stdio.h>
#include <sys/stat.h>

#include "autograd/base/file.h"
#include "experiments/cmd.h"
#include "experiments/export.h"
#include "experiments/flags.h"
#include "experiments/interrupt.h"
#include "experiments/mix_args.h"
#include "experiments/mix_lines.h"
#include "experiments/model_gguf.h"
#include "experiments/model_path.h"

struct export_flags {
    const char *model, *out, *type, *name;
    struct mix_args mix;
    bool modelfile, merge;
    int64_t threads;
};

#define AT(member) FIELD_AT(export_flags, member)
static const struct field table[] = {
    {AT(model), .type = FIELD_TEXT, .flags = FIELD_REQUIRED | FIELD_POSITIONAL,
     .doc = "checkpoint, or the folder of a stage or a run"},
    {AT(out), .type = FIELD_TEXT, .flags = FIELD_REQUIRED | FIELD_POSITIONAL,
     .doc = "the GGUF file to write"},
    {AT(type), .type = FIELD_TEXT,
     .doc = "of the file, as quantize takes it: Q4_K_M, Q8_0, F32 ... (default F16, or the blocks "
            "that the model was trained in)"},
    {AT(name), .type = FIELD_TEXT, .doc = "general.name (default: the file's name)"},
    MIX_ARGS_FIELDS(export_flags, mix),
    {AT(modelfile), .type = FIELD_BOOL, .doc = "also write a Modelfile for Ollama beside it"},
    {AT(merge), .type = FIELD_BOOL,
     .doc = "one file of a model with factors (LoRA), added to its weights and rounded again; "
            "else the factors are an adapter beside it, OUT-lora.gguf"},
    {AT(threads), .type = FIELD_INT, .letter = 't', .min = 0, .max = 4096,
     .doc = "threads to compute with; 0: as many as there are cores"},
    {0},
};
#undef AT

static const struct flags flags = {
    "export CHECKPOINT OUT.gguf [--type T] [flags]",
    "Writes a trained model as a GGUF file for llama.cpp and what is built on it.", table};

static int export_model(const struct export_flags *a, const char *path, const struct recipe *r,
                        const struct imatrix *imatrix)
{
    struct export_file f = {.checkpoint = path,
                            .out = a->out,
                            .name = a->name,
                            .recipe = r,
                            .imatrix = imatrix,
                            .imatrix_path = a->mix.imatrix,
                            .lines = true,
                            .modelfile = a->modelfile,
                            .merge = a->merge,
                            .stop = &interrupt_flag};
    if (export_file(&f))
        return interrupt_flag ? err("stopped by %s; nothing was written", interrupt_name()) : -1;
    mix_lines_sums(&(struct mix_lines_sums){4 * (double)f.elements, (double)f.tensor_bytes,
                                            (double)f.elements, f.tensors, f.fallbacks});
    struct stat s;
    if (stat(a->out, &s))
        return err("%s: it was written, but cannot be found", a->out);
    mix_lines_file((uint64_t)s.st_size);
    if (f.adapter) {
        struct buf adapter = {0};
        export_adapter_path(a->out, &adapter);
        printf("adapter      = %s, of factors for --lora\n", adapter.p ? adapter.p : "");
        buf_free(&adapter);
    }
    return 0;
}

static int run(const struct export_flags *a)
{
    struct buf path = {0};
    struct recipe r = {0};
    struct imatrix own = {0};
    const struct imatrix *imatrix = NULL;
    const char *type = a->type;
    interrupt_catch();
    int rc = file_check_out(a->out);
    if (!rc)
        rc = model_path(a->model, &path);
    const int gguf = rc ? 0 : model_gguf_is(path.p);
    if (gguf < 0)
        rc = -1;
    else if (gguf)
        rc = err("%s is a GGUF file already: `attar quantize` writes it in other types", path.p);
    if (!rc && !type)
        rc = export_file_type(path.p, &type);
    if (!rc)
        rc = mix_args_recipe(&a->mix, type, &r) || mix_args_imatrix(&a->mix, &own, &imatrix)
                 ? -1
                 : export_model(a, path.p, &r, imatrix);
    recipe_free(&r);
    imatrix_free(&own);
    buf_free(&path);
    return rc;
}

int cmd_export(int argc, char **argv)
{
    struct export_flags args;
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
