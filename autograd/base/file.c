#include "autograd/base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "autograd/base/absent.h"
#include "autograd/base/err.h"

/* Closes the descriptor. */
static int read_all(int fd, const char *name, size_t max, struct buf *b)
{
    char block[16384];
    size_t total = 0;
    ssize_t n;
    while (total <= max && (n = file_fill(fd, block, sizeof block, -1)) > 0) {
        total += (size_t)n;
        if (total <= max)
            buf_add(b, block, (size_t)n);
    }
    const int error = total <= max && n < 0 ? errno : 0;
    close(fd);
    if (error)
        return err("%s: %s", name, strerror(error));
    if (total > max)
        return err("%s: more than the %zu bytes that such a file may have", name, max);
    return b->failed ? err_in("%s", name) : 0;
}

int file_read(const char *path, size_t max, struct buf *b)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? absent_report(path) : read_all(fd, path, max, b);
}

static bool is_stdin(const char *path)
{
    return !strcmp(path, "-");
}

const char *file_argument_name(const char *path)
{
    return is_stdin(path) ? "standard input" : path;
}

int file_open_argument(const char *path)
{
    const int fd =
        is_stdin(path) ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3) : open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? absent_report(file_argument_name(path)) : fd;
}

int file_read_argument(const char *path, size_t max, struct buf *b)
{
    const int fd = file_open_argument(path);
    return fd < 0 ? -1 : read_all(fd, file_argument_name(path), max, b);
}

int file_exists(const char *path)
{
    struct stat s;
    if (!stat(path, &s))
        return 1;
    return errno == ENOENT || errno == ENOTDIR ? 0 : err("%s: %s", path, strerror(errno));
}

int file_list(const char *folder, struct buf *names)
{
    DIR *d = opendir(folder);
    if (!d)
        return errno == ENOENT || errno == ENOTDIR ? 0 : err("%s: %s", folder, strerror(errno));
    const struct dirent *e;
    while (errno = 0, e = readdir(d))
        buf_add(names, e->d_name, strlen(e->d_name) + 1);
    const int error = errno;
    closedir(d);
    if (error)
        return err("%s: %s", folder, strerror(error));
    return names->failed ? err_in("%s", folder) : 1;
}

int file_check_out(const char *path)
{
    struct stat s;
    struct buf folder = {0};
    const char *slash = strrchr(path, '/');
    if (!stat(path, &s) && S_ISDIR(s.st_mode))
        return err("%s is a folder: the name of a file is wanted, such as %s%sNAME", path, path,
                   slash && !slash[1] ? "" : "/");
    buf_printf(&folder, "%.*s", slash ? (int)(slash - path) + 1 : 2, slash ? path : "./");
    int rc = folder.failed ? -1 : 0;
    if (!rc && stat(folder.p, &s))
        rc = err("cannot write %s: %s: %s", path, folder.p, strerror(errno));
    else if (!rc && !S_ISDIR(s.st_mode))
        rc = err("cannot write %s: %s is no folder", path, folder.p);
    buf_free(&folder);
    return rc;
}

int file_write(int fd, const void *bytes, size_t n, int64_t at)
{
    const char *p = bytes;
    while (n) {
        const ssize_t w = at < 0 ? write(fd, p, n) : pwrite(fd, p, n, (off_t)at);
        if (w < 0 && errno == EINTR)
            continue;
        if (!w)
            errno = ENOSPC;
        if (w <= 0)
            return -1;
        p += w;
        n -= (size_t)w;
        at = at < 0 ? at : at + w;
    }
    return 0;
}

ssize_t file_fill(int fd, void *bytes, size_t n, int64_t at)
{
    size_t got = 0;
    while (got < n) {
        char *p = (char *)bytes + got;
        const ssize_t r =
            at < 0 ? read(fd, p, n - got) : pread(fd, p, n - got, (off_t)(at + (int64_t)got));
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return -1;
        if (!r)
            break;
        got += (size_t)r;
    }
    return (ssize_t)got;
}

int file_sync_folder(const char *path)
{
    struct buf folder = {0};
    const char *slash = strrchr(path, '/');
    if (slash)
        buf_add(&folder, path, slash == path ? 1 : (size_t)(slash - path));
    else
        buf_text(&folder, ".");
    if (folder.failed)
        return -1;
    const int fd = open(folder.p, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = 0;
    // some file systems (FUSE, 9p) cannot sync a folder and say so with EINVAL
    if (fd < 0 || (fsync(fd) && errno != EINVAL))
        rc = err("%s: cannot sync the folder: %s", folder.p, strerror(errno));
    if (fd >= 0)
        close(fd);
    buf_free(&folder);
    return rc;
}

int file_replace(const char *path, const void *bytes, size_t n)
{
    struct buf part = {0};
    buf_printf(&part, "%s.part", path);
    if (part.failed)
        return -1;
    const int fd = open(part.p, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    int error = 0;
    if (fd < 0 || file_write(fd, bytes, n, -1) || fsync(fd))
        error = errno;
    if (fd >= 0 && close(fd) && !error)
        error = errno;
    if (!error && rename(part.p, path))
        error = errno;
    if (error && fd >= 0)
        unlink(part.p);
    buf_free(&part);
    return error ? err("%s: cannot write: %s", path, strerror(error)) : file_sync_folder(path);
}
