/*
 * Quantization-aware training on exact blocks. A matrix of the store gets blocks of a GGUF format;
 * what forward reads is what they decode to, bit for bit, and what is exported is they themselves.
 *
 *   fit       once: scales that fit the latents; then they are kept, or learned (qat_scales.c)
 *   project   every step: latents are rounded into the kept blocks, and these decoded into `used`,
 *             or, while they are in the cache, into panels alone: `used` is the blocks then
 *   pullback  straight-through: the gradient of used is the latent's. Clipped: it is 0 where the
 *             latent lies outside of what its sub-block's grid spans
 *
 * Bengio, Leonard, Courville, "Estimating or propagating gradients through stochastic neurons",
 * 2013; clipped: Hubara et al., "Quantized neural networks", 2016, eq. 6.
 */
#ifndef ATTAR_COMPRESS_QAT_H
#define ATTAR_COMPRESS_QAT_H

#include "autograd/autograd.h"

struct grid;

struct qat_options {
    bool clipped; /* else plain */
    bool learned; /* scales have gradients of their own, else they are frozen */
    bool super;   /* those are d and dmin of blocks, and the codes of sub-blocks stay */
    bool acts;    /* what is multiplied with the blocks is rounded as in inference, too */
    bool shapes;  /* memory is not wanted, only how much: the params are of a store of shapes */
    bool packed;  /* all products are of panels: what the blocks decode to is not kept in f32 */
};

/* A matrix in blocks. */
struct qat_weight {
    struct param *p;
    struct tensor blocks;    /* [rows,cols], owned: what forward used */
    const struct grid *grid; /* NULL: a type without scales, such as f16 */
    int s, m;                /* params of of->scales: steps and mins, or d and dmin; -1: none */
    bool given;              /* the blocks are there already: qat_keep() instead of qat_fit() */
    struct qat *of;
};

enum qat_fault { QAT_SOUND, QAT_NOT_FINITE, QAT_COLLAPSED };

struct qat {
    struct qat_options options;
    struct qat_weight *weight; /* [n], in the order they were added */
    int n;
    size_t cap;
    bool attached; /* forward reads the blocks */
    /* Learned scales: what the optimizer moves them by, latents that are 0 between steps; and their
       values, a slab like scales.latent. Empty where scales are frozen. */
    struct store scales;
    float *value;
    /* the first thing that went wrong since the fit, by weight and row */
    enum qat_fault fault;
    int fault_weight;
    int64_t fault_row;
};

/* The options stay as they are from then on. */
void qat_init(struct qat *q, const struct qat_options *options);

/* Before or after the params' store; nothing is used any more after either. */
void qat_free(struct qat *q);

/* Gives the matrix p blocks of dt, which are empty. Not attached yet. 0, or -1 with err() set. */
int qat_add(struct qat *q, struct param *p, const struct dtype *dt);

/* After the last qat_add(): memory for learned scales. 0, or -1 with err() set. */
int qat_ready(struct qat *q);

/* Fits the scales of weight i to its latents. importance [cols] of columns: what encoders weigh
   errors with, or NULL. 0, or -1 with err() set: a latent is not finite, or weights are too small
   or too large for the type's scales. */
int qat_fit(struct qat *q, int i, const float *importance);

/* Takes the blocks of weight i as they are, scales and codes. 0, or -1 with err() set: a scale is
   not finite. */
int qat_keep(struct qat *q, int i);

/* Frozen scales of weight i follow its latents, where that gains more than it moves (qat_refit.c);
   importance as in qat_fit(). To be followed by store_project(). The sub-blocks whose scale or min
   has changed, and how many there are. */
int64_t qat_refit(struct qat *q, int i, const float *importance);
int64_t qat_subs(const struct qat *q, int i);

/* What inputs of linears are rounded to in inference, where the weight is of this type; NULL: they
   are not. */
const struct dtype *qat_input(const struct dtype *weight);

/* From the next store_project() on, forward reads the blocks. All weights have their scales by now.
   0, or -1 with err() set. */
int qat_attach(struct qat *q);

/* After store_project(): 0; -1 with err() set to the tensor and row that went wrong. */
int qat_check(const struct qat *q);

/* What training in blocks takes beside a plain training: blocks; what they decode to, where it is
   kept in f32; learned scales with gradients and so many slabs of the optimizer's. */
struct qat_bytes {
    size_t blocks, values, scales;
};
struct qat_bytes qat_bytes(const struct qat *q, int n_states);

/* Bytes of memory that it holds by now; what blocks decode to is the params'. */
size_t qat_held(const struct qat *q);

/* NULL: the parameter has no blocks. */
struct qat_weight *qat_find(const struct qat *q, const char *name);

#endif
