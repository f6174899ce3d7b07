#include <string.h>

#include "autograd/base/err.h"
#include "compress/quantize.h"
#include "experiments/about.h"
#include "experiments/adapter.h"
#include "experiments/checkpoint.h"
#include "experiments/export.h"
#include "experiments/mix_lines.h"

static int write_model(struct export_file *f, const struct transformer *m,
                       const struct tokenizer *t, const struct export_args *args)
{
    struct export_plan p;
    if (export_plan(&p, m, f->recipe, f->imatrix != NULL))
        return -1;
    struct quantize_weighed weighed = {0};
    for (int i = 0; i < p.n; i++)
        if (p.tensor[i].choice.matrix && p.tensor[i].choice.dt->block > 1)
            quantize_weighed_count(&weighed, f->imatrix, p.tensor[i].name);
    if (quantize_weighed_check(&weighed)) {
        export_plan_free(&p);
        return err_in("%s", f->imatrix_path);
    }
    for (int i = 0; i < p.n; i++)
        mix_lines_fallback(p.tensor[i].name, (int)strlen(p.tensor[i].name),
                           (int64_t)p.tensor[i].dim[0], &p.tensor[i].choice);
    int rc = export_write(&p, t, args, f->out);
    if (!rc && f->modelfile)
        rc = export_modelfile(f->out, m, t);
    f->elements = p.elements;
    f->tensor_bytes = p.bytes;
    f->fallbacks = p.fallbacks;
    f->tensors = p.n;
    export_plan_free(&p);
    return rc;
}

/* "runs/x/model.gguf" -> "model" */
static void put_stem(const char *path, struct buf *stem)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    const char *dot = strrchr(name, '.');
    buf_add(stem, name, dot && dot > name ? (size_t)(dot - name) : strlen(name));
}

void export_adapter_path(const char *out, struct buf *path)
{
    const size_t n = strlen(out), end = n > 5 && !strcmp(out + n - 5, ".gguf") ? n - 5 : n;
    buf_printf(path, "%.*s-lora.gguf", (int)end, out);
}

int export_file_type(const char *checkpoint, const char **type)
{
    struct checkpoint c;
    if (checkpoint_open(&c, checkpoint))
        return -1;
    const struct recipe_mix *mix = recipe_mix_find(c.mix.n ? c.mix.p : "F16");
    *type = mix ? mix->name : NULL;
    checkpoint_close(&c);
    return mix ? 0 : -1;
}

/* What a model was trained in takes the place of what it decodes to, if the file is to be that. */
static int take_blocks(const struct export_file *f, struct checkpoint *c, struct transformer *m)
{
    const struct recipe *r = f->recipe;
    if (!c->mix.n)
        return 0;
    const struct recipe_mix *mix = recipe_mix_find(c->mix.p);
    if (!mix)
        return -1;
    if (mix != r->mix) {
        err_warn("%s is in blocks of %s: %s rounds what they decode to again", f->checkpoint,
                 mix->name, r->mix->name);
        return 0;
    }
    if (r->n_rules || r->output || r->embedding || r->pure || r->leave_output || f->imatrix)
        return err("%s is in blocks, which are written as they are: leave out what "
                   "chooses types or scales",
                   f->checkpoint);
    return checkpoint_use_blocks(c, m);
}

/* Blocks and factors: two files. */
static int write_lora(struct export_file *f, struct checkpoint *c, const struct export_args *args)
{
    const struct recipe_mix *mix = recipe_mix_find(c->mix.p ? c->mix.p : "");
    struct transformer m;
    struct tokenizer *t;
    struct buf path = {0};
    if (!mix)
        return -1;
    if (mix != f->recipe->mix)
        return err("%s: its factors are over weights in %s, and would not fit others: leave the "
                   "type out, or merge them",
                   f->checkpoint, mix->name);
    if (checkpoint_use_base(f->checkpoint, &m, &t))
        return -1;
    export_adapter_path(f->out, &path);
    int rc = path.failed || take_blocks(f, c, &m) || checkpoint_use_factors(c, &m) ? -1 : 0;
    if (!rc)
        rc = write_model(f, &m, t, args);
    if (!rc)
        rc = adapter_write(path.p, &m, &args->origin);
    f->adapter = !rc;
    buf_free(&path);
    transformer_free(&m);
    tokenizer_free(t);
    return rc;
}

static int write_whole(struct export_file *f, struct checkpoint *c, const struct export_args *args)
{
    struct transformer m;
    struct tokenizer *t;
    if (f->merge && !c->lora)
        return err("%s has no factors to merge", f->checkpoint);
    if (checkpoint_use(f->checkpoint, &m, &t))
        return -1;
    int rc = 0;
    if (f->merge && f->recipe->mix->base != &dtype_f32)
        err_warn("%s: merged weights are rounded again, to %s, which changes the model; `evaluate` "
                 "with compare: [STAGE, STAGE@%s] and reference: STAGE says how far",
                 f->checkpoint, f->recipe->mix->name, f->recipe->mix->name);
    else if (!f->merge)
        rc = take_blocks(f, c, &m);
    if (!rc)
        rc = write_model(f, &m, t, args);
    transformer_free(&m);
    tokenizer_free(t);
    return rc;
}

int export_file(struct export_file *f)
{
    struct buf stem = {0};
    struct checkpoint c;
    put_stem(f->out, &stem);
    if (stem.failed || checkpoint_open(&c, f->checkpoint)) {
        buf_free(&stem);
        return -1;
    }
    const bool trained = c.state.step > 0;
    struct buf named = {0}; // what is not trained on is still what it was
    if (!f->name && !trained && about_name(&c.about, &named)) {
        checkpoint_close(&c);
        buf_free(&stem);
        return -1;
    }
    const struct export_args args = {.origin = {.name = f->name   ? f->name
                                                        : named.n ? named.p
                                                                  : stem.p,
                                                .about = &c.about,
                                                .trained = trained,
                                                .stage = c.stage.p ? c.stage.p : "",
                                                .config_hash =
                                                    c.config_hash.p ? c.config_hash.p : "",
                                                .steps = (uint64_t)c.state.step,
                                                .tokens = (uint64_t)c.state.tokens},
                                     .imatrix = f->imatrix,
                                     .imatrix_path = f->imatrix_path,
                                     .lines = f->lines,
                                     .stop = f->stop};
    const int rc = c.lora && !f->merge ? write_lora(f, &c, &args) : write_whole(f, &c, &args);
    checkpoint_close(&c);
    buf_free(&named);
    buf_free(&stem);
    return rc;
}
