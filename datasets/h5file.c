#include "datasets/h5file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "autograd/base/absent.h"
#include "autograd/base/err.h"
#include "autograd/base/mem.h"
#include "datasets/h5file_priv.h"

static void destroy(struct h5file *f)
{
    free(f->path);
    free(f);
}

static struct h5file *new_file(const char *path, bool writable)
{
    struct h5file *f = mem_new(1, sizeof *f);
    char *copy = mem_text(path, strlen(path));
    if (!f || !copy) {
        free(f);
        free(copy);
        return NULL;
    }
    f->path = copy;
    f->id = H5I_INVALID_HID;
    f->io = (struct h5io){.fd = -1, .writable = writable};
    return f;
}

/* Opens the HDF5 file in f->io.fd. */
static int attach(struct h5file *f)
{
    h5io_lock();
    f->id = h5io_open(&f->io);
    h5io_unlock();
    return f->id < 0 ? err_in("%s", f->path) : 0;
}

static int detach(struct h5file *f)
{
    h5io_lock();
    const herr_t r = f->id < 0 ? 0 : H5Fclose(f->id);
    f->id = H5I_INVALID_HID;
    h5io_unlock();
    return r < 0 ? -1 : 0;
}

int h5file_create(struct h5file **out, const char *path)
{
    struct h5file *f = new_file(path, true);
    if (!f)
        return -1;
    if (aside_open(&f->aside, path)) {
        destroy(f);
        return -1;
    }
    f->io.fd = f->aside.fd;
    if (attach(f)) {
        h5file_abandon(f);
        return -1;
    }
    *out = f;
    return 0;
}

void h5file_abandon(struct h5file *f)
{
    if (!f)
        return;
    (void)detach(f);
    aside_abandon(&f->aside);
    destroy(f);
}

static int finish(struct h5file *f)
{
    struct h5file *again;
    const int closed = detach(f);
    if (f->io.error)
        return err("%s: cannot write: %s", f->path, strerror(f->io.error));
    if (closed)
        return err("%s: HDF5 cannot finish the file", f->path);
    if (h5seal_write(f->io.fd, f->io.size))
        return err_in("%s", f->path);
    if (fsync(f->io.fd))
        return err("%s: cannot write: %s", f->path, strerror(errno));
    if (h5file_open(&again, f->aside.tmp))
        return err_in("%s: written, but not readable", f->path);
    h5file_close(again);
    return 0;
}

int h5file_commit(struct h5file *f)
{
    if (finish(f)) {
        h5file_abandon(f);
        return -1;
    }
    const int r = aside_commit(&f->aside);
    destroy(f);
    return r;
}

int h5file_open(struct h5file **out, const char *path)
{
    struct h5file *f = new_file(path, false);
    if (!f)
        return -1;
    f->io.fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (f->io.fd < 0)
        absent_report(path);
    else if (h5seal_check(f->io.fd, &f->io.size, f->hash))
        err_in("%s", path);
    else if (!attach(f)) {
        *out = f;
        return 0;
    }
    h5file_close(f);
    return -1;
}

void h5file_close(struct h5file *f)
{
    if (!f)
        return;
    (void)detach(f);
    if (f->io.fd >= 0)
        close(f->io.fd);
    destroy(f);
}

const char *h5file_path(const struct h5file *f)
{
    return f->path;
}

int64_t h5file_size(const struct h5file *f)
{
    return f->io.size;
}

const char *h5file_hash(const struct h5file *f)
{
    return f->hash;
}

int h5file_fail(const struct h5file *f, const char *verb, const char *name)
{
    if (f->io.error)
        return err("%s: cannot write: %s", f->path, strerror(f->io.error));
    if (f->io.unread)
        return err("%s: cannot read: %s", f->path, strerror(f->io.unread));
    return err("%s: cannot %s `%s`: %s", f->path, verb, name, h5io_reason());
}

int h5file_end(const struct h5file *f, int r, const char *verb, const char *name)
{
    if (f->io.error || f->io.unread)
        r = h5file_fail(f, verb, name);
    h5io_unlock();
    return r;
}

/* H5Lexists() of one name: the way to it exists. */
static int is_link(const struct h5file *f, const char *name)
{
    const htri_t is = H5Lexists(f->id, name, H5P_DEFAULT);
    return is < 0 || f->io.unread ? h5file_fail(f, "look for", name) : is > 0;
}

/* H5Lexists() wants every group on the way to exist. */
int h5file_exists(const struct h5file *f, const char *name)
{
    char part[256];
    for (const char *slash = name; (slash = strchr(slash, '/')); slash++) {
        const size_t n = (size_t)(slash - name);
        if (n >= sizeof part)
            return 0; // longer than any name that is written
        memcpy(part, name, n);
        part[n] = 0;
        const int is = n ? is_link(f, part) : 1;
        if (is <= 0)
            return is;
    }
    return is_link(f, name);
}

int h5file_has(struct h5file *f, const char *name)
{
    h5io_lock();
    return h5file_end(f, h5file_exists(f, name), "look for", name);
}

int64_t h5file_count(struct h5file *f, const char *group)
{
    H5G_info_t info = {0};
    h5io_lock();
    int r = h5file_exists(f, group);
    if (r > 0 && H5Gget_info_by_name(f->id, group, &info, H5P_DEFAULT) < 0)
        r = h5file_fail(f, "list", group);
    return h5file_end(f, r < 0 ? -1 : 0, "list", group) ? -1 : (int64_t)info.nlinks;
}
