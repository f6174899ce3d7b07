/*
 * What a run looks at between its steps: the loss on the validation part, and sample texts. Both
 * are of the model that the stage will hand on: of the averaged weights, if it averages them; the
 * weights that are trained are in place again afterwards, to the bit.
 */
#ifndef ATTAR_EXPERIMENTS_EXAM_H
#define ATTAR_EXPERIMENTS_EXAM_H

#include "experiments/train.h"

/* Measures, and notes it in the metrics and in t->state; with averaged weights also the loss of the
   trained ones. 0, at once if there is no validation part; 1: interrupted, nothing is noted; -1
   with err() set. */
int exam_validate(struct train *t);

/* Writes a sample, and notes it in the metrics. 0; 1: interrupted; -1 with err() set. */
int exam_sample(struct train *t);

#endif
