#include "autograd/base/absent.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "autograd/base/err.h"
#include "autograd/base/spell.h"

enum { PATH_BYTES = 4096, NAME_BYTES = 256, ENTRIES_MOST = 10000 };

/* The entry of the folder whose name is nearest to `name`: false if none is near. */
static bool find_near(const char *folder, const char *name, char best[NAME_BYTES])
{
    struct spell near = {.word = name};
    int left = ENTRIES_MOST, least = 0;
    DIR *d = opendir(folder);
    for (const struct dirent *e; d && left-- && (e = readdir(d));) {
        near.best = NULL;
        if (*e->d_name != '.' && strlen(e->d_name) < NAME_BYTES)
            spell_offer(&near, e->d_name);
        const bool before =
            near.best && (!least || near.distance + 1 < least ||
                          (near.distance + 1 == least && strcmp(e->d_name, best) < 0));
        if (!before) // of equals the first by name, whatever the order of the folder
            continue;
        least = near.distance + 1;
        snprintf(best, NAME_BYTES, "%s", e->d_name);
    }
    if (d)
        closedir(d);
    return least;
}

/* Adds to err() that the first n bytes of the path are a link: false if they are none. */
static bool report_link(const char *path, size_t n)
{
    char name[PATH_BYTES], to[PATH_BYTES];
    snprintf(name, sizeof name, "%.*s", (int)n, path);
    const ssize_t length = readlink(name, to, sizeof to);
    if (length >= 0)
        err("%s; '%s' is a link to '%.*s', which is not there", err_text(), name, (int)length, to);
    return length >= 0;
}

int absent_report(const char *path)
{
    const int why = errno;
    char folder[PATH_BYTES], best[NAME_BYTES] = "", here[PATH_BYTES] = "", part[NAME_BYTES];
    struct stat s;
    size_t n = strlen(path);
    err("%s: %s", path, strerror(why));
    if (why != ENOENT || !n || n >= sizeof folder)
        return -1;
    // [0, at) is the longest folder that is there, [at, end) what it lacks
    size_t at = n, end;
    do {
        for (end = at; end && path[end - 1] == '/';)
            end--;
        for (at = end; at && path[at - 1] != '/';)
            at--;
        snprintf(folder, sizeof folder, "%.*s", at ? (int)at : 1, at ? path : ".");
    } while (at && (stat(folder, &s) || !S_ISDIR(s.st_mode)));
    if (report_link(path, end) || end - at >= sizeof part || (!at && stat(".", &s)))
        return -1;
    snprintf(part, sizeof part, "%.*s", (int)(end - at), path + at);
    const bool near = find_near(folder, part, best);
    if (end + strspn(path + end, "/") < n && *path != '/' && !at && getcwd(here, sizeof here))
        err("%s; there is no folder '%s' in the current one, %s", err_text(), part, here);
    else if (end + strspn(path + end, "/") < n)
        err("%s; there is no folder '%.*s'", err_text(), (int)end, path);
    if (near)
        err("%s; did you mean %.*s%s?", err_text(), (int)at, path, best);
    return -1;
}
