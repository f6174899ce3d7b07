/*
 * A training stage as a plan: from its config to the step that `attar check` plans, `attar bench
 * --train` rehearses and the stage itself runs.
 */
#ifndef ATTAR_EXPERIMENTS_STAGE_PLAN_H
#define ATTAR_EXPERIMENTS_STAGE_PLAN_H

#include "experiments/plan.h"

/* Large: not for the stack. */
struct stage_plan {
    struct transformer_dims dims, teacher;
    struct lora_args lora;
    struct recipe recipe;  /* of inputs that are rounded */
    struct plan_step step; /* points to the above */
};

/* Of stage i. Reads what its model and teacher are made of; `vocab` is the tokenizer's. p must stay
   where it is. 0, or -1 with err() set; stage_plan_free() either way. */
int stage_plan_init(struct stage_plan *p, const struct config *c, int i, int vocab);
void stage_plan_free(struct stage_plan *p);

/* A micro-batch of the stage for sequences of T tokens, all but who teaches and what rounds.
   `masked`: attention is kept within documents. *lora: where its options go, if it trains factors.
 */
struct plan_args stage_plan_pass(const struct config_stage *s, int64_t T, bool masked,
                                 struct lora_args *lora);

#endif
