/* Optimizers: loops over a store's slabs. One row of a table each. */
#ifndef ATTAR_OPTIM_OPTIMIZER_H
#define ATTAR_OPTIM_OPTIMIZER_H

#include "autograd/autograd.h"

struct optimizer_args {
    int64_t step;       /* 1 for the first */
    float lr;           /* of this step */
    float grad_scale;   /* the gradient counts this much: 1 / tokens, times the clipping factor */
    float weight_decay; /* of parameters that decay: decoupled in AdamW, in SGD part of g */
    float beta1, beta2, eps;
    float momentum;
    bool nesterov;
};

struct optimizer {
    const char *name;
    /* One step: latent from grad and the optimizer's own slabs. Any number of threads gives the
       same bits. 0, or -1 with err() set (memory for the slabs, at the first step). */
    int (*step)(struct store *s, const struct optimizer_args *a);
    int n_states; /* slabs it keeps: for `attar check` */
};

/* Ordered as in the config's enum. */
extern const struct optimizer optimizers[];
enum optimizer_kind { OPTIMIZER_ADAMW, OPTIMIZER_SGD, OPTIMIZERS };

/* Loshchilov, Hutter, "Decoupled Weight Decay Regularization", 2019, algorithm 2. */
int adamw_step(struct store *s, const struct optimizer_args *a);

/* g += weight_decay p; b = momentum b + g; p -= lr (nesterov ? g + momentum b : b): Sutskever et
   al. 2013, in PyTorch's form, with the learning rate outside the buffer. */
int sgd_step(struct store *s, const struct optimizer_args *a);

/* Euclidean norm of the whole gradient slab; NaN or infinite if an element is. */
double grad_norm(const struct store *s);

#endif
