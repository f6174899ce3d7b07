#include "experiments/blocks.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

#include "autograd/base/clock.h"
#include "compress/quantize.h"
#include "experiments/export.h"

static int add_all(struct blocks *b, const struct transformer *m)
{
    struct export_plan p;
    if (export_plan(&p, m, &b->recipe, b->imatrix != NULL))
        return -1;
    int rc = 0;
    struct quantize_weighed weighed = {0};
    for (int i = 0; i < m->store.n && !rc; i++) // the plan's first tensors
        if (p.tensor[i].choice.dt != &dtype_f32) {
            rc = qat_add(&b->qat, &m->store.p[i], p.tensor[i].choice.dt);
            quantize_weighed_count(&weighed, b->imatrix, p.tensor[i].name);
        }
    export_plan_free(&p);
    return rc || quantize_weighed_check(&weighed) ? -1 : qat_ready(&b->qat);
}

int blocks_open(struct blocks *b, const struct config_qat *c, bool bf16, const char *folder,
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
                                            .learned = c->scales != SCALES_FROZEN,
                                            .super = c->scales == SCALES_SUPER,
                                            .acts = c->activations,
                                            .shapes = !m->store.latent,
                                            .packed = bf16});
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

/* Importance of the columns of weight i, to be freed; NULL: none. 0, or -1 with err() set. */
static int importance(const struct blocks *b, int i, float **mean)
{
    const struct qat_weight *w = &b->qat.weight[i];
    bool missing;
    return quantize_importance(b->imatrix, w->p->name, tensor_cols(&w->blocks), mean, &missing);
}

int blocks_fit(struct blocks *b)
{
    for (int i = 0; i < b->qat.n; i++) {
        float *mean = NULL;
        int rc = importance(b, i, &mean);
        if (!rc)
            rc = b->qat.weight[i].given ? qat_keep(&b->qat, i) : qat_fit(&b->qat, i, mean);
        free(mean);
        if (rc)
            return -1;
    }
    return 0;
}

int blocks_freeze(struct blocks *b, struct transformer *m, bool let_go)
{
    for (int i = 0; i < b->qat.n; i++) {
        const struct qat_weight *w = &b->qat.weight[i];
        const struct tensor *t = &w->blocks;
        if (let_go && store_map(w->p, t->dt, t->data))
            return -1;
        const int64_t rows = let_go ? 0 : tensor_rows(t);
#pragma omp parallel for schedule(dynamic, 16)
        for (int64_t r = 0; r < rows; r++)
            t->dt->decode(t, r, w->p->latent + r * tensor_cols(t));
    }
    return let_go ? store_let_go(&m->store) : 0;
}

int blocks_begin(struct blocks *b, struct transformer *m)
{
    if (blocks_fit(b) || qat_attach(&b->qat))
        return -1;
    store_project(&m->store);
    return qat_check(&b->qat);
}

int blocks_refit(struct blocks *b, int64_t *moved, int64_t *all)
{
    *moved = *all = 0;
    for (int i = 0; i < b->qat.n; i++) {
        float *mean;
        if (importance(b, i, &mean))
            return -1;
        *moved += qat_refit(&b->qat, i, mean);
        *all += qat_subs(&b->qat, i);
        free(mean);
    }
    return 0;
}

/* ---- time ---- */

/* Seconds of a call, the least of some. */
static double least(void (*f)(struct store *), struct store *s)
{
    enum { TIMES = 5 };
    double best = INFINITY;
    for (int i = 0; i < TIMES; i++) {
        const double begin = clock_seconds();
        f(s);
        best = fmin(best, clock_seconds() - begin);
    }
    return best;
}

/* Seconds a weight for a matrix like w's: of projection and pullback, less those of a plain one. */
static int measure(const struct qat_weight *w, const struct qat_options *o, double *seconds)
{
    const int64_t cols = tensor_cols(&w->blocks), rows = 128 * omp_get_max_threads();
    const int64_t dim[] = {rows, cols};
    struct store s = {0};
    struct qat q;
    struct qat_options options = *o;
    options.shapes = false;
    qat_init(&q, &options);
    int rc = store_add(&s, "weight", 2, dim, 0.02f) || store_alloc(&s, STORE_TRAINED) ||
                     (o->packed && store_panels(&s))
                 ? -1
                 : 0;
    if (!rc) {
        store_init(&s, 1);
        const double plain = least(store_project, &s) + least(store_pullback, &s);
        rc = qat_add(&q, &s.p[0], w->blocks.dt) || qat_ready(&q) || qat_fit(&q, 0, NULL) ||
                     qat_attach(&q)
                 ? -1
                 : 0;
        if (!rc)
            *seconds = (least(store_project, &s) + least(store_pullback, &s) - plain) /
                       (double)(rows * cols);
    }
    qat_free(&q);
    store_free(&s);
    return rc;
}

int blocks_seconds(const struct blocks *b, double *seconds)
{
    *seconds = 0;
    for (int i = 0; i < b->qat.n; i++) {
        const struct qat_weight *w = &b->qat.weight[i];
        double each = 0;
        int64_t n = 0;
        bool again = false; // the same type and width, further up
        for (int k = 0; k < b->qat.n; k++) {
            const struct tensor *t = &b->qat.weight[k].blocks;
            const bool same = t->dt == w->blocks.dt && tensor_cols(t) == tensor_cols(&w->blocks);
            again |= same && k < i;
            n += same ? tensor_numel(t) : 0;
        }
        if (again)
            continue;
        if (measure(w, &b->qat.options, &each))
            return -1;
        *seconds += fmax(each, 0) * (double)n;
    }
    return 0;
}

int blocks_round_inputs(struct transformer *shapes, const struct recipe *r, bool weighed)
{
    struct export_plan p;
    if (export_plan(&p, shapes, r, weighed))
        return -1;
    for (int i = 0; i < shapes->store.n; i++) // the plan's first tensors
        shapes->store.p[i].used.input = qat_input(p.tensor[i].choice.dt);
    export_plan_free(&p);
    return 0;
}
