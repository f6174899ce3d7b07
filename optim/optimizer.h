/* Optimizers: loops over a store's slabs. One row of a table each. */
#ifndef ATTAR_OPTIM_OPTIMIZER_H
#define ATTAR_OPTIM_OPTIMIZER_H

#include "autograd/cost.h"

struct optimizer_args {
    int64_t step;       /* 1 for the first */
    float lr;           /* of this step */
    float grad_scale;   /* the gradient counts this much: 1 / tokens, times the clipping factor */
    float weight_decay; /* of parameters that decay: decoupled in AdamW, in SGD part of g */
    float beta1, beta2, eps;
    float momentum;
    bool nesterov;
    float adam_lr;  /* muon: of the parameters that AdamW takes */
    int muon_scale; /* muon: enum muon_scale */
};

/* What Muon's learning rate is multiplied with, for a matrix of rows x cols: 0.2 sqrt(max(rows,
   cols)), which moves it as far as AdamW would (Liu et al. 2025, eq. 4), so that the rates and
   decays of AdamW serve; or sqrt(max(1, rows / cols)), the first version's. */
enum muon_scale { MUON_MATCH_RMS, MUON_ORIGINAL };

struct optimizer {
    const char *name;
    /* One step: latent from grad and the optimizer's own slabs. Any number of threads gives the
       same bits. 0, or -1 with err() set (memory for the slabs, at the first step). */
    int (*step)(struct store *s, const struct optimizer_args *a);
    int n_states; /* slabs it keeps: for `attar check` */
    /* Floats of scratch it keeps for this store, beside its slabs; NULL: none. */
    size_t (*scratch)(const struct store *s);
    /* Adds what a step takes beyond a pass over weights, gradients and slabs; NULL: nothing. */
    void (*cost)(const struct store *s, struct cost *cost);
};

/* Ordered as in the config's enum. */
extern const struct optimizer optimizers[];
enum optimizer_kind { OPTIMIZER_ADAMW, OPTIMIZER_SGD, OPTIMIZER_MUON, OPTIMIZER_LION, OPTIMIZERS };

/* Loshchilov, Hutter, "Decoupled Weight Decay Regularization", 2019, algorithm 2. */
int adamw_step(struct store *s, const struct optimizer_args *a);

/* g += weight_decay p; b = momentum b + g; p -= lr (nesterov ? g + momentum b : b): Sutskever et
   al. 2013, in PyTorch's form, with the learning rate outside the buffer. */
int sgd_step(struct store *s, const struct optimizer_args *a);

/* Chen et al., "Symbolic Discovery of Optimization Algorithms", 2023, algorithm 2. */
int lion_step(struct store *s, const struct optimizer_args *a);

/* Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024, as in PyTorch's
   torch.optim.Muon, in f32: the matrices of the blocks move along their momentum with all singular
   values near 1. AdamW takes the others. */
int muon_step(struct store *s, const struct optimizer_args *a);
size_t muon_scratch(const struct store *s);
void muon_cost(const struct store *s, struct cost *cost); /* all products as the largest ones */

/* Is the parameter one of Muon's? The matrices of the blocks are: two dimensions and a name that
   starts with "blk.". Embeddings, the head, gains and biases are not. */
bool optimizer_is_muons(const struct param *p);

/* One parameter's part of adamw_step(), at this learning rate; its moments are in the slabs m, v.
   Called by a whole team of threads, which do not wait for one another at the end. */
void adamw_param(struct store *s, const struct param *p, const struct optimizer_args *a, float lr,
                 float *m, float *v);

/* Euclidean norm of x [n], in f64 and in an order that only n decides. */
double optimizer_norm(int64_t n, const float *x);

/* Euclidean norm of the whole gradient slab; NaN or infinite if an element is. */
double grad_norm(const struct store *s);

#endif
