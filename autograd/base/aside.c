#include "autograd/base/aside.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
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

/* The unfinished files' names, for aside_remove_all(). */
static const char *_Atomic unfinished[64];

static void note(const char *from, const char *to)
{
    for (size_t i = 0; i < sizeof unfinished / sizeof *unfinished; i++) {
        const char *expected = from;
        if (atomic_compare_exchange_strong(&unfinished[i], &expected, to))
            return;
    }
}

void aside_remove_all(void)
{
    for (size_t i = 0; i < sizeof unfinished / sizeof *unfinished; i++) {
        const char *name = atomic_exchange(&unfinished[i], NULL);
        if (name)
            (void)unlink(name);
    }
}

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

/* What cannot be listed, opened or locked stays: it harms nobody. */
static void remove_leftovers(const char *path)
{
    char *folder = folder_of(path);
    struct buf names = {0};
    const char *slash = strrchr(path, '/');
    const int dir = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (dir >= 0 && file_list(folder, &names) > 0)
        for (size_t i = 0; i < names.n; i += strlen(names.p + i) + 1)
            if (is_leftover(names.p + i, slash ? slash + 1 : path))
                remove_if_dead(dir, names.p + i);
    if (dir >= 0)
        close(dir);
    buf_free(&names);
    free(folder);
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
    int r = fstat(a->fd, &mine) ? -1 : stat(a->tmp, &named) ? errno == ENOENT ? 1 : -1 : 0;
    if (r < 0) {
        err("cannot create %s: %s", a->tmp, strerror(errno));
        (void)unlink(a->tmp);
    }
    if (!r && mine.st_ino == named.st_ino) {
        note(NULL, a->tmp);
        return 0;
    }
    close(a->fd);
    a->fd = -1;
    return r < 0 ? -1 : 1;
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
    note(a->tmp, NULL);
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
    note(a->tmp, NULL);
    close(a->fd);
    free(a->tmp);
    free(a->path);
    *a = (struct aside){.fd = -1};
}
