/* The HDF5 side of enum h5type. All functions want h5io_lock(). */
#ifndef ATTAR_DATASETS_H5TYPE_H
#define ATTAR_DATASETS_H5TYPE_H

#include "datasets/h5file.h"
#include "datasets/h5io.h"

const char *h5type_name(enum h5type type);
size_t h5type_size(enum h5type type); /* bytes of a value, 1 for text */

/* HDF5's types; not to be closed. Not for text. */
hid_t h5type_disk(enum h5type type);
hid_t h5type_memory(enum h5type type);

/* A string type of n bytes (at least 1: HDF5 has no empty ones). The caller closes it. */
hid_t h5type_text(size_t n);

/* The number type of this HDF5 type: 0, or -1 for any other. */
int h5type_find(hid_t id, enum h5type *out);

/* Selects rows [row, row + rows) of the first dimension of a data space. 0 or -1. */
int h5type_select_rows(hid_t space, int64_t row, int64_t rows);

#endif
