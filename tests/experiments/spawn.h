/* The attar of this build as a child process: what only a whole program shows, signals and exit
   statuses. */
#ifndef ATTAR_TESTS_EXPERIMENTS_SPAWN_H
#define ATTAR_TESTS_EXPERIMENTS_SPAWN_H

#include <sys/types.h>

/* Starts `attar a b ...` in the folder; arguments end with NULL. What it prints goes to a file
   there, in place of what an earlier one printed. */
pid_t spawn_start(const char *folder, const char *const *args);

/* The most bytes that files of the next children may have; 0: as many as they like. */
void spawn_limit(long file_bytes);

/* Exit status, or 128 + the signal that ended it. After 120 s it is killed, and the test fails. */
int spawn_wait(pid_t pid);

/* Both; `args` in one string, separated by single spaces. */
int spawn_run(const char *folder, const char *args);

/* What the last child in the folder printed, to be freed. */
char *spawn_output(const char *folder);

/* Fails the test, showing the output, unless it contains the text. */
void spawn_says(const char *folder, const char *text);

/* spawn_run() that fails the test unless the exit status is this one. */
void spawn_expect(const char *folder, int status, const char *args);

/* Waits until the file contains the text: 1, or 0 if the child has ended by then. */
int spawn_await(pid_t pid, const char *path, const char *text);

#endif
