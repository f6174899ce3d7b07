/* attar import SOURCE OUT.h5: somebody's model as a checkpoint. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "autograd/base/absent.h"
#include "autograd/base/err.h"
#include "autograd/base/file.h"
#include "compress/gguf_meta.h"
#include "compress/recipe.h"
#include "experiments/about.h"
#include "experiments/checkpoint.h"
#include "experiments/cmd.h"
#include "experiments/flags.h"
#include "experiments/import_hf.h"
#include "experiments/model_gguf.h"

struct import_args {
    struct texts files;
};

static const struct field table[] = {
    {FIELD_AT(import_args, files), .type = FIELD_TEXTS, .flags = FIELD_REQUIRED | FIELD_POSITIONAL,
     .doc = "SOURCE OUT.h5: a GGUF file, or a folder with config.json, safetensors and tokenizer"},
    {0},
};

static const struct flags flags = {
    "import SOURCE OUT.h5",
    "Makes a checkpoint of a GGUF file, of any types, or of a Hugging Face folder (Llama 1 to 3,\n"
    "Mistral, SmolLM2, Qwen2, Qwen3, GPT-2): weights in f32, tokenizer, chat template; and the\n"
    "blocks of a quantized file, which training in blocks starts from and export writes again.",
    table};

/* The mix that the file says it is of; NULL: an unknown one. */
static const struct recipe_mix *mix_of(const struct gguf *g)
{
    const struct recipe_mix *mix = NULL;
    int64_t id = -1;
    if (gguf_meta_int(g, "general.file_type", 0, UINT32_MAX, &id))
        return NULL;
    for (int i = 0; (mix = recipe_mix_at(i)) && mix->id != id; i++)
        ;
    return mix && mix->base->block > 1 ? mix : NULL;
}

/* Matrices of the file that are in blocks, into q; *mix NULL: none are. And what it says about
   itself. 0, or -1 with err() set. */
static int take_blocks(const char *source, struct transformer *m, struct qat *q,
                       const struct recipe_mix **mix, struct buf *about)
{
    struct transformer file;
    struct tokenizer *tok;
    bool any = false;
    if (model_gguf_use(source, &file, &tok))
        return -1;
    *mix = mix_of(file.store.file);
    int rc = about_take(file.store.file, about);
    for (int i = 0; i < file.store.n; i++)
        any |= file.store.p[i].used.dt->block > 1;
    if (any && !*mix)
        err_warn("%s: its file type is unknown here: values are imported, blocks are not kept",
                 source);
    for (int i = 0; i < file.store.n && any && *mix && !rc; i++) {
        const struct tensor *t = &file.store.p[i].used;
        if (t->nd != 2 || t->dt == &dtype_f32)
            continue;
        rc = qat_add(q, &m->store.p[i], t->dt);
        if (!rc)
            memcpy(q->weight[q->n - 1].blocks.data, t->data, tensor_bytes(t));
    }
    q->attached = !rc && q->n; // they are the model
    if (!q->n)
        *mix = NULL;
    transformer_free(&file);
    tokenizer_free(tok);
    return rc;
}

static int save(const char *path, const struct transformer *m, const struct tokenizer *tok,
                const struct qat *q, const char *mix, const struct buf *about)
{
    const struct checkpoint_state state = {.smooth = NAN,
                                           .smooth_min = NAN,
                                           .best_valid = NAN,
                                           .last_valid = NAN,
                                           .last_bpb = NAN,
                                           .last_unaveraged = NAN};
    struct buf json = {0};
    int rc = tokenizer_write(tok, &json);
    const struct checkpoint_source source = {.stage = "import",
                                             .config = "",
                                             .config_hash = "",
                                             .corpus_hash = "",
                                             .tokenizer = json.p,
                                             .qat = q,
                                             .mix = mix,
                                             .about = about};
    if (!rc)
        rc = checkpoint_save(path, m, &state, &source);
    buf_free(&json);
    return rc;
}

static void report(const char *source, const char *path, const struct transformer *m,
                   const struct tokenizer *tok, const struct recipe_mix *mix)
{
    int64_t rest;
    const struct transformer_dims *d = &m->dims;
    printf("%s: %s, %d layers, width %d, %lld parameters, context %d; %d tokens (%s%s%s)\n", source,
           arch_rows[d->arch].name, d->n_layers, d->d_model,
           (long long)transformer_params(d, &rest), d->context, tokenizer_vocab_size(tok),
           tokenizer_name(tok), tok->spm ? "" : ", ", tok->spm ? "" : tokenizer_pre(tok));
    printf("%s%s%s\n", path, mix ? ", in blocks of " : "", mix ? mix->name : "");
}

static int run(const struct texts *files)
{
    struct transformer m;
    struct tokenizer *tok;
    if (files->n != 2) {
        err("import takes SOURCE OUT.h5; `attar import --help` says more");
        return CMD_USAGE;
    }
    const char *source = files->value[0], *path = files->value[1];
    const size_t n = strlen(path);
    if (n < 4 || strcmp(path + n - 3, ".h5")) {
        err("%s: the checkpoint's name has to end in .h5", path);
        return CMD_USAGE;
    }
    if (file_check_out(path))
        return -1;
    struct stat st;
    if (stat(source, &st)) {
        const bool absent = errno == ENOENT;
        absent_report(source);
        if (!absent)
            return -1;
        return err("%s (nothing is fetched: a model's folder or GGUF file has to be there)",
                   err_text());
    }
    const int gguf = model_gguf_is(source), known = gguf ? gguf : import_hf_is(source);
    if (known < 0)
        return -1;
    if (!known)
        return err("%s: neither a GGUF file nor a folder with a config.json", source);
    if (gguf ? model_gguf_load(source, &m, &tok) : import_hf(source, &m, &tok))
        return -1;
    struct qat q;
    struct buf about = {0};
    const struct recipe_mix *mix = NULL;
    qat_init(&q, &(struct qat_options){0});
    int rc = gguf ? take_blocks(source, &m, &q, &mix, &about) : about_take_card(source, &about);
    if (!rc)
        rc = save(path, &m, tok, &q, mix ? mix->name : NULL, &about);
    if (!rc)
        report(source, path, &m, tok, mix);
    qat_free(&q);
    buf_free(&about);
    transformer_free(&m);
    tokenizer_free(tok);
    return rc;
}

int cmd_import(int argc, char **argv)
{
    struct import_args args;
    struct pool pool = {0};
    int rc = flags_parse(&flags, argc, argv, &args, &pool);
    if (!rc)
        rc = run(&args.files);
    pool_free(&pool);
    return rc == FLAGS_HELP ? 0 : rc;
}
