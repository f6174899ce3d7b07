/* What follows from a stage's length: its learning rates, and what changes where it has grown. */
#ifndef ATTAR_EXPERIMENTS_TRAIN_LENGTH_H
#define ATTAR_EXPERIMENTS_TRAIN_LENGTH_H

#include "experiments/train.h"
#include "optim/schedule.h"

/* Of so many steps, that reaches this learning rate. */
struct schedule train_schedule(const struct train *t, int64_t steps, double lr);

/* Says what a stage that has become longer goes on as, on stderr and in the metrics. Its first
   steps are those of the longer one, if these would have been taken at the same rates, in blocks
   from the same step on, with the same refits; else only what follows is. 0, or -1 with err() set.
 */
int train_longer(struct train *t);

#endif
