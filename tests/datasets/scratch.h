/* A temporary folder for each test: the setup makes *state, the teardown removes all of it. */
#ifndef ATTAR_TESTS_DATASETS_SCRATCH_H
#define ATTAR_TESTS_DATASETS_SCRATCH_H

#include <stddef.h>

int scratch_setup(void **state);
int scratch_teardown(void **state);

/* "<folder>/<name>"; lives until the teardown. */
const char *scratch_path(void *state, const char *name);

const char *scratch_folder(void *state);

/* Entries of the folder. */
int scratch_count(void *state);

/* The file's bytes, to be freed; fails the test if it cannot be read. */
char *scratch_read(const char *path, size_t *n);
void scratch_write(const char *path, const void *bytes, size_t n);
void scratch_text(const char *path, const char *text);

/* The folder that ATTAR_DATA names (default ../shared/data) with `name`, as an
   absolute path to be freed; NULL, with a
   visible note, where that file is absent. */
char *scratch_data(const char *name);

#endif
