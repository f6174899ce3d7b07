/* Optimizers against PyTorch's on given gradients: tests/golden/optim.h5 and blocks.h5. */
#ifndef ATTAR_TESTS_OPTIM_GOLDEN_OPTIM_H
#define ATTAR_TESTS_OPTIM_GOLDEN_OPTIM_H

#include "optim/ema.h"
#include "optim/optimizer.h"

/* Runs the steps of the file's group; the learning rate, step and weight decay of args are the
   file's, and args.adam_lr is multiplied with the learning rate. ema (or NULL): the group is about
   the average, which is swapped in after every step and out again. */
void golden_optim_run(const char *file, const char *group, const struct optimizer *o,
                      struct optimizer_args args, const struct ema_args *ema);

/* One number of the group's attributes. */
float golden_optim_number(const char *file, const char *group, const char *name);

/* A store with values and gradients: a matrix that is no block's (decays), a vector, two matrices
   of a block; the larger ones large enough that threads share them. */
void golden_optim_large(struct store *s);

/* Steps of a large store give the same bits for 1, 2 and 3 threads; the gradient's scale is a
   factor of the gradient; what lies between parameters stays zero. */
void golden_optim_general(const struct optimizer *o, const struct optimizer_args *args);

#endif
