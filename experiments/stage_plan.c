#include "experiments/stage_plan.h"

#include "datasets/corpus_peek.h"
#include "experiments/model.h"
#include "experiments/run.h"
#include "experiments/stage_lora.h"

/* What the run finds in the stage's corpus, by a look at the text. */
static bool masks(const struct config *c, int stage)
{
    struct corpus_spec spec;
    run_stage_spec(c, stage, &spec);
    const bool pairs = c->data.mask_documents == PAIRS_ALONE && corpus_peek_pairs(&spec);
    return run_documents(c, pairs) != LOADER_JOINED;
}

struct plan_args stage_plan_pass(const struct config_stage *s, int64_t T, bool masked,
                                 struct lora_args *lora)
{
    const bool factors = s->kind == STAGE_QAT && s->qat.params == PARAMS_LORA;
    *lora = stage_lora_args(s);
    return (struct plan_args){.n_seqs = config_micro_batch(&s->train, T) / T,
                              .T = T,
                              .parts = masked ? T : 1,
                              .recompute = s->train.recompute == RECOMPUTE_BLOCKS,
                              .bf16 = config_bf16(&s->train),
                              .lora = factors ? lora : NULL};
}

int stage_plan_init(struct stage_plan *p, const struct config *c, int i, int vocab)
{
    const struct config_stage *s = &c->stages[i];
    const struct config_train *t = &s->train;
    const bool qat = s->kind == STAGE_QAT;
    *p = (struct stage_plan){0};
    if (model_stage_dims(c, i, vocab, &p->dims))
        return -1;
    const int64_t T = config_sequence(t, p->dims.context);
    if (config_batch_check(t, T))
        return -1;
    const int taught = model_teacher_dims(c, i, vocab, &p->teacher);
    if (taught < 0)
        return -1;
    p->step = (struct plan_step){.dims = &p->dims,
                                 .pass = stage_plan_pass(s, T, masks(c, i), &p->lora),
                                 .batch = t->batch_tokens / T,
                                 .optimizer = (enum optimizer_kind)t->optimizer,
                                 .ema = t->ema > 0,
                                 .qat = qat ? &s->qat : NULL,
                                 .folder = c->folder};
    p->step.pass.teacher = taught ? &p->teacher : NULL;
    if (!qat || !s->qat.activations)
        return 0;
    p->step.pass.rounds = &p->recipe;
    p->step.pass.weighed = s->qat.mix.imatrix;
    return mix_args_recipe(&s->qat.mix, s->qat.type, &p->recipe);
}

void stage_plan_free(struct stage_plan *p)
{
    recipe_free(&p->recipe);
    *p = (struct stage_plan){0};
}
