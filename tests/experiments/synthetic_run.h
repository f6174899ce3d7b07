/* A run folder as training leaves it, for tests of the report. */
#ifndef ATTAR_TESTS_EXPERIMENTS_SYNTHETIC_RUN_H
#define ATTAR_TESTS_EXPERIMENTS_SYNTHETIC_RUN_H

/* Text that tries to break out of its element, its attribute, the page. */
extern const char synthetic_hostile[];

/* Writes three stages below `folder`: pretrain of `steps` steps, a qat that did not finish and has
   a torn log, and an evaluation. 0, or -1 with err() set. */
int synthetic_run_write(const char *folder, int steps);

/* Setup and teardown of a test: an empty run folder, synthetic_run, with an awkward name below
   synthetic_folder, which is removed again. */
extern char synthetic_folder[64], synthetic_run[128];
int synthetic_run_setup(void **state);
int synthetic_run_teardown(void **state);

/* Writes a file, makes a folder in synthetic_run; fails the test if it cannot. */
void synthetic_run_put(const char *name, const char *text);
void synthetic_run_make(const char *name);

/* Removes a folder and all that is in it. */
void synthetic_run_remove(const char *folder);

#endif
