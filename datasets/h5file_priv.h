/* What h5file.c, h5file_write.c, h5file_read.c and h5file_attr.c share. */
#ifndef ATTAR_DATASETS_H5FILE_PRIV_H
#define ATTAR_DATASETS_H5FILE_PRIV_H

#include "autograd/base/aside.h"
#include "datasets/h5file.h"
#include "datasets/h5io.h"
#include "datasets/h5seal.h"

struct h5file {
    char *path;
    hid_t id;
    struct h5io io;
    char hash[H5SEAL_HEX]; /* of a file opened for reading */
    struct aside aside;    /* of a file that is being created */
};

/* The first failed write or read, or "cannot <verb> `name`" with HDF5's reason. Returns -1. */
int h5file_fail(const struct h5file *f, const char *verb, const char *name);

/* h5io_unlock(); returns r, or -1 with err() set if any byte could not be read or written so far.
 */
int h5file_end(const struct h5file *f, int r, const char *verb, const char *name);

/* All below want h5io_lock(). */
int h5file_exists(const struct h5file *f, const char *name); /* as h5file_has() */

/* An open dataset and its shape, or -1 with err() set. */
hid_t h5file_dataset(struct h5file *f, const char *name, struct h5shape *shape);

/* Creates what is missing of the groups on the way to `name`, and `name` itself if it is one; no
   time stamps, so that equal content gives equal files. Below 0: failed. */
herr_t h5file_make_groups(struct h5file *f, const char *name, bool is_group);

#endif
