/*
 * What of a run may still be changed. What has begun, by a step that was saved or a summary, keeps
 * its config; stages that have not begun take any other. And a stage may become longer (tokens,
 * steps, epochs): it goes on from its last checkpoint, and the stages behind it run again, whose
 * folders move aside.
 */
#ifndef ATTAR_EXPERIMENTS_RUN_CHANGE_H
#define ATTAR_EXPERIMENTS_RUN_CHANGE_H

#include "experiments/run.h"

/* Holds the run's config against the one in its folder, which it replaces where it may, and says on
   stderr what differs. The run is locked. 0, or -1 with err() set to the differences. */
int run_change(const struct run *r);

/* Does the config `yaml` of a checkpoint of that stage, found in `path`, agree with the run's as
   far as the stage goes? *was: its length there, if that was shorter, else 0. 0 or -1 with err()
   set. */
int run_change_agrees(const struct run *r, int stage, const char *path, const struct buf *yaml,
                      struct config_train *was);

#endif
