/* Whole small files: logs, configs, reports. Large ones have readers and writers of their own. */
#ifndef ATTAR_AUTOGRAD_BASE_FILE_H
#define ATTAR_AUTOGRAD_BASE_FILE_H

#include <stddef.h>

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

/* Maps a file's bytes for reading; -1 with err() set (path and reason): it cannot be read, is no
   file, or is empty. They are the file's: one that is cut off meanwhile ends the process. */
int file_map(const char *path, const void **bytes, size_t *n);
void file_unmap(const void *bytes, size_t n);

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
