/* The checkpoint files of a stage's folder: names, order, links, pruning. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "autograd/base/file.h"
#include "experiments/checkpoint.h"

void checkpoint_name(char path[4096], const char *folder, int64_t step)
{
    if (step < 0)
        snprintf(path, 4096, "%s/checkpoint.h5", folder);
    else
        snprintf(path, 4096, "%s/checkpoint-%08lld.h5", folder, (long long)step);
}

static int newer(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

int checkpoint_list(const char *folder, int64_t steps[], int most)
{
    DIR *d = opendir(folder);
    if (!d)
        return errno == ENOENT ? 0 : err("%s: %s", folder, strerror(errno));
    int n = 0;
    for (const struct dirent *e; n < most && (e = readdir(d));) {
        long long step;
        int end = 0;
        if (sscanf(e->d_name, "checkpoint-%lld.h5%n", &step, &end) == 1 && end &&
            !e->d_name[end] && step >= 0)
            steps[n++] = step;
    }
    closedir(d);
    qsort(steps, (size_t)n, sizeof *steps, newer);
    return n;
}

int checkpoint_link(const char *folder, int64_t step, const char *link_name)
{
    char from[4096], to[4096], aside[4128];
    checkpoint_name(from, folder, step);
    if (snprintf(to, sizeof to, "%s/%s", folder, link_name) >= (int)sizeof to)
        return err("%s: the path is too long", folder);
    snprintf(aside, sizeof aside, "%s.link", to);
    unlink(aside);
    // where a file system has no hard links, a symbolic one serves until pruning
    if (link(from, aside) && symlink(strrchr(from, '/') + 1, aside))
        return err("%s: %s", aside, strerror(errno));
    if (rename(aside, to))
        return err("%s: %s", to, strerror(errno));
    unlink(aside); // rename() of two names of one file does nothing
    return file_sync_folder(to);
}

void checkpoint_prune(const char *folder, int64_t keep, int64_t best)
{
    enum { MOST = 4096 };
    static int64_t steps[MOST];
    const int n = checkpoint_list(folder, steps, MOST);
    for (int i = keep > 1 ? (int)keep : 1; i < n; i++) {
        char path[4096];
        checkpoint_name(path, folder, steps[i]);
        if (steps[i] != best && unlink(path))
            err_warn("%s: %s", path, strerror(errno));
    }
}
