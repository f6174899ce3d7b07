#include "autograd/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "autograd/base/err.h"
#include "autograd/base/mem.h"

static int read_all(int fd, const char *path, size_t most, struct buf *b)
{
    char part[1 << 16];
    const size_t before = b->n;
    for (ssize_t got; (got = read(fd, part, sizeof part)) != 0;) {
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err("%s: cannot read: %s", path, strerror(errno));
        if ((size_t)got > most - (b->n - before))
            return err("%s: larger than the %zu bytes that are read at most", path, most);
        buf_add(b, part, (size_t)got);
        if (b->failed)
            return err_in("%s", path);
    }
    return 0;
}

int file_read(const char *path, size_t most, struct buf *b)
{
    if (!strcmp(path, "-"))
        return read_all(STDIN_FILENO, "standard input", most, b);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err("%s: cannot open: %s", path, strerror(errno));
    const int rc = read_all(fd, path, most, b);
    close(fd);
    return rc;
}

static int write_all(int fd, const char *p, size_t n)
{
    while (n) {
        const ssize_t put = write(fd, p, n);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return -1;
        p += put;
        n -= (size_t)put;
    }
    return fsync(fd);
}

static int sync_folder_of(const char *path)
{
    char *copy = mem_text(path, strlen(path));
    if (!copy)
        return -1;
    const int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(copy);
    if (fd < 0)
        return err("%s: cannot open its folder: %s", path, strerror(errno));
    // some file systems cannot flush a folder and say EINVAL: nothing is lost but the guarantee
    const int rc = fsync(fd) && errno != EINVAL;
    const int why = errno;
    close(fd);
    return rc ? err("%s: cannot flush its folder: %s", path, strerror(why)) : 0;
}

int file_write(const char *path, const void *bytes, size_t n)
{
    struct buf aside = {0};
    buf_printf(&aside, "%s.XXXXXX", path);
    if (aside.failed)
        return -1;
    const int fd = mkostemp(aside.p, O_CLOEXEC);
    if (fd < 0) {
        err("%s: cannot create: %s", path, strerror(errno));
        buf_free(&aside);
        return -1;
    }
    const mode_t mask = umask(0);
    umask(mask);
    const int failed = write_all(fd, bytes, n) || fchmod(fd, 0666 & ~mask);
    int why = errno;
    if ((close(fd) && !failed && (why = errno)) || failed || rename(aside.p, path)) {
        err("%s: cannot write: %s", path, strerror(failed ? why : errno));
        unlink(aside.p);
        buf_free(&aside);
        return -1;
    }
    buf_free(&aside);
    return sync_folder_of(path);
}
