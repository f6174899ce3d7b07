#include <stdlib.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/mem.h"
#include "datasets/h5file_priv.h"
#include "datasets/h5type.h"

/* The shape of an open dataset, bounded by the file's size. */
static int shape_of(const struct h5file *f, const char *name, hid_t d, struct h5shape *s)
{
    hsize_t dim[H5S_MAX_RANK];
    const hid_t type = H5Dget_type(d), space = H5Dget_space(d);
    const bool text = H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0;
    const int ndim = H5Sget_simple_extent_dims(space, dim, NULL);
    bool ok = ndim >= 0 && ndim <= H5_DIMS && H5Sget_simple_extent_type(space) != H5S_NULL;
    *s = (struct h5shape){.type = H5_TEXT, .ndim = ndim, .n = 1};
    if (text)
        s->n = (int64_t)H5Tget_size(type);
    ok = ok && (text ? ndim == 0 : !h5type_find(type, &s->type));
    const bool read = type >= 0 && space >= 0 && ndim >= 0 && !f->io.unread;
    H5Tclose(type);
    H5Sclose(space);
    if (!read)
        return h5file_fail(f, "read", name);
    if (!ok)
        return err_damaged("%s: `%s` has a type or shape that attar does not write", f->path, name);
    int64_t bytes;
    for (int i = 0; i < ndim; i++) {
        s->dim[i] = (int64_t)dim[i];
        if (dim[i] > INT64_MAX || __builtin_mul_overflow(s->n, s->dim[i], &s->n))
            return err_damaged("%s: `%s` is larger than any file", f->path, name);
    }
    if (__builtin_mul_overflow(s->n, (int64_t)h5type_size(s->type), &bytes) ||
        (!f->io.writable && bytes > f->io.size))
        return err_damaged("%s: `%s` claims more data than the file has", f->path, name);
    return 0;
}

hid_t h5file_dataset(struct h5file *f, const char *name, struct h5shape *s)
{
    const int there = h5file_exists(f, name);
    if (!there)
        err_damaged("%s: has no `%s`", f->path, name);
    if (there <= 0)
        return H5I_INVALID_HID;
    const hid_t d = H5Dopen2(f->id, name, H5P_DEFAULT);
    if (d < 0)
        h5file_fail(f, "read", name);
    else if (!shape_of(f, name, d, s))
        return d;
    H5Dclose(d);
    return H5I_INVALID_HID;
}

int h5file_shape(struct h5file *f, const char *name, struct h5shape *out)
{
    h5io_lock();
    const hid_t d = h5file_dataset(f, name, out);
    H5Dclose(d);
    return h5file_end(f, d < 0 ? -1 : 0, "read", name);
}

static void print_shape(struct buf *b, enum h5type type, int ndim, const int64_t *dim)
{
    buf_printf(b, "%s[", h5type_name(type));
    for (int i = 0; i < ndim; i++)
        buf_printf(b, "%s%lld", i ? "," : "", (long long)dim[i]);
    buf_text(b, "]");
}

static int check_shape(const struct h5file *f, const char *name, const struct h5shape *s,
                       enum h5type type, int ndim, const int64_t *dim)
{
    struct buf have = {0}, want = {0};
    if (s->type == type && s->ndim == ndim && !memcmp(s->dim, dim, (size_t)ndim * sizeof *dim))
        return 0;
    print_shape(&have, s->type, s->ndim, s->dim);
    print_shape(&want, type, ndim, dim);
    if (!have.failed && !want.failed)
        err_damaged("%s: `%s` is %s, expected %s", f->path, name, have.p, want.p);
    buf_free(&have);
    buf_free(&want);
    return -1;
}

int h5file_read(struct h5file *f, const char *name, enum h5type type, int ndim, const int64_t *dim,
                void *data)
{
    struct h5shape s;
    if (type >= H5_TEXT)
        BUG("h5file_read: `%s` as text", name);
    h5io_lock();
    const hid_t d = h5file_dataset(f, name, &s);
    int r = d < 0 ? -1 : check_shape(f, name, &s, type, ndim, dim);
    if (!r && s.n && H5Dread(d, h5type_memory(type), H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0)
        r = h5file_fail(f, "read", name);
    H5Dclose(d);
    return h5file_end(f, r, "read", name);
}

static int read_rows(hid_t d, const struct h5shape *s, int64_t row, int64_t rows, void *data)
{
    const hsize_t n = (hsize_t)(s->n / s->dim[0] * rows);
    const hid_t memory = H5Screate_simple(1, &n, NULL), space = H5Dget_space(d);
    herr_t r = h5type_select_rows(space, row, rows);
    if (r >= 0)
        r = H5Dread(d, h5type_memory(s->type), memory, space, H5P_DEFAULT, data);
    H5Sclose(memory);
    H5Sclose(space);
    return r < 0 ? -1 : 0;
}

int h5file_read_rows(struct h5file *f, const char *name, enum h5type type, int64_t row,
                     int64_t rows, void *data)
{
    struct h5shape s;
    h5io_lock();
    const hid_t d = h5file_dataset(f, name, &s);
    int r = d < 0 ? -1 : 0;
    if (!r && (s.type != type || !s.ndim || type == H5_TEXT))
        r = err_damaged("%s: `%s` is %s with %d dimensions, expected rows of %s", f->path, name,
                        h5type_name(s.type), s.ndim, h5type_name(type));
    else if (!r && (row < 0 || rows < 0 || row > s.dim[0] || rows > s.dim[0] - row))
        r = err("%s: `%s` has %lld rows; %lld from row %lld on were asked for", f->path, name,
                (long long)s.dim[0], (long long)rows, (long long)row);
    else if (!r && s.n && rows && read_rows(d, &s, row, rows, data))
        r = h5file_fail(f, "read", name);
    H5Dclose(d);
    return h5file_end(f, r, "read", name);
}

static int read_text(struct h5file *f, const char *name, hid_t d, size_t n, struct buf *b)
{
    const hid_t type = h5type_text(n);
    char *s = mem_new(n, 1);
    int r = s ? 0 : -1;
    if (!r && (type < 0 || H5Dread(d, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, s) < 0))
        r = h5file_fail(f, "read", name);
    if (!r)
        buf_add(b, s, n == 1 && !s[0] ? 0 : n);
    H5Tclose(type);
    free(s);
    return r || b->failed ? -1 : 0;
}

int h5file_read_text(struct h5file *f, const char *name, struct buf *b)
{
    struct h5shape s;
    h5io_lock();
    const hid_t d = h5file_dataset(f, name, &s);
    int r = d < 0 ? -1 : 0;
    if (!r && s.type != H5_TEXT)
        r = err_damaged("%s: `%s` is %s, expected text", f->path, name, h5type_name(s.type));
    else if (!r)
        r = read_text(f, name, d, (size_t)s.n, b);
    H5Dclose(d);
    return h5file_end(f, r, "read", name);
}
