/* Not-a-number and explosions end a run at once, before they reach the weights. */
#ifndef ATTAR_EXPERIMENTS_TRAIN_HEALTH_H
#define ATTAR_EXPERIMENTS_TRAIN_HEALTH_H

#include "experiments/train.h"

/* The step that is about to be taken: its loss, the norm of its gradient, and what the smoothed
   loss would become. 0; -1 with err() set: what is wrong, and the step and file to return to; the
   metrics have it, too. */
int train_look_healthy(struct train *t, double loss, double norm, double smooth);

#endif
