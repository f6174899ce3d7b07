/* Two runs of a config that must have gone the same way, to the bit. */
#ifndef ATTAR_TESTS_EXPERIMENTS_SAME_RUN_H
#define ATTAR_TESTS_EXPERIMENTS_SAME_RUN_H

#include "experiments/checkpoint.h"

/* Fails the test unless the stage folders' checkpoint.h5 have the same weights, optimizer states
   and members of checkpoint_state (seconds apart), and their metrics.jsonl the same lines (events
   and what depends on the clock apart). */
void same_run(const char *a, const char *b);

/* The largest difference of a weight between two checkpoints. */
double same_run_distance(const char *a, const char *b);

/* State of the stage folder's checkpoint.h5. */
struct checkpoint_state same_run_state(const char *folder);

/* A text of `documents` paragraphs of pseudo-random words, the same for the same seed. */
void same_run_text(const char *path, int documents, unsigned seed);

#endif
