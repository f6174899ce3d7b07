#include "datasets/h5io.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "autograd/base/err.h"
#include "autograd/base/file.h"

/* What HDF5 holds for an open file: its public part first. */
struct h5io_file {
    H5FD_t public;
    struct h5io *io;
    haddr_t eoa; /* end of the allocated addresses */
};

struct h5io_info {
    struct h5io *io;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static hid_t driver = H5I_INVALID_HID;

static H5FD_t *io_open(const char *name, unsigned flags, hid_t fapl, haddr_t maxaddr)
{
    (void)name, (void)flags, (void)maxaddr;
    const struct h5io_info *info = H5Pget_driver_info(fapl);
    struct h5io_file *f = info ? calloc(1, sizeof *f) : NULL;
    if (f)
        f->io = info->io;
    return f ? &f->public : NULL;
}

static herr_t io_close(H5FD_t *file)
{
    free(file);
    return 0;
}

static herr_t io_query(const H5FD_t *file, unsigned long *flags)
{
    (void)file;
    *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_AGGREGATE_SMALLDATA;
    return 0;
}

static haddr_t io_get_eoa(const H5FD_t *file, H5FD_mem_t type)
{
    (void)type;
    return ((const struct h5io_file *)(const void *)file)->eoa;
}

static herr_t io_set_eoa(H5FD_t *file, H5FD_mem_t type, haddr_t addr)
{
    (void)type;
    ((struct h5io_file *)(void *)file)->eoa = addr;
    return 0;
}

static haddr_t io_get_eof(const H5FD_t *file, H5FD_mem_t type)
{
    (void)type;
    return (haddr_t)((const struct h5io_file *)(const void *)file)->io->size;
}

/* A new file may be read where nothing was written yet: that is zero. A finished one may not. */
static herr_t io_read(H5FD_t *file, H5FD_mem_t type, hid_t dxpl, haddr_t addr, size_t n, void *out)
{
    (void)type, (void)dxpl;
    struct h5io *io = ((struct h5io_file *)(void *)file)->io;
    const ssize_t got = file_fill(io->fd, out, n, (int64_t)addr);
    if (got < 0 || ((size_t)got < n && !io->writable)) {
        if (!io->unread)
            io->unread = got < 0 ? errno : EIO; // its length was verified: it became shorter
        return -1;
    }
    memset((char *)out + got, 0, n - (size_t)got);
    return 0;
}

static herr_t io_write(H5FD_t *file, H5FD_mem_t type, hid_t dxpl, haddr_t addr, size_t n,
                       const void *bytes)
{
    (void)type, (void)dxpl;
    struct h5io *io = ((struct h5io_file *)(void *)file)->io;
    if ((int64_t)(addr + n) > io->size)
        io->size = (int64_t)(addr + n);
    if (!io->error && file_write(io->fd, bytes, n, (int64_t)addr))
        io->error = errno;
    return 0;
}

static herr_t io_truncate(H5FD_t *file, hid_t dxpl, hbool_t closing)
{
    (void)dxpl, (void)closing;
    const struct h5io_file *f = (struct h5io_file *)(void *)file;
    struct h5io *io = f->io;
    if (!io->writable || io->size == (int64_t)f->eoa)
        return 0;
    io->size = (int64_t)f->eoa;
    if (!io->error && ftruncate(io->fd, io->size))
        io->error = errno;
    return 0;
}

static const H5FD_class_t DRIVER = {
#ifdef H5FD_CLASS_VERSION
    .version = H5FD_CLASS_VERSION,
    .value = 600, // from the range that HDF5 leaves to applications
#endif
    .name = "attar",
    .maxaddr = INT64_MAX,
    .fc_degree = H5F_CLOSE_STRONG,
    .fapl_size = sizeof(struct h5io_info),
    .open = io_open,
    .close = io_close,
    .query = io_query,
    .get_eoa = io_get_eoa,
    .set_eoa = io_set_eoa,
    .get_eof = io_get_eof,
    .read = io_read,
    .write = io_write,
    .truncate = io_truncate,
    .fl_map = H5FD_FLMAP_DICHOTOMY,
};

void h5io_lock(void)
{
    pthread_mutex_lock(&mutex);
    if (driver < 0) {
        H5dont_atexit(); // its clean-up at exit() crashes after some failures
        H5open();
        H5PLset_loading_state(0);
        driver = H5FDregister(&DRIVER);
    }
    // a thread-safe build has an error stack for each thread
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

void h5io_unlock(void)
{
    pthread_mutex_unlock(&mutex);
}

/* After a swallowed write nothing may be read back, so that no metadata leaves the cache. */
static herr_t keep_metadata(hid_t fapl)
{
    H5AC_cache_config_t c = {.version = H5AC__CURR_CACHE_CONFIG_VERSION};
    if (H5Pget_mdc_config(fapl, &c) < 0)
        return -1;
    c.evictions_enabled = 0;
    c.incr_mode = H5C_incr__off;
    c.flash_incr_mode = H5C_flash_incr__off;
    c.decr_mode = H5C_decr__off;
    return H5Pset_mdc_config(fapl, &c);
}

/* Slices are read in random order: a chunk cache would read 128 KiB for each of them. */
static herr_t no_chunk_cache(hid_t fapl)
{
    return H5Pset_cache(fapl, 0, 0, 0, 0);
}

hid_t h5io_open(struct h5io *io)
{
    const struct h5io_info info = {.io = io};
    const hid_t fapl = H5Pcreate(H5P_FILE_ACCESS);
    const hid_t fcpl = H5Pcreate(H5P_FILE_CREATE);
    hid_t file = H5I_INVALID_HID;
    if (fapl >= 0 && fcpl >= 0 && H5Pset_driver(fapl, driver, &info) >= 0 &&
        H5Pset_fclose_degree(fapl, H5F_CLOSE_STRONG) >= 0 &&
        H5Pset_libver_bounds(fapl, H5F_LIBVER_V18, H5F_LIBVER_V18) >= 0 &&
        H5Pset_userblock(fcpl, H5IO_USER_BLOCK) >= 0 && H5Pset_obj_track_times(fcpl, 0) >= 0) {
        if (io->writable && keep_metadata(fapl) >= 0)
            file = H5Fcreate("attar", H5F_ACC_TRUNC, fcpl, fapl);
        else if (!io->writable && no_chunk_cache(fapl) >= 0)
            file = H5Fopen("attar", H5F_ACC_RDONLY, fapl);
    }
    if (file < 0 && io->unread)
        err("cannot read: %s", strerror(io->unread));
    else if (file < 0)
        err("HDF5 cannot %s the file: %s", io->writable ? "create" : "open", h5io_reason());
    H5Pclose(fapl);
    H5Pclose(fcpl);
    return file;
}

static herr_t innermost(unsigned n, const H5E_error2_t *e, void *out)
{
    (void)n;
    const char **desc = out;
    if (e->desc)
        *desc = e->desc;
    return 0;
}

const char *h5io_reason(void)
{
    const char *desc = "";
    // from the API function down to where it failed
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, innermost, &desc);
    return desc;
}
