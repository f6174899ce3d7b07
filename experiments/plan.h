/* What a training step needs before it runs: memory to the byte and costs, by the code that runs
   it, with a measuring ctx. */
#ifndef ATTAR_EXPERIMENTS_PLAN_H
#define ATTAR_EXPERIMENTS_PLAN_H

#include "compress/recipe.h"
#include "experiments/config.h"
#include "layers/transformer.h"
#include "optim/optimizer.h"

struct plan_args {
    int64_t n_seqs, T; /* sequences that go through the model at once */
    int64_t parts;     /* most attention sequences in one of them: 1, or T with mask_documents */
    bool recompute;
    bool bf16;                              /* activations, and products */
    const struct lora_args *lora;           /* factors over frozen weights; NULL: all are trained */
    const struct transformer_dims *teacher; /* whose logits are learned; NULL: none */
    /* whose blocks round the inputs of linears; NULL: none. `weighed`: with importance */
    const struct recipe *rounds;
    bool weighed;
    struct profile *profile; /* NULL, or where the costs of the pass are added */
};

/* An optimizer step, and what is kept from one to the next. */
struct plan_step {
    const struct transformer_dims *dims;
    struct plan_args pass; /* of a micro-batch */
    int64_t batch;         /* sequences of a step; a multiple of pass.n_seqs */
    enum optimizer_kind optimizer;
    bool ema;                     /* the weights are averaged */
    const struct config_qat *qat; /* weights are in blocks, or under factors; NULL: they are not */
    const char *folder;           /* that paths in `qat` start from */
};

/* Only scales of blocks are moved: weights have gradients, but no optimizer's states. */
bool plan_scales_only(const struct plan_step *s);

/* Arena bytes of a training micro-batch (forward, loss, backward) and of an evaluation of the same
   size; 0 with err() set if that failed. */
size_t plan_train(const struct transformer_dims *dims, const struct plan_args *args);
size_t plan_eval(const struct transformer_dims *dims, const struct plan_args *args);

/* Arena bytes that serve `pass`, which does not record, for batches of n_seqs windows, whatever
   sequences mask_documents cuts them into; 0 with err() set if it failed. It is called with a
   measuring ctx. Of parts, n_seqs and T. */
size_t plan_peak(const struct plan_args *args,
                 void (*pass)(struct ctx *ctx, const struct batch *b, void *arg), void *arg);

/* Bytes outside the arena. */
struct plan_memory {
    size_t weights;    /* in f32; under factors in bf16: those that are in no blocks */
    size_t factors;    /* their values */
    size_t grads;      /* of what is trained */
    size_t states;     /* the optimizer's slabs and scratch */
    size_t average;    /* of the weights */
    size_t panels;     /* weights in bf16 */
    size_t tables;     /* of rotary positions */
    size_t blocks;     /* of the weights */
    size_t values;     /* what they decode to, where that is kept */
    size_t scales;     /* learned ones: values, gradients, the optimizer's slabs */
    size_t teacher;    /* all of its own */
    size_t sum;        /* of these */
    size_t checkpoint; /* not of memory: a checkpoint's weights, states and blocks */
};

/* 0, or -1 with err() set: the parts do not fit one another, a file cannot be read. */
int plan_memory(const struct plan_step *s, struct plan_memory *m);

#endif
