/* The names of all datasets of a file, for tests: the program itself asks for names that it knows.
 */
#ifndef ATTAR_TESTS_DATASETS_H5NAMES_H
#define ATTAR_TESTS_DATASETS_H5NAMES_H

#include "datasets/h5file.h"

/* Calls fn for every dataset, sorted by name, until it returns non-zero, which is then returned; -1
   with err() set if the file cannot be listed. */
int h5names_each(struct h5file *f, int (*fn)(void *arg, const char *name), void *arg);

#endif
