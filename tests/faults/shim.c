/*
 * A shared object for LD_PRELOAD that makes one call of the C library fail, as sqlite's tests do:
 *
 *     FAULT=KIND:N:ERROR    the N-th call of that kind, from 1, in each process image of FAULT_OF
 *     FAULT=KIND:N+:ERROR   the N-th and all after it
 *     FAULT_OF=NAME         only in programs of this name (default: attar)
 *     FAULT_LOG=FILE        appends, at the program's end, the number of calls of each kind
 *
 * KIND: a row of kinds.def. ERROR: a name of `errors` below, `short`: half of the bytes are moved,
 * or `cut`: the file that mmap has mapped then loses all but its first page. Not seen are calls
 * that the C library makes itself, such as the reads below getc() and the mmap of a thread's stack.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum kind {
#define KIND(name, errors) KIND_##name,
#include "tests/faults/kinds.def"
#undef KIND
    KINDS
};

static const char *const kind_names[KINDS] = {
#define KIND(name, errors) #name,
#include "tests/faults/kinds.def"
#undef KIND
};

enum { SHORT = -1, CUT = -2 };

static const struct {
    const char *name;
    int value;
} errors[] = {
    {"EIO", EIO},       {"ENOMEM", ENOMEM}, {"EMFILE", EMFILE},
    {"ENOSPC", ENOSPC}, {"EAGAIN", EAGAIN}, {"EINTR", EINTR},
    {"EACCES", EACCES}, {"short", SHORT},   {"cut", CUT},
};

static atomic_long calls[KINDS];
static int wanted = KINDS, error_value;
static long at;
static bool lasting, ready;

extern char *program_invocation_short_name;

/* Before main(), and before any call counts: getenv() and strtol() allocate nothing. */
__attribute__((constructor)) static void prepare(void)
{
    const char *of = getenv("FAULT_OF"), *s = getenv("FAULT");
    ready = !strcmp(program_invocation_short_name, of ? of : "attar");
    if (!ready || !s)
        return;
    const size_t n = strcspn(s, ":");
    char *rest;
    at = strtol(s + n + (s[n] == ':'), &rest, 10);
    lasting = *rest == '+';
    rest += lasting;
    for (int k = 0; k < KINDS; k++)
        if (strlen(kind_names[k]) == n && !strncmp(s, kind_names[k], n))
            wanted = k;
    for (size_t e = 0; e < sizeof errors / sizeof *errors; e++)
        if (*rest == ':' && !strcmp(rest + 1, errors[e].name))
            error_value = errors[e].value;
    if (wanted == KINDS || !error_value || at < 0)
        _exit(99);
}

__attribute__((destructor)) static void count(void)
{
    const char *path = getenv("FAULT_LOG");
    char line[64];
    const int fd = ready && path ? (int)syscall(SYS_openat, AT_FDCWD, path,
                                                O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666)
                                 : -1;
    for (int k = 0; fd >= 0 && k < KINDS; k++) {
        const int n = snprintf(line, sizeof line, "%s %ld\n", kind_names[k], calls[k]);
        syscall(SYS_write, fd, line, (size_t)n);
    }
    if (fd >= 0)
        syscall(SYS_close, fd);
}

/* 0: the call goes through; 1: it fails, errno is set; or SHORT, CUT. */
static int strikes(enum kind k)
{
    if (!ready)
        return 0;
    const long n = atomic_fetch_add(&calls[k], 1) + 1;
    if ((int)k != wanted || !at || (lasting ? n < at : n != at))
        return 0;
    if (error_value < 0)
        return error_value;
    errno = error_value;
    return 1;
}

static size_t half(int how, size_t n)
{
    return how == SHORT && n > 1 ? n / 2 : n;
}

/* The next definition of this very function. */
#define REAL(result, name, ...)                                                                    \
    static result (*real)(__VA_ARGS__);                                                            \
    if (!real)                                                                                     \
    *(void **)(void *)&real = dlsym(RTLD_NEXT, #name)

#define MODE(flags, last)                                                                          \
    mode_t mode = 0;                                                                               \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                                                         \
        va_list ap;                                                                                \
        va_start(ap, last);                                                                        \
        mode = va_arg(ap, mode_t);                                                                 \
        va_end(ap);                                                                                \
    }

int open(const char *path, int flags, ...)
{
    MODE(flags, flags)
    return strikes(KIND_open) ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int openat(int folder, const char *path, int flags, ...)
{
    MODE(flags, flags)
    return strikes(KIND_open) ? -1 : (int)syscall(SYS_openat, folder, path, flags, mode);
}

FILE *fopen(const char *path, const char *mode)
{
    REAL(FILE *, fopen, const char *, const char *);
    return strikes(KIND_open) ? NULL : real(path, mode);
}

DIR *opendir(const char *path)
{
    REAL(DIR *, opendir, const char *);
    return strikes(KIND_open) ? NULL : real(path);
}

struct dirent *readdir(DIR *d)
{
    REAL(struct dirent *, readdir, DIR *);
    return strikes(KIND_readdir) ? NULL : real(d);
}

int stat(const char *restrict path, struct stat *restrict s)
{
    REAL(int, stat, const char *, struct stat *);
    return strikes(KIND_stat) ? -1 : real(path, s);
}

int fstat(int fd, struct stat *s)
{
    REAL(int, fstat, int, struct stat *);
    return strikes(KIND_stat) ? -1 : real(fd, s);
}

int access(const char *path, int mode)
{
    REAL(int, access, const char *, int);
    return strikes(KIND_stat) ? -1 : real(path, mode);
}

int mkdir(const char *path, mode_t mode)
{
    REAL(int, mkdir, const char *, mode_t);
    return strikes(KIND_mkdir) ? -1 : real(path, mode);
}

ssize_t read(int fd, void *p, size_t n)
{
    const int how = strikes(KIND_read);
    return how == 1 ? -1 : syscall(SYS_read, fd, p, half(how, n));
}

ssize_t pread(int fd, void *p, size_t n, off_t from)
{
    const int how = strikes(KIND_pread);
    return how == 1 ? -1 : syscall(SYS_pread64, fd, p, half(how, n), from);
}

ssize_t write(int fd, const void *p, size_t n)
{
    const int how = strikes(KIND_write);
    return how == 1 ? -1 : syscall(SYS_write, fd, p, half(how, n));
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t to)
{
    const int how = strikes(KIND_pwrite);
    return how == 1 ? -1 : syscall(SYS_pwrite64, fd, p, half(how, n), to);
}

int fsync(int fd)
{
    REAL(int, fsync, int);
    return strikes(KIND_fsync) ? -1 : real(fd);
}

int ftruncate(int fd, off_t n)
{
    REAL(int, ftruncate, int, off_t);
    return strikes(KIND_truncate) ? -1 : real(fd, n);
}

int truncate(const char *path, off_t n)
{
    REAL(int, truncate, const char *, off_t);
    return strikes(KIND_truncate) ? -1 : real(path, n);
}

int rename(const char *from, const char *to)
{
    REAL(int, rename, const char *, const char *);
    return strikes(KIND_rename) ? -1 : real(from, to);
}

int link(const char *from, const char *to)
{
    REAL(int, link, const char *, const char *);
    return strikes(KIND_link) ? -1 : real(from, to);
}

int setenv(const char *name, const char *value, int replace)
{
    REAL(int, setenv, const char *, const char *, int);
    return strikes(KIND_setenv) ? -1 : real(name, value, replace);
}

void *mmap(void *p, size_t n, int prot, int flags, int fd, off_t from)
{
    const int how = strikes(KIND_mmap);
    if (how == 1)
        return MAP_FAILED;
    void *map = (void *)syscall(SYS_mmap, p, n, prot, flags, fd, from);
    char path[32];
    if (how == CUT && fd >= 0) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        syscall(SYS_truncate, path, 4096L);
    }
    return map;
}

int pthread_create(pthread_t *restrict t, const pthread_attr_t *restrict attr,
                   void *(*start)(void *), void *restrict arg)
{
    REAL(int, pthread_create, pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    return strikes(KIND_thread) ? errno : real(t, attr, start, arg);
}

/* glibc's own names: looking them up would allocate. */
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);

void *malloc(size_t n)
{
    return strikes(KIND_malloc) ? NULL : __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
    return strikes(KIND_malloc) ? NULL : __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
    return n && strikes(KIND_malloc) ? NULL : __libc_realloc(p, n);
}

void *aligned_alloc(size_t align, size_t n)
{
    return strikes(KIND_malloc) ? NULL : __libc_memalign(align, n);
}

int posix_memalign(void **out, size_t align, size_t n)
{
    void *p = strikes(KIND_malloc) ? NULL : __libc_memalign(align, n);
    if (!p)
        return ENOMEM;
    *out = p;
    return 0;
}
