/* Optimizers against PyTorch's on given gradients: tests/golden/optim.h5. */
#ifndef ATTAR_TESTS_OPTIM_GOLDEN_OPTIM_H
#define ATTAR_TESTS_OPTIM_GOLDEN_OPTIM_H

#include "optim/optimizer.h"

/* Runs the group's steps; the learning rate, step and weight decay of args are the file's. */
void golden_optim_run(const char *group, const struct optimizer *o, struct optimizer_args args);

/* One number of the group's attributes. */
float golden_optim_number(const char *group, const char *name);

/* A store of one large matrix (decays) and one vector, with values and gradients; large enough that
   threads share it. */
void golden_optim_large(struct store *s);

/* Steps of a large store give the same bits for 1, 2 and 3 threads; the gradient's scale is a
   factor of the gradient; what lies between parameters stays zero. */
void golden_optim_general(const struct optimizer *o, const struct optimizer_args *args);

#endif
