/* Whole small files: logs, configs, reports. Large ones have readers and writers of their own. */
#ifndef ATTAR_AUTOGRAD_BASE_FILE_H
#define ATTAR_AUTOGRAD_BASE_FILE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "autograd/base/buf.h"

/* Appends the file's bytes to b. -1 with err() set (path and reason) if it cannot be read or has
   more than max bytes; b may then hold a part. */
int file_read(const char *path, size_t max, struct buf *b);

/* The same for a file that a command was given: - is standard input. A file of that name is ./- */
int file_read_argument(const char *path, size_t max, struct buf *b);

/* A descriptor for reading such a file, to be closed; -1 with err() set. */
int file_open_argument(const char *path);

/* What to call it in messages. */
const char *file_argument_name(const char *path);

/* 1: there is something at `path`; 0: there is nothing; -1 with err() set (path and reason): that
   cannot be known. */
int file_exists(const char *path);

/* Appends the names in a folder to `names`, each with its NUL, in no order. 1; 0: there is no such
   folder; -1 with err() set: it cannot be read to its end. */
int file_list(const char *folder, struct buf *names);

/* Writes all n bytes at byte `at`, or, below 0, where the descriptor stands; goes on after signals
   and partial writes. 0, or -1 with errno set: ENOSPC where nothing more is taken. */
int file_write(int fd, const void *bytes, size_t n, int64_t at);

/* Reads n bytes, likewise. Their number, less than n only at the end of the file; -1 with errno. */
ssize_t file_fill(int fd, void *bytes, size_t n, int64_t at);

/* Maps a file's bytes for reading; -1 with err() set (path and reason): it cannot be read, is no
   file, or is empty. They are the file's: if it is cut off meanwhile, file_catch_cut() decides. */
int file_map(const char *path, const void **bytes, size_t *n);
void file_unmap(const void *bytes, size_t n);

/* From now on reading past the end of a mapped file that became shorter (SIGBUS) says its name,
   removes unfinished files (aside_remove_all()) and ends the process with 1; any other SIGBUS ends
   it as before. */
void file_catch_cut(void);

/* Asks for large pages, which are read faster, for n mapped bytes: where the file system has them,
   and memory does not yet hold the file in small ones. */
void file_enlarge(const void *bytes, size_t n);

/* Lets go of what memory holds of n mapped bytes: they are read again when they are wanted. */
void file_forget(const void *bytes, size_t n);

/* Makes `path` hold exactly these bytes, or leaves it as it was: written aside to `<path>.part`,
   synced, renamed, the directory synced. -1 with err() set (path and reason). */
int file_replace(const char *path, const void *bytes, size_t n);

/* Can a file of that name be made: it is no folder, and its folder is there? 0, or -1 with err()
   set. To be asked before the work whose result it will hold. */
int file_check_out(const char *path);

/* Makes a rename or a creation in the directory of `path` survive a power cut. 0 or -1. */
int file_sync_folder(const char *path);

#endif
