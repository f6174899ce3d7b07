/* A file that only grows, by whole records: a write that fails leaves no part of one in it. What
   could not be written waits in memory, so that a full disk loses nothing. */
#ifndef ATTAR_AUTOGRAD_BASE_TAIL_H
#define ATTAR_AUTOGRAD_BASE_TAIL_H

#include <stdbool.h>
#include <stdint.h>

#include "autograd/base/buf.h"

enum { TAIL_WAIT_MAX = 16 << 20 }; /* bytes that may wait */

struct tail {
    int fd;       /* -1: closed */
    int64_t size; /* bytes of whole records in the file */
    char *path;
    struct buf wait; /* whole records that could not be written yet */
    bool torn;       /* the file may be longer than size */
};

/* Opens the file at its end; one that is missing is made. -1 with err() set. */
int tail_open(struct tail *t, const char *path);

/* Appends a record [n] with one write. A write that fails is a warning, the first time, and the
   record waits for the next write or tail_sync(). 0; -1 with err() set if memory is short or
   TAIL_WAIT_MAX bytes are waiting. */
int tail_add(struct tail *t, const void *record, size_t n);

/* Returns 0 when all records are on the disk. -1 with err() set. */
int tail_sync(struct tail *t);

/* The same, and closes. */
int tail_close(struct tail *t);

#endif
