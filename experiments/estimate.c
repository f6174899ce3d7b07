#include "experiments/estimate.h"

/* Seconds of all rows. -1 with err() set. */
static double seconds_of(struct rates *rates, const struct profile *p)
{
    double sum = 0;
    for (int i = 0; i < p->n; i++) {
        const double row = rates_row(rates, p, i);
        if (row < 0)
            return -1;
        sum += row;
    }
    return sum;
}

/* What rounding into blocks adds to a step, where weights are trained in them. */
static int rounding(const struct plan_step *a, double *seconds)
{
    struct transformer m;
    struct blocks b;
    *seconds = 0;
    if (!a->qat || a->pass.lora)
        return 0;
    if (transformer_init(&m, a->dims, STORE_SHAPES))
        return -1;
    int rc = blocks_open(&b, a->qat, a->pass.bf16, a->folder, &m);
    if (!rc) {
        rc = blocks_seconds(&b, seconds);
        blocks_close(&b);
    }
    transformer_free(&m);
    return rc;
}

int estimate_evaluation(const struct transformer_dims *dims, const struct plan_args *args,
                        struct rates *rates, struct estimate *e)
{
    struct profile eval = {0};
    struct plan_args pass = *args;
    pass.profile = &eval;
    int rc = !plan_eval(dims, &pass) || eval.failed ? -1 : 0;
    if (!rc) {
        const double tokens = (double)(pass.n_seqs * pass.T);
        e->eval_flops = rehearsal_flops(&eval) / tokens;
        e->eval = seconds_of(rates, &eval) / tokens;
        rc = e->eval < 0 ? -1 : 0;
    }
    profile_free(&eval);
    return rc;
}

int estimate_training(const struct plan_step *a, struct rates *rates, struct estimate *e)
{
    struct profile step = {0};
    int rc = rehearsal_plan(a, &step) ? -1 : rounding(a, &e->rounding);
    if (!rc) {
        e->step_flops = rehearsal_flops(&step);
        e->step = seconds_of(rates, &step);
        rc = e->step < 0 ? -1 : estimate_evaluation(a->dims, &a->pass, rates, e);
        e->step += e->rounding;
    }
    profile_free(&step);
    return rc;
}
