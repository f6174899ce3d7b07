#include "autograd/base/tail.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "autograd/base/err.h"
#include "autograd/base/file.h"
#include "autograd/base/mem.h"

int tail_open(struct tail *t, const char *path)
{
    *t = (struct tail){.fd = -1, .path = mem_text(path, strlen(path))};
    if (!t->path)
        return -1;
    t->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    const off_t size = t->fd < 0 ? -1 : lseek(t->fd, 0, SEEK_END);
    t->size = size;
    if (size >= 0 ? file_sync_folder(path) : err("%s: %s", path, strerror(errno))) {
        tail_close(t);
        return -1;
    }
    return 0;
}

/* Writes what waits, all or nothing. */
static int flush(struct tail *t)
{
    if (t->torn && ftruncate(t->fd, t->size))
        return err("%s: %s", t->path, strerror(errno));
    t->torn = false;
    if (file_write(t->fd, t->wait.p, t->wait.n, -1)) {
        const int error = errno;
        // a record without its end would swallow the next one
        t->torn = ftruncate(t->fd, t->size) != 0;
        return err("%s: %s", t->path, strerror(error));
    }
    t->size += (int64_t)t->wait.n;
    buf_clear(&t->wait);
    return 0;
}

int tail_add(struct tail *t, const void *record, size_t n)
{
    const bool waiting = t->wait.n > 0;
    buf_add(&t->wait, record, n);
    if (t->wait.failed)
        return err_in("%s", t->path);
    if (!flush(t))
        return 0;
    if (t->wait.n > TAIL_WAIT_MAX)
        return err_in("too much waits to be written");
    if (!waiting)
        err_warn("%s; the rest waits in memory until it can be written", err_text());
    return 0;
}

int tail_sync(struct tail *t)
{
    if (t->wait.n && flush(t))
        return -1;
    return fsync(t->fd) ? err("%s: %s", t->path, strerror(errno)) : 0;
}

int tail_close(struct tail *t)
{
    int rc = 0;
    if (t->fd >= 0) {
        rc = tail_sync(t);
        if (close(t->fd) && !rc)
            rc = err("%s: %s", t->path, strerror(errno));
    }
    free(t->path);
    buf_free(&t->wait);
    *t = (struct tail){.fd = -1};
    return rc;
}
