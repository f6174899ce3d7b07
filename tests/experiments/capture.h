/* Runs a command of attar inside the test and keeps what it prints. */
#ifndef ATTAR_TESTS_EXPERIMENTS_CAPTURE_H
#define ATTAR_TESTS_EXPERIMENTS_CAPTURE_H

#include "autograd/base/buf.h"

/* What `run` returns for the arguments argv (ended by NULL); stdout and stderr are put in place of
   what out and notes held. */
int capture_run(int (*run)(int argc, char **argv), const char *const *argv, struct buf *out,
                struct buf *notes);

/* capture_run() with the file as standard input. */
int capture_run_from(const char *path, int (*run)(int argc, char **argv), const char *const *argv,
                     struct buf *out, struct buf *notes);

#endif
