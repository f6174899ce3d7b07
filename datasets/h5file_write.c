#include <string.h>

#include "autograd/base/err.h"
#include "datasets/h5file_priv.h"
#include "datasets/h5type.h"

enum { CHUNK = 1 << 16 };

herr_t h5file_make_groups(struct h5file *f, const char *name, bool is_group)
{
    char path[512];
    if (strlen(name) >= sizeof path)
        return -1;
    const hid_t plist = H5Pcreate(H5P_GROUP_CREATE);
    herr_t r = H5Pset_obj_track_times(plist, 0);
    for (size_t n = 1; r >= 0 && name[n - 1]; n++) {
        if (name[n] != '/' && (name[n] || !is_group))
            continue;
        memcpy(path, name, n);
        path[n] = 0;
        const int there = h5file_exists(f, path);
        if (there) {
            r = there < 0 ? -1 : r;
            continue;
        }
        const hid_t group = H5Gcreate2(f->id, path, H5P_DEFAULT, plist, H5P_DEFAULT);
        r = group < 0 ? -1 : H5Gclose(group);
    }
    H5Pclose(plist);
    return r;
}

/* Creates a dataset; no time stamps, and zeros where a chunk is not full, so that equal content
   gives equal files. */
static hid_t create_dataset(struct h5file *f, const char *name, hid_t type, hid_t space,
                            hsize_t chunk)
{
    const hid_t plist = H5Pcreate(H5P_DATASET_CREATE);
    hid_t d = H5I_INVALID_HID;
    if (h5file_make_groups(f, name, false) >= 0 && H5Pset_obj_track_times(plist, 0) >= 0 &&
        H5Pset_fill_time(plist, chunk ? H5D_FILL_TIME_ALLOC : H5D_FILL_TIME_IFSET) >= 0 &&
        (!chunk || H5Pset_chunk(plist, 1, &chunk) >= 0))
        d = H5Dcreate2(f->id, name, type, space, H5P_DEFAULT, plist, H5P_DEFAULT);
    H5Pclose(plist);
    return d;
}

static int write_whole(struct h5file *f, const char *name, hid_t disk, hid_t memory, hid_t space,
                       const void *data)
{
    const hid_t d = space < 0 ? space : create_dataset(f, name, disk, space, 0);
    herr_t r = d < 0 ? -1 : 0;
    if (r >= 0 && H5Sget_simple_extent_npoints(space) > 0)
        r = H5Dwrite(d, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, data);
    if (d >= 0 && H5Dclose(d) < 0)
        r = -1;
    return r < 0 || f->io.error ? h5file_fail(f, "write", name) : 0;
}

int h5file_write(struct h5file *f, const char *name, enum h5type type, int ndim, const int64_t *dim,
                 const void *data)
{
    hsize_t size[H5_DIMS];
    if (ndim < 0 || ndim > H5_DIMS || type >= H5_TEXT)
        BUG("h5file_write: `%s`: %d dimensions, type %d", name, ndim, (int)type);
    for (int i = 0; i < ndim; i++)
        size[i] = (hsize_t)dim[i];
    h5io_lock();
    const hid_t space = ndim ? H5Screate_simple(ndim, size, NULL) : H5Screate(H5S_SCALAR);
    const int r = write_whole(f, name, h5type_disk(type), h5type_memory(type), space, data);
    H5Sclose(space);
    return h5file_end(f, r, "write", name);
}

int h5file_write_text(struct h5file *f, const char *name, const char *s, size_t n)
{
    h5io_lock();
    const hid_t type = h5type_text(n);
    const hid_t space = H5Screate(H5S_SCALAR);
    const int r = type < 0 ? h5file_fail(f, "write", name)
                           : write_whole(f, name, type, type, space, n ? s : "");
    H5Sclose(space);
    H5Tclose(type);
    return h5file_end(f, r, "write", name);
}

static hid_t create_extendable(struct h5file *f, const char *name, enum h5type type)
{
    const hsize_t none = 0, unlimited = H5S_UNLIMITED;
    const hid_t space = H5Screate_simple(1, &none, &unlimited);
    const hid_t d = create_dataset(f, name, h5type_disk(type), space, CHUNK);
    H5Sclose(space);
    return d;
}

static int append(hid_t d, enum h5type type, const void *data, size_t n)
{
    hid_t space = H5Dget_space(d);
    const hssize_t old = H5Sget_simple_extent_npoints(space);
    H5Sclose(space);
    const hsize_t size = (hsize_t)old + n, more = n;
    if (old < 0 || H5Dset_extent(d, &size) < 0)
        return -1;
    const hid_t memory = H5Screate_simple(1, &more, NULL);
    space = H5Dget_space(d);
    herr_t r = h5type_select_rows(space, old, (int64_t)n);
    if (r >= 0)
        r = H5Dwrite(d, h5type_memory(type), memory, space, H5P_DEFAULT, data);
    H5Sclose(space);
    H5Sclose(memory);
    return r < 0 ? -1 : 0;
}

int h5file_append(struct h5file *f, const char *name, enum h5type type, const void *data, size_t n)
{
    h5io_lock();
    const int there = h5file_exists(f, name);
    const hid_t d = there < 0 ? H5I_INVALID_HID
                    : there   ? H5Dopen2(f->id, name, H5P_DEFAULT)
                              : create_extendable(f, name, type);
    int r = d < 0 ? -1 : 0;
    if (!r && n)
        r = append(d, type, data, n);
    if (d >= 0 && H5Dclose(d) < 0)
        r = -1;
    r = r || f->io.error ? h5file_fail(f, "write", name) : 0;
    return h5file_end(f, r, "write", name);
}
