/*
 * How HDF5 reaches a file here: a file driver of our own over one open descriptor.
 *
 * HDF5 does not survive a failed write (it may crash when the file is closed, or at exit), so it
 * never learns of one: the driver remembers the first error and swallows all writes after it. The
 * caller looks at h5io.error before it trusts anything, and throws the file away.
 * A failed read fails in HDF5 too, which then may say of what it did not see that it is not there:
 * with h5io.unread set, nothing that HDF5 says of the file counts.
 * Reading goes through the very descriptor whose bytes were verified.
 */
#ifndef ATTAR_DATASETS_H5IO_H
#define ATTAR_DATASETS_H5IO_H

#include <hdf5.h>
#include <stdbool.h>
#include <stdint.h>

enum { H5IO_USER_BLOCK = 512 }; /* bytes before HDF5's own data */

struct h5io {
    int fd;        /* the caller's, open for as long as HDF5 has the file */
    bool writable; /* a new, empty file */
    int64_t size;  /* bytes of the file as HDF5 sees it */
    int error;     /* errno of the first failed write, or 0 */
    int unread;    /* errno of the first failed read, or 0 */
};

/* To be held around every HDF5 call and h5io_* function below: HDF5 is not thread-safe in every
   build. Prepares the library at first use and silences its messages for this thread. */
void h5io_lock(void);
void h5io_unlock(void);

/* The HDF5 file in io->fd (created if io->writable; `io` outlives it), or -1 with err() set. */
hid_t h5io_open(struct h5io *io);

/* HDF5's own innermost reason for the last failed call of this thread; "" if it has none. */
const char *h5io_reason(void);

#endif
