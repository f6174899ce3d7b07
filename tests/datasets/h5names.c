#include "tests/datasets/h5names.h"

#include <string.h>

#include "datasets/h5file_priv.h"

static herr_t add_name(hid_t group, const char *name, const H5L_info_t *info, void *names)
{
    if (info->type != H5L_TYPE_HARD)
        return 0;
    const hid_t o = H5Oopen(group, name, H5P_DEFAULT);
    if (H5Iget_type(o) == H5I_DATASET)
        buf_add(names, name, strlen(name) + 1);
    H5Oclose(o);
    return o < 0 ? -1 : 0;
}

int h5names_each(struct h5file *f, int (*fn)(void *arg, const char *name), void *arg)
{
    struct buf names = {0};
    h5io_lock();
    const herr_t listed = H5Lvisit(f->id, H5_INDEX_NAME, H5_ITER_INC, add_name, &names);
    int r = h5file_end(f, listed < 0 ? h5file_fail(f, "list", "/") : 0, "list", "/");
    if (names.failed)
        r = -1;
    for (size_t i = 0; !r && i < names.n; i += strlen(names.p + i) + 1)
        r = fn(arg, names.p + i);
    buf_free(&names);
    return r;
}
