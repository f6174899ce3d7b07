/* How fast a model will train here: the costs of its step by shapes, at measured rates. */
#ifndef ATTAR_EXPERIMENTS_ESTIMATE_H
#define ATTAR_EXPERIMENTS_ESTIMATE_H

#include "experiments/rehearsal.h"

struct estimate {
    double step;       /* seconds of an optimizer step with all of its micro-batches */
    double eval;       /* seconds of an evaluation for each token */
    double rounding;   /* seconds of `step` that go into rounding weights into blocks */
    double step_flops; /* of the passes of a step; with a teacher its own are among them */
    double eval_flops; /* of an evaluation for each token */
};

/* Nothing of the model's size is made or run: only products and passes of its shapes are timed,
   those that the rates do not know yet. 0, or -1 with err() set. */
int estimate_training(const struct plan_step *args, struct rates *rates, struct estimate *e);

/* Of an evaluation in such batches: e->eval and e->eval_flops alone. 0, or -1 with err() set. */
int estimate_evaluation(const struct transformer_dims *dims, const struct plan_args *args,
                        struct rates *rates, struct estimate *e);

#endif
