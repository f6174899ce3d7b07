/* A program whose output is read through a pipe; no shell in between, no input. */
#ifndef ATTAR_DATASETS_CHILD_H
#define ATTAR_DATASETS_CHILD_H

#include <sys/types.h>

struct child {
    const char *name; /* argv[0], the caller's */
    pid_t pid;        /* 0: not running */
    int out;          /* read end of its standard output */
};

/* Starts argv[0], found in PATH; argv ends with NULL. -1 with err() set; a program that is not
   installed is said to be in Debian's `package`. */
int child_start(struct child *c, const char *const *argv, const char *package);

/* Waits for the program. -1 with err() set if it failed: its exit status, or the signal. */
int child_finish(struct child *c);

/* Ends the program, whatever it is at; err() stays as it is. Harmless on a zeroed or finished
   one. */
void child_abandon(struct child *c);

#endif
