#include "tests/golden.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <hdf5.h>

struct entry {
    struct golden_array array;
    struct entry *next;
    char path[];
};

struct golden {
    char name[64];
    hid_t file;
    struct entry *entries;
};

struct golden *golden_open(const char *name)
{
    char path[128];
    struct golden *g = calloc(1, sizeof *g);
    snprintf(path, sizeof path, "tests/golden/%s.h5", name);
    snprintf(g->name, sizeof g->name, "%s", name);
    g->file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (g->file < 0)
        fail_msg("%s: run from the top of the tree; tests/oracle/make_golden.py makes it", path);
    return g;
}

void golden_close(struct golden *g)
{
    for (struct entry *e = g->entries, *next; e; e = next) {
        next = e->next;
        free(e->array.f);
        free(e->array.i);
        free(e);
    }
    H5Fclose(g->file);
    free(g);
}

int golden_children(const struct golden *g, const char *path)
{
    H5G_info_t info;
    assert_true(H5Gget_info_by_name(g->file, path, &info, H5P_DEFAULT) >= 0);
    return (int)info.nlinks;
}

bool golden_has(const struct golden *g, const char *path)
{
    return H5Lexists(g->file, path, H5P_DEFAULT) > 0;
}

static void read_values(hid_t set, struct golden_array *a)
{
    const hid_t type = H5Dget_type(set);
    const bool real = H5Tget_class(type) == H5T_FLOAT;
    const hid_t memory = real ? H5T_NATIVE_FLOAT : H5T_NATIVE_INT32;
    void *data = calloc((size_t)a->n + 1, 4);
    assert_int_equal(H5Tget_size(type), 4);
    assert_true(H5Dread(set, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
    if (real)
        a->f = data;
    else
        a->i = data;
    H5Tclose(type);
}

const struct golden_array *golden_read(struct golden *g, const char *path)
{
    for (const struct entry *e = g->entries; e; e = e->next)
        if (!strcmp(e->path, path))
            return &e->array;
    if (!golden_has(g, path))
        fail_msg("%s.h5 has no %s", g->name, path);
    struct entry *e = calloc(1, sizeof *e + strlen(path) + 1);
    struct golden_array *a = &e->array;
    strcpy(e->path, path);
    e->next = g->entries;
    g->entries = e;
    const hid_t set = H5Dopen2(g->file, path, H5P_DEFAULT), space = H5Dget_space(set);
    hsize_t dim[GOLDEN_DIMS] = {0};
    a->nd = H5Sget_simple_extent_ndims(space);
    assert_in_range(a->nd, 0, GOLDEN_DIMS);
    H5Sget_simple_extent_dims(space, dim, NULL);
    a->n = 1;
    for (int k = 0; k < a->nd; k++)
        a->n *= a->dim[k] = (int64_t)dim[k];
    read_values(set, a);
    if (H5Aexists(set, "noise") > 0)
        a->noise = golden_number(g, path, "noise");
    H5Sclose(space);
    H5Dclose(set);
    return a;
}

static hid_t attribute(const struct golden *g, const char *at, const char *name)
{
    const hid_t a = H5Aopen_by_name(g->file, at, name, H5P_DEFAULT, H5P_DEFAULT);
    if (a < 0)
        fail_msg("%s.h5: %s has no attribute %s", g->name, at, name);
    return a;
}

double golden_number(const struct golden *g, const char *at, const char *name)
{
    double x = NAN;
    const hid_t a = attribute(g, at, name);
    assert_true(H5Aread(a, H5T_NATIVE_DOUBLE, &x) >= 0);
    H5Aclose(a);
    return x;
}

int golden_ints(const struct golden *g, const char *at, const char *name, int most, int *x)
{
    const hid_t a = attribute(g, at, name), space = H5Aget_space(a);
    const int n = (int)H5Sget_simple_extent_npoints(space);
    assert_in_range(n, 0, most);
    assert_true(H5Aread(a, H5T_NATIVE_INT, x) >= 0);
    H5Sclose(space);
    H5Aclose(a);
    return n;
}

void golden_text(const struct golden *g, const char *at, const char *name, char *text, int size)
{
    const hid_t a = attribute(g, at, name), type = H5Aget_type(a);
    const int n = (int)H5Tget_size(type);
    assert_true(n < size && !H5Tis_variable_str(type));
    memset(text, 0, (size_t)size);
    assert_true(H5Aread(a, type, text) >= 0);
    H5Tclose(type);
    H5Aclose(a);
}

bool golden_has_text(const struct golden *g, const char *at, const char *name)
{
    return H5Aexists_by_name(g->file, at, name, H5P_DEFAULT) > 0;
}

void golden_compare(struct golden *g, const char *path, const float *got, int64_t n, double part)
{
    const struct golden_array *want = golden_read(g, path);
    double off = 0, all = 0;
    assert_non_null(want->f);
    assert_non_null(got);
    assert_int_equal(n, want->n);
    for (int64_t i = 0; i < n; i++) {
        off += ((double)got[i] - want->f[i]) * ((double)got[i] - want->f[i]);
        all += (double)want->f[i] * want->f[i];
    }
    // of what is zero, rounding of terms of size 1 may be left
    const double bound = (all > 0 ? part * sqrt(all) : 1e-6) + 4 * want->noise * sqrt((double)n);
    if (!(sqrt(off) <= bound))
        fail_msg("%s.h5: %s is off by %.2g, its norm is %.2g; %.2g is allowed", g->name, path,
                 sqrt(off), sqrt(all), bound);
}
