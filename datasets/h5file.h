/*
 * An HDF5 file that is whole or not there. A user block comes first, any HDF5 tool skips it:
 *
 *     bytes 0..7    "ATTAR-H5"
 *           8..11   u32 version of this container, 1
 *          12..15   u32 bytes of the user block, 512
 *          16..23   u64 bytes that follow the user block
 *          24..39   XXH3-128 of them, big-endian (XXH128_canonicalFromHash)
 *          40..511  zero
 *
 * It is verified, with every byte of the file, before HDF5 sees anything: HDF5 does not stand
 * malformed input. The hash finds accidents, not attacks: open files you trust.
 * A file is created under a name aside, hashed, synced, re-opened and renamed by h5file_commit();
 * a kill or a full disk at any moment leaves the final name as it was. (A process that must live
 * through RLIMIT_FSIZE ignores SIGXFSZ.)
 *
 * Names are paths ("train/tokens"); groups arise by themselves. Values are little-endian on disk,
 * native in memory. All functions may be called from any thread. Failure is -1 with err() set,
 * the file's path in front: err_damaged() where a seal is broken or what should be in the file is
 * not, err() where it could not be read.
 */
#ifndef ATTAR_DATASETS_H5FILE_H
#define ATTAR_DATASETS_H5FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "autograd/base/buf.h"

enum h5type { H5_U8, H5_U16, H5_I32, H5_I64, H5_F32, H5_F64, H5_TEXT };

enum { H5_DIMS = 8 };

struct h5shape {
    enum h5type type;
    int ndim;
    int64_t dim[H5_DIMS];
    int64_t n; /* elements in all (bytes for text): no more than the file has bytes */
};

struct h5file;

/* A new file that will be `path`; its folder exists. */
int h5file_create(struct h5file **out, const char *path);

/* Finishes a created file, gives it its name and frees f in any case. On failure the file is gone
   and what `path` was before is untouched. */
int h5file_commit(struct h5file *f);

/* Removes an unfinished file and frees f. NULL is fine. */
void h5file_abandon(struct h5file *f);

/* Verifies, then opens for reading. Reads the whole file once. */
int h5file_open(struct h5file **out, const char *path);
void h5file_close(struct h5file *f); /* NULL is fine */

const char *h5file_path(const struct h5file *f);
int64_t h5file_size(const struct h5file *f);     /* bytes, of one opened for reading */
const char *h5file_hash(const struct h5file *f); /* its XXH3-128 as 32 hex digits, likewise */

/* Writes a dataset: data has dim[0] * ... * dim[ndim-1] values of `type`, row-major. */
int h5file_write(struct h5file *f, const char *name, enum h5type type, int ndim, const int64_t *dim,
                 const void *data);
int h5file_write_text(struct h5file *f, const char *name, const char *s, size_t n);

/* Adds n values to the end of a one-dimensional dataset, which the first call creates (n = 0
   creates an empty one). */
int h5file_append(struct h5file *f, const char *name, enum h5type type, const void *data, size_t n);

/* 1: it has a dataset or group of that name; 0: it has not; -1 with err() set: that cannot be
   known, as it cannot be read. */
int h5file_has(struct h5file *f, const char *name);

/* Names in a group, 0 if there is no such group; -1 with err() set. */
int64_t h5file_count(struct h5file *f, const char *group);

int h5file_shape(struct h5file *f, const char *name, struct h5shape *out);

/* Reads a whole dataset of exactly this type and these dimensions. */
int h5file_read(struct h5file *f, const char *name, enum h5type type, int ndim, const int64_t *dim,
                void *data);

/* Reads `rows` entries of the first dimension from `row` on. */
int h5file_read_rows(struct h5file *f, const char *name, enum h5type type, int64_t row,
                     int64_t rows, void *data);

/* Appends the text to b. */
int h5file_read_text(struct h5file *f, const char *name, struct buf *b);

/* Attributes of the group `at` ("/" is the file itself), which set creates if need be. A text of
   more than 60,000 bytes is an error: make it a dataset. get_text appends to b. */
int h5file_set_int(struct h5file *f, const char *at, const char *name, int64_t value);
int h5file_set_double(struct h5file *f, const char *at, const char *name, double value);
int h5file_set_text(struct h5file *f, const char *at, const char *name, const char *s);
int h5file_get_int(struct h5file *f, const char *at, const char *name, int64_t *value);
int h5file_get_double(struct h5file *f, const char *at, const char *name, double *value);
int h5file_get_text(struct h5file *f, const char *at, const char *name, struct buf *b);

#endif
