#include <stdlib.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/mem.h"
#include "datasets/h5file_priv.h"
#include "datasets/h5type.h"

enum { TEXT_MAX = 60000 }; /* bytes: an object header holds 64 KiB in all */

static bool is_root(const char *at)
{
    return !strcmp(at, "/");
}

/* The open group, or -1 with err() set. */
static hid_t open_group(struct h5file *f, const char *at, bool create)
{
    const int there = is_root(at) ? 1 : h5file_exists(f, at);
    if (there < 0 || (!there && create && h5file_make_groups(f, at, true) < 0))
        return H5I_INVALID_HID;
    if (!there && !create) {
        err_damaged("%s: has no group `%s`", f->path, at);
        return H5I_INVALID_HID;
    }
    const hid_t object = H5Oopen(f->id, at, H5P_DEFAULT);
    if (object < 0)
        h5file_fail(f, "open", at);
    return object;
}

static int set(struct h5file *f, const char *at, const char *name, hid_t disk, hid_t memory,
               const void *value)
{
    const hid_t object = open_group(f, at, true);
    const hid_t space = H5Screate(H5S_SCALAR);
    const hid_t a = object < 0 || disk < 0
                        ? H5I_INVALID_HID
                        : H5Acreate2(object, name, disk, space, H5P_DEFAULT, H5P_DEFAULT);
    herr_t r = a < 0 ? -1 : H5Awrite(a, memory, value);
    if (a >= 0 && H5Aclose(a) < 0)
        r = -1;
    H5Sclose(space);
    H5Oclose(object);
    return r < 0 || f->io.error ? h5file_fail(f, "write attribute", name) : 0;
}

/* The open attribute, or -1 with err() set. */
static hid_t open_attribute(struct h5file *f, const char *at, const char *name)
{
    const hid_t object = open_group(f, at, false);
    if (object < 0)
        return H5I_INVALID_HID;
    const htri_t there = H5Aexists(object, name);
    const hid_t a = there > 0 ? H5Aopen(object, name, H5P_DEFAULT) : H5I_INVALID_HID;
    if (there < 0 || (there && a < 0) || f->io.unread)
        h5file_fail(f, "read attribute", name);
    else if (!there)
        err_damaged("%s: `%s` has no attribute `%s`", f->path, at, name);
    H5Oclose(object);
    return a;
}

static int get_number(struct h5file *f, const char *at, const char *name, enum h5type want,
                      void *value)
{
    const hid_t a = open_attribute(f, at, name);
    if (a < 0)
        return -1;
    const hid_t type = H5Aget_type(a), space = H5Aget_space(a);
    enum h5type have;
    int r = 0;
    if (type < 0 || space < 0)
        r = h5file_fail(f, "read attribute", name);
    else if (h5type_find(type, &have) || have != want || H5Sget_simple_extent_npoints(space) != 1)
        r = err_damaged("%s: attribute `%s` of `%s` is not one %s", f->path, name, at,
                        h5type_name(want));
    else if (H5Aread(a, h5type_memory(want), value) < 0)
        r = h5file_fail(f, "read attribute", name);
    H5Tclose(type);
    H5Sclose(space);
    H5Aclose(a);
    return r;
}

static int get_text(struct h5file *f, const char *name, hid_t a, struct buf *b)
{
    const hid_t type = H5Aget_type(a), space = H5Aget_space(a);
    const bool text = H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0 &&
                      H5Sget_simple_extent_npoints(space) == 1;
    const size_t n = text ? H5Tget_size(type) : 0;
    int r = 0;
    char *s = NULL;
    if (type < 0 || space < 0)
        r = h5file_fail(f, "read attribute", name);
    else if (!text || n > TEXT_MAX)
        r = err_damaged("%s: attribute `%s` is not a text of at most %d bytes", f->path, name,
                        TEXT_MAX);
    else if (!(s = mem_new(n, 1)))
        r = -1;
    else if (H5Aread(a, type, s) < 0)
        r = h5file_fail(f, "read attribute", name);
    else
        buf_add(b, s, n == 1 && !s[0] ? 0 : n);
    free(s);
    H5Tclose(type);
    H5Sclose(space);
    return r || b->failed ? -1 : 0;
}

int h5file_set_int(struct h5file *f, const char *at, const char *name, int64_t value)
{
    h5io_lock();
    const int r = set(f, at, name, h5type_disk(H5_I64), h5type_memory(H5_I64), &value);
    return h5file_end(f, r, "write attribute", name);
}

int h5file_set_double(struct h5file *f, const char *at, const char *name, double value)
{
    h5io_lock();
    const int r = set(f, at, name, h5type_disk(H5_F64), h5type_memory(H5_F64), &value);
    return h5file_end(f, r, "write attribute", name);
}

int h5file_set_text(struct h5file *f, const char *at, const char *name, const char *s)
{
    const size_t n = strlen(s);
    if (n > TEXT_MAX)
        return err("%s: attribute `%s` has %zu bytes, at most %d fit", f->path, name, n, TEXT_MAX);
    h5io_lock();
    const hid_t type = h5type_text(n);
    const int r = set(f, at, name, type, type, s);
    H5Tclose(type);
    return h5file_end(f, r, "write attribute", name);
}

int h5file_get_int(struct h5file *f, const char *at, const char *name, int64_t *value)
{
    h5io_lock();
    const int r = get_number(f, at, name, H5_I64, value);
    return h5file_end(f, r, "read attribute", name);
}

int h5file_get_double(struct h5file *f, const char *at, const char *name, double *value)
{
    h5io_lock();
    const int r = get_number(f, at, name, H5_F64, value);
    return h5file_end(f, r, "read attribute", name);
}

int h5file_get_text(struct h5file *f, const char *at, const char *name, struct buf *b)
{
    h5io_lock();
    const hid_t a = open_attribute(f, at, name);
    const int r = a < 0 ? -1 : get_text(f, name, a, b);
    if (a >= 0)
        H5Aclose(a);
    return h5file_end(f, r, "read attribute", name);
}
