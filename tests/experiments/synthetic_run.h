/* A run folder as training leaves it, for tests of the report. */
#ifndef ATTAR_TESTS_EXPERIMENTS_SYNTHETIC_RUN_H
#define ATTAR_TESTS_EXPERIMENTS_SYNTHETIC_RUN_H

/* Text that tries to break out of its element, its attribute, the page. */
extern const char synthetic_hostile[];

/* Writes three stages below `folder`: pretrain of `steps` steps, a qat that did not finish and has
   a torn log, and an evaluation. 0, or -1 with err() set. */
int synthetic_run_write(const char *folder, int steps);

/* Removes a folder and all that is in it. */
void synthetic_run_remove(const char *folder);

#endif
