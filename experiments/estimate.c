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

int estimate_training(const struct rehearsal_args *a, struct rates *rates, struct estimate *e)
{
    struct profile step = {0}, eval = {0};
    const struct plan_args plan = {.n_seqs = a->micro,
                                   .T = a->T,
                                   .parts = 1,
                                   .bf16 = a->bf16,
                                   .lora = a->lora,
                                   .profile = &eval};
    int rc = rehearsal_plan(a, &step) || !plan_eval(a->dims, &plan) || eval.failed ? -1 : 0;
    if (!rc) {
        e->step = seconds_of(rates, &step);
        e->eval = seconds_of(rates, &eval);
        rc = e->step < 0 || e->eval < 0 ? -1 : 0;
        e->eval /= (double)(a->micro * a->T);
    }
    profile_free(&step);
    profile_free(&eval);
    return rc;
}
