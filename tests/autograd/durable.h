/*
 * Watches how a file is made durable: a test program that includes this has fsync() and rename() of
 * its own, which note the order of calls and can fail.
 */
#ifndef ATTAR_TESTS_AUTOGRAD_DURABLE_H
#define ATTAR_TESTS_AUTOGRAD_DURABLE_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static char durable_calls[64];    /* f: a file synced, d: a folder synced, r: renamed */
static bool durable_failing_sync; /* of files: with EIO */

static void durable_note(char what)
{
    const size_t n = strlen(durable_calls);
    if (n + 1 < sizeof durable_calls) {
        durable_calls[n] = what;
        durable_calls[n + 1] = 0;
    }
}

int fsync(int fd)
{
    struct stat st;
    const bool folder = !fstat(fd, &st) && S_ISDIR(st.st_mode);
    durable_note(folder ? 'd' : 'f');
    if (!folder && durable_failing_sync) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fsync, fd);
}

int rename(const char *from, const char *to)
{
    durable_note('r');
    return renameat(AT_FDCWD, from, AT_FDCWD, to);
}

#endif
