/* Files in memory, and what happens if one becomes shorter meanwhile. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "autograd/base/absent.h"
#include "autograd/base/aside.h"
#include "autograd/base/err.h"
#include "autograd/base/file.h"
#include "autograd/base/mem.h"

/* What is mapped, for a signal handler: it takes no lock, so that `path` is set last and taken
   first. A file beyond these is mapped too; if it is cut off, the signal ends the process. */
static struct {
    uintptr_t base;
    size_t n;
    char *_Atomic path;
} maps[256];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static int remember(const void *base, size_t n, const char *path)
{
    char *copy = mem_text(path, strlen(path));
    if (!copy)
        return -1;
    size_t i = 0;
    pthread_mutex_lock(&mutex);
    while (i < sizeof maps / sizeof *maps && maps[i].path)
        i++;
    if (i < sizeof maps / sizeof *maps) {
        maps[i].base = (uintptr_t)base;
        maps[i].n = n;
        maps[i].path = copy;
        copy = NULL;
    }
    pthread_mutex_unlock(&mutex);
    free(copy);
    return 0;
}

static void forget(const void *base)
{
    pthread_mutex_lock(&mutex);
    for (size_t i = 0; i < sizeof maps / sizeof *maps; i++) {
        if (maps[i].path && maps[i].base == (uintptr_t)base) {
            free(atomic_exchange(&maps[i].path, NULL));
            break;
        }
    }
    pthread_mutex_unlock(&mutex);
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
    if (!rc && remember(p, (size_t)s.st_size, path)) {
        munmap(p, (size_t)s.st_size);
        rc = err_in("%s", path);
    }
    if (rc)
        return -1;
    *bytes = p;
    *n = (size_t)s.st_size;
    return 0;
}

void file_unmap(const void *bytes, size_t n)
{
    forget(bytes);
    munmap((void *)(uintptr_t)bytes, n);
}

/* ---- a mapped file that became shorter ---- */

static void say(const char *s)
{
    if (write(STDERR_FILENO, s, strlen(s)) < 0)
        return; // there is no other way to say it
}

static void past_end(int sig, siginfo_t *info, void *context)
{
    (void)context;
    const uintptr_t at = (uintptr_t)info->si_addr;
    for (size_t i = 0; i < sizeof maps / sizeof *maps; i++) {
        const char *path = maps[i].path;
        if (!path || at < maps[i].base || at - maps[i].base >= maps[i].n)
            continue;
        say("\nattar: ");
        say(path);
        say(": the file was cut off, or could not be read, while it was in use; nothing was "
            "written\n");
        aside_remove_all();
        _exit(1);
    }
    signal(sig, SIG_DFL); // the access is tried again, and ends the process
}

void file_catch_cut(void)
{
    struct sigaction a;
    memset(&a, 0, sizeof a);
    sigemptyset(&a.sa_mask);
    a.sa_flags = SA_SIGINFO;
    a.sa_sigaction = past_end;
    sigaction(SIGBUS, &a, NULL);
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
