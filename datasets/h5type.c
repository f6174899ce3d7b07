#include "datasets/h5type.h"

const char *h5type_name(enum h5type type)
{
    static const char *const name[] = {"u8", "u16", "i32", "i64", "f32", "f64", "text"};
    return name[type];
}

size_t h5type_size(enum h5type type)
{
    static const size_t size[] = {1, 2, 4, 8, 4, 8, 1};
    return size[type];
}

hid_t h5type_disk(enum h5type type)
{
    const hid_t id[] = {H5T_STD_U8LE,  H5T_STD_U16LE,  H5T_STD_I32LE,
                        H5T_STD_I64LE, H5T_IEEE_F32LE, H5T_IEEE_F64LE};
    return id[type];
}

hid_t h5type_memory(enum h5type type)
{
    const hid_t id[] = {H5T_NATIVE_UINT8, H5T_NATIVE_UINT16, H5T_NATIVE_INT32,
                        H5T_NATIVE_INT64, H5T_NATIVE_FLOAT,  H5T_NATIVE_DOUBLE};
    return id[type];
}

hid_t h5type_text(size_t n)
{
    const hid_t t = H5Tcopy(H5T_C_S1);
    if (t >= 0 && H5Tset_size(t, n ? n : 1) >= 0 && H5Tset_cset(t, H5T_CSET_UTF8) >= 0 &&
        H5Tset_strpad(t, H5T_STR_NULLPAD) >= 0)
        return t;
    H5Tclose(t);
    return H5I_INVALID_HID;
}

int h5type_find(hid_t id, enum h5type *out)
{
    for (enum h5type t = H5_U8; t < H5_TEXT; t++) {
        if (H5Tequal(id, h5type_disk(t)) > 0) {
            *out = t;
            return 0;
        }
    }
    return -1;
}

int h5type_select_rows(hid_t space, int64_t row, int64_t rows)
{
    hsize_t start[H5S_MAX_RANK] = {0}, count[H5S_MAX_RANK];
    if (H5Sget_simple_extent_dims(space, count, NULL) < 1)
        return -1;
    start[0] = (hsize_t)row;
    count[0] = (hsize_t)rows;
    return H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL) < 0 ? -1 : 0;
}
