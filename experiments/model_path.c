#include "experiments/model_path.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "autograd/base/err.h"
#include "experiments/checkpoint.h"
#include "experiments/import_hf.h"
#include "experiments/model_gguf.h"

enum { PATH_BYTES = 4096 };

/* "02-qat" -> 2, or -1. */
static int stage_number(const char *name)
{
    int number, end = 0;
    const bool whole = sscanf(name, "%4d-%n", &number, &end) == 1 && end;
    return whole && *name >= '0' && *name <= '9' ? number : -1;
}

/* Finds the stage's folder with the highest number that has a checkpoint. */
static int find_stage(const char *folder, struct buf *path)
{
    int best = -1;
    DIR *d = opendir(folder);
    if (!d)
        return err("%s: %s", folder, strerror(errno));
    for (const struct dirent *e; (e = readdir(d));) {
        char stage[PATH_BYTES / 2], file[PATH_BYTES];
        const int number = stage_number(e->d_name);
        const int n = snprintf(stage, sizeof stage, "%s/%s", folder, e->d_name);
        if (number <= best || n >= (int)sizeof stage)
            continue;
        checkpoint_name(file, stage, -1);
        if (access(file, F_OK))
            continue;
        best = number;
        buf_clear(path);
        buf_text(path, file);
    }
    closedir(d);
    if (best < 0)
        return err("%s: no checkpoint.h5 in this folder, nor in a stage's folder below it", folder);
    return path->failed ? -1 : 0;
}

int model_path(const char *name, struct buf *path)
{
    struct stat s;
    char file[PATH_BYTES];
    buf_clear(path);
    if (stat(name, &s))
        return err("%s: %s", name, strerror(errno));
    if (S_ISDIR(s.st_mode)) {
        checkpoint_name(file, name, -1);
        if (access(file, F_OK)) {
            if (!import_hf_is(name))
                return find_stage(name, path);
        } else {
            name = file;
        }
    }
    buf_text(path, name);
    return path->failed ? -1 : 0;
}

int model_path_open(const char *name, struct transformer *m, struct tokenizer **tok,
                    struct buf *path)
{
    struct buf own = {0}, *p = path ? path : &own;
    int rc = model_path(name, p);
    if (!rc)
        rc = model_gguf_is(p->p)  ? model_gguf_use(p->p, m, tok)
             : import_hf_is(p->p) ? import_hf(p->p, m, tok)
                                  : checkpoint_use(p->p, m, tok);
    buf_free(&own);
    return rc;
}
