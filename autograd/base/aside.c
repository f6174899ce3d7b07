#include "autograd/base/aside.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "autograd/base/buf.h"
#include "autograd/base/err.h"
#include "autograd/base/file.h"
#include "autograd/base/mem.h"

static const char TAG[] = ".tmp-";

static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return mem_text(".", 1);
    return mem_text(path, slash == path ? 1 : (size_t)(slash - path));
}

static bool is_leftover(const char *name, const char *stem)
{
    const size_t n = strlen(stem);
    if (strncmp(name, stem, n) || strncmp(name + n, TAG, sizeof TAG - 1))
        return false;
    const char *pid = name + n + sizeof TAG - 1;
    return *pid && strspn(pid, "0123456789") == strlen(pid);
}

static void remove_if_dead(int folder, const char *name)
{
    const int fd = openat(folder, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return;
    if (!flock(fd, LOCK_EX | LOCK_NB))
        (void)unlinkat(folder, name, 0);
    close(fd);
}

static void remove_leftovers(const char *path)
{
    char *folder = folder_of(path);
    const char *slash = strrchr(path, '/');
    DIR *dir = folder ? opendir(folder) : NULL;
    free(folder);
    if (!dir)
        return;
    for (struct dirent *e; (e = readdir(dir));)
        if (is_leftover(e->d_name, slash ? slash + 1 : path))
            remove_if_dead(dirfd(dir), e->d_name);
    closedir(dir);
}

/* Creates and locks a->tmp. 1: another process took the new file for a dead one's; try again. */
static int create_locked(struct aside *a)
{
    struct stat mine, named;
    a->fd = open(a->tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (a->fd < 0 && errno == EEXIST)
        return err("%s: is being written by this process already", a->path);
    if (a->fd < 0)
        return err("cannot create %s: %s%s", a->path, strerror(errno),
                   errno == ENOENT ? ": its folder is not there" : "");
    // a file system without locks leaves the file unlocked: then only leftovers stay for longer
    (void)flock(a->fd, LOCK_EX | LOCK_NB);
    if (!fstat(a->fd, &mine) && !stat(a->tmp, &named) && mine.st_ino == named.st_ino)
        return 0;
    close(a->fd);
    a->fd = -1;
    return 1;
}

int aside_open(struct aside *a, const char *path)
{
    struct buf tmp = {0};
    *a = (struct aside){.fd = -1};
    if (file_check_out(path))
        return -1;
    buf_printf(&tmp, "%s%s%ld", path, TAG, (long)getpid());
    a->tmp = tmp.p;
    a->path = mem_text(path, strlen(path));
    int r = tmp.failed || !a->path ? -1 : 1;
    for (int tries = 0; r == 1 && tries < 100; tries++) {
        remove_leftovers(path);
        r = create_locked(a);
    }
    if (!r)
        return 0;
    if (r == 1)
        err("cannot create %s: another process keeps removing it", a->tmp);
    free(a->tmp);
    free(a->path);
    *a = (struct aside){.fd = -1};
    return -1;
}

int aside_commit(struct aside *a)
{
    int r = 0;
    if (fsync(a->fd))
        r = err("cannot write %s: %s", a->path, strerror(errno));
    if (!r && rename(a->tmp, a->path))
        r = err("cannot rename %s: %s", a->tmp, strerror(errno));
    if (r) {
        aside_abandon(a);
        return r;
    }
    r = file_sync_folder(a->path);
    close(a->fd);
    free(a->tmp);
    free(a->path);
    *a = (struct aside){.fd = -1};
    return r;
}

void aside_abandon(struct aside *a)
{
    if (!a->tmp)
        return;
    (void)unlink(a->tmp);
    close(a->fd);
    free(a->tmp);
    free(a->path);
    *a = (struct aside){.fd = -1};
}
