#include "autograd/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "autograd/base/absent.h"
#include "autograd/base/err.h"

static int read_all(FILE *f, const char *name, size_t max, struct buf *b)
{
    char block[16384];
    size_t n, total = 0;
    while ((n = fread(block, 1, sizeof block, f)) > 0) {
        total += n;
        if (total > max)
            break;
        buf_add(b, block, n);
    }
    const int error = ferror(f) ? errno : 0;
    fclose(f);
    if (error)
        return err("%s: %s", name, strerror(error));
    if (total > max)
        return err("%s: more than the %zu bytes that such a file may have", name, max);
    return b->failed ? err_in("%s", name) : 0;
}

int file_read(const char *path, size_t max, struct buf *b)
{
    FILE *f = fopen(path, "rb");
    return f ? read_all(f, path, max, b) : absent_report(path);
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
    FILE *f = fd < 0 ? NULL : fdopen(fd, "rb");
    if (f)
        return read_all(f, file_argument_name(path), max, b);
    if (fd >= 0) {
        err("%s: %s", file_argument_name(path), strerror(errno));
        close(fd);
    }
    return -1;
}

int file_map(const char *path, const void **bytes, size_t *n)
{
    struct stat s;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return absent_report(path);
    int rc = fstat(fd, &s) ? err("%s: %s", path, strerror(errno)) : 0;
    if (!rc && (!S_ISREG(s.st_mode) || !s.st_size))
        rc = err("%s: %s", path,
                 S_ISREG(s.st_mode)   ? "the file is empty"
                 : S_ISDIR(s.st_mode) ? "a folder, and a file is wanted"
                                      : "not a file");
    void *p = rc ? MAP_FAILED : mmap(NULL, (size_t)s.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (!rc && p == MAP_FAILED)
        rc = err("%s: %s", path, strerror(errno));
    close(fd);
    if (rc)
        return -1;
    *bytes = p;
    *n = (size_t)s.st_size;
    return 0;
}

void file_unmap(const void *bytes, size_t n)
{
    munmap((void *)(uintptr_t)bytes, n);
}

void file_enlarge(const void *bytes, size_t n)
{
    madvise((void *)(uintptr_t)bytes, n, MADV_HUGEPAGE);
}

void file_forget(const void *bytes, size_t n)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t from = (uintptr_t)bytes / page * page;
    (void)madvise((void *)from, (uintptr_t)bytes + n - from, MADV_DONTNEED);
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

static int write_all(int fd, const char *p, size_t n)
{
    while (n) {
        const ssize_t w = write(fd, p, n);
        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return -1;
        p += w;
        n -= (size_t)w;
    }
    return 0;
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
    if (fd < 0 || write_all(fd, bytes, n) || fsync(fd))
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
