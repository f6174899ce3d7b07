/* What a stage needs before it runs: memory to the byte, by the code that runs it, with a measuring
   ctx. */
#ifndef ATTAR_EXPERIMENTS_PLAN_H
#define ATTAR_EXPERIMENTS_PLAN_H

#include "compress/recipe.h"
#include "layers/transformer.h"
#include "optim/optimizer.h"

struct plan_args {
    int64_t n_seqs, T; /* sequences that go through the model at once */
    int64_t parts;     /* most attention sequences in one of them: 1, or T with mask_documents */
    bool recompute;
    bool bf16;                              /* activations, and products */
    bool drops;                             /* dropout is active */
    const struct lora_args *lora;           /* factors over frozen weights; NULL: all are trained */
    const struct transformer_dims *teacher; /* whose logits are learned; NULL: none */
    /* whose blocks round the inputs of linears; NULL: none. `weighed`: with importance */
    const struct recipe *rounds;
    bool weighed;
    struct profile *profile; /* NULL, or where the costs of the pass are added */
};

/* Arena bytes of a training micro-batch (forward, loss, backward) and of an evaluation of the same
   size; 0 with err() set if that failed. */
size_t plan_train(const struct transformer_dims *dims, const struct plan_args *args);
size_t plan_eval(const struct transformer_dims *dims, const struct plan_args *args);

/* Arena bytes that serve `pass`, which does not record, for batches of n_seqs windows, whatever
   sequences mask_documents cuts them into; 0 with err() set if it failed. It is called with a
   measuring ctx. Of parts, n_seqs and T. */
size_t plan_peak(const struct plan_args *args,
                 void (*pass)(struct ctx *ctx, const struct batch *b, void *arg), void *arg);

/* Bytes outside the arena: weights, gradients, the optimizer's slabs and scratch, the weights'
   average (if `ema`) and their panels (where products are of bf16), rotary tables. */
struct plan_model {
    size_t weights, grads, states, average, panels, tables;
};
struct plan_model plan_model(const struct transformer_dims *dims, enum optimizer_kind optimizer,
                             bool ema, bool bf16);

/* Those of factors over a frozen model: weights are what it has beside its blocks, in f32 what they
   decode to as well; gradients and states the factors'. Names that the model does not have: all 0,
   with err() set. */
struct plan_model plan_lora(const struct transformer_dims *dims, enum optimizer_kind optimizer,
                            bool bf16, const struct lora_args *lora);

#endif
