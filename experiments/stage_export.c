/* Stage `export`: a stage's model as a GGUF file, with a Modelfile. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "autograd/base/clock.h"
#include "experiments/export.h"
#include "experiments/interrupt.h"
#include "experiments/run.h"

void stage_export_path(const struct run *r, int stage, char path[RUN_PATH])
{
    const struct recipe_mix *mix = recipe_mix_find(r->config->stages[stage].export.type);
    char file[256];
    snprintf(file, sizeof file, "%.150s-%s.gguf", r->config->name, mix ? mix->name : "");
    run_stage_path(r, stage, file, path);
}

static int summarize(struct run *r, int stage, const struct export_file *f, double seconds)
{
    struct summary s;
    struct stat st;
    char bytes[32], bits[32], fallbacks[32];
    struct buf adapter = {0};
    summary_init(&s);
    if (stat(f->out, &st))
        return err("%s: it was written, but cannot be found: %s", f->out, strerror(errno));
    snprintf(bytes, sizeof bytes, "%lld", (long long)st.st_size);
    snprintf(bits, sizeof bits, "%.4g", 8 * (double)f->tensor_bytes / (double)f->elements);
    snprintf(fallbacks, sizeof fallbacks, "%d of %d", f->fallbacks, f->tensors);
    export_adapter_path(f->out, &adapter);
    const struct summary_fact facts[] = {{"file", f->out},
                                         {"type", f->recipe->mix->name},
                                         {"bytes", bytes},
                                         {"bits per weight", bits},
                                         {"tensors of another type, as rows do not fit", fallbacks},
                                         {"adapter", adapter.p ? adapter.p : ""}};
    s.parameters = (int64_t)f->elements;
    s.seconds = seconds;
    s.fact = facts;
    s.n_facts = sizeof facts / sizeof *facts - !f->adapter;
    printf("%s: %s, %s bytes, %s bits per weight%s%s\n", f->out, f->recipe->mix->name, bytes, bits,
           f->adapter ? "; adapter " : "", f->adapter && adapter.p ? adapter.p : "");
    const int rc = adapter.failed ? -1 : run_summary(r, stage, &s);
    buf_free(&adapter);
    return rc;
}

/* The importance matrix' path starts from the config's folder. */
static int read_importance(const struct run *r, const struct mix_args *given, char path[RUN_PATH],
                           struct imatrix *own, const struct imatrix **imatrix)
{
    struct mix_args a = *given;
    if (!a.imatrix) {
        *path = 0;
    } else {
        const bool whole = *a.imatrix == '/';
        snprintf(path, RUN_PATH, "%s%s%s", whole ? "" : r->config->folder, whole ? "" : "/",
                 a.imatrix);
        a.imatrix = path;
    }
    return mix_args_imatrix(&a, own, imatrix);
}

int stage_export(struct run *r, int stage)
{
    const struct config_stage *s = &r->config->stages[stage];
    const double began = clock_seconds();
    char from[RUN_PATH], out[RUN_PATH], path[RUN_PATH];
    struct recipe recipe;
    struct imatrix own;
    const struct imatrix *imatrix;
    if (s->parent >= 0)
        run_stage_model(r, s->parent, from);
    else
        snprintf(from, sizeof from, "%s", s->checkpoint);
    stage_export_path(r, stage, out);
    if (mix_args_recipe(&s->export.mix, s->export.type, &recipe))
        return -1;
    int rc = read_importance(r, &s->export.mix, path, &own, &imatrix);
    if (!rc) {
        struct export_file f = {.checkpoint = from,
                                .out = out,
                                .name = r->config->name,
                                .recipe = &recipe,
                                .imatrix = imatrix,
                                .imatrix_path = s->export.mix.imatrix,
                                .modelfile = true,
                                .merge = s->export.merge,
                                .stop = &interrupt_flag};
        rc = export_file(&f);
        if (!rc)
            rc = summarize(r, stage, &f, clock_seconds() - began);
        imatrix_free(&own);
    }
    recipe_free(&recipe);
    if (rc && interrupt_flag) {
        err("stopped by %s during an export; the same command does it again", interrupt_name());
        return RUN_STOPPED;
    }
    return rc;
}
