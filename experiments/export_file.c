#include <string.h>

#include "autograd/base/err.h"
#include "experiments/checkpoint.h"
#include "experiments/export.h"
#include "experiments/mix_lines.h"

static int write_model(struct export_file *f, const struct transformer *m,
                       const struct tokenizer *t, const struct export_args *args)
{
    struct export_plan p;
    if (export_plan(&p, m, f->recipe, f->imatrix != NULL))
        return -1;
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

int export_file(struct export_file *f)
{
    struct buf stem = {0};
    struct checkpoint c;
    struct transformer m;
    struct tokenizer *t;
    put_stem(f->out, &stem);
    if (stem.failed || checkpoint_open(&c, f->checkpoint)) {
        buf_free(&stem);
        return -1;
    }
    const struct export_args args = {.origin = {.name = f->name ? f->name : stem.p,
                                                .stage = c.stage.p ? c.stage.p : "",
                                                .config_hash =
                                                    c.config_hash.p ? c.config_hash.p : "",
                                                .steps = (uint64_t)c.state.step,
                                                .tokens = (uint64_t)c.state.tokens},
                                     .imatrix = f->imatrix,
                                     .imatrix_path = f->imatrix_path,
                                     .lines = f->lines,
                                     .stop = f->stop};
    int rc = checkpoint_use(f->checkpoint, &m, &t);
    if (!rc) {
        rc = write_model(f, &m, t, &args);
        transformer_free(&m);
        tokenizer_free(t);
    }
    checkpoint_close(&c);
    buf_free(&stem);
    return rc;
}
