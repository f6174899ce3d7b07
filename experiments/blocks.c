#include "experiments/blocks.h"

#include <stdio.h>
#include <stdlib.h>

#include "compress/quantize.h"
#include "experiments/export.h"

static int add_all(struct blocks *b, const struct transformer *m)
{
    struct export_plan p;
    if (export_plan(&p, m, &b->recipe, b->imatrix != NULL))
        return -1;
    int rc = 0;
    for (int i = 0; i < m->store.n && !rc; i++) // the plan's first tensors
        if (p.tensor[i].choice.dt != &dtype_f32)
            rc = qat_add(&b->qat, &m->store.p[i], p.tensor[i].choice.dt);
    export_plan_free(&p);
    return rc ? rc : qat_ready(&b->qat);
}

int blocks_open(struct blocks *b, const struct config_qat *c, const char *folder,
                const struct transformer *m)
{
    struct mix_args mix = c->mix;
    char path[4096];
    if (mix.imatrix && *mix.imatrix != '/') {
        snprintf(path, sizeof path, "%s/%s", folder, mix.imatrix);
        mix.imatrix = path;
    }
    *b = (struct blocks){0};
    if (mix_args_recipe(&c->mix, c->type, &b->recipe))
        return err_in("type");
    qat_init(&b->qat, &(struct qat_options){.clipped = c->ste == STE_CLIPPED,
                                            .learned = c->scales == SCALES_LEARNED});
    if (!mix_args_imatrix(&mix, &b->own, &b->imatrix) && !add_all(b, m))
        return 0;
    blocks_close(b);
    return -1;
}

void blocks_close(struct blocks *b)
{
    qat_free(&b->qat);
    recipe_free(&b->recipe);
    imatrix_free(&b->own);
    *b = (struct blocks){0};
}

int blocks_begin(struct blocks *b, struct transformer *m)
{
    for (int i = 0; i < b->qat.n; i++) {
        const struct qat_weight *w = &b->qat.weight[i];
        float *mean;
        bool missing;
        if (quantize_importance(b->imatrix, w->p->name, tensor_cols(&w->blocks), &mean, &missing))
            return -1;
        const int rc = qat_fit(&b->qat, i, mean);
        free(mean);
        if (rc)
            return -1;
    }
    if (qat_attach(&b->qat))
        return -1;
    store_project(&m->store);
    return qat_check(&b->qat);
}
