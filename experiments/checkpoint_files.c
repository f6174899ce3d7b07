/* The checkpoint files of a stage's folder: names, order, links, pruning. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "autograd/base/err.h"
#include "autograd/base/file.h"
#include "experiments/checkpoint.h"

void checkpoint_name(char path[4096], const char *folder, int64_t step)
{
    if (step < 0)
        snprintf(path, 4096, "%s/checkpoint.h5", folder);
    else
        snprintf(path, 4096, "%s/checkpoint-%08lld.h5", folder, (long long)step);
}

/* The step in a checkpoint's name; -1: it is another file's. */
static int64_t step_of(const char *name)
{
    char same[64];
    long long step;
    if (sscanf(name, "checkpoint-%18lld.h5", &step) != 1 || step < 0)
        return -1;
    snprintf(same, sizeof same, "checkpoint-%08lld.h5", step);
    return strcmp(name, same) ? -1 : step;
}

int checkpoint_list(const char *folder, int64_t steps[], int most)
{
    struct buf names = {0};
    int n = 0;
    if (file_list(folder, &names) < 0) {
        buf_free(&names);
        return -1;
    }
    for (size_t i = 0; i < names.n; i += strlen(names.p + i) + 1) {
        const int64_t step = step_of(names.p + i);
        if (step < 0 || (n == most && step < steps[n - 1]))
            continue;
        int at = n < most ? n++ : n - 1;
        for (; at > 0 && steps[at - 1] < step; at--)
            steps[at] = steps[at - 1];
        steps[at] = step;
    }
    buf_free(&names);
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

void checkpoint_prune(const char *folder, int64_t keep, int64_t last, int64_t best)
{
    enum { MOST = 4096 };
    static int64_t steps[MOST];
    const int n = checkpoint_list(folder, steps, MOST);
    if (n < 0)
        err_warn("no checkpoint was removed: %s", err_text());
    for (int i = keep > 1 ? (int)keep : 1; i < n; i++) {
        char path[4096];
        checkpoint_name(path, folder, steps[i]);
        if (steps[i] != last && steps[i] != best && unlink(path))
            err_warn("%s: %s", path, strerror(errno));
    }
}

void checkpoint_set_aside(const char *folder, int64_t step)
{
    char path[4096], to[4128];
    checkpoint_name(path, folder, step);
    snprintf(to, sizeof to, "%s.damaged", path);
    if (rename(path, to))
        err_warn("%s: %s", path, strerror(errno));
    else
        err_warn("it is now %s", to);
}
