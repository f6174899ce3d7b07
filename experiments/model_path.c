#include "experiments/model_path.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "autograd/base/absent.h"
#include "autograd/base/err.h"
#include "autograd/base/file.h"
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

/* Is it a run's folder, one of whose stages has a checkpoint? */
static bool has_stages(const char *folder)
{
    bool found = false;
    DIR *d = opendir(folder);
    for (const struct dirent *e; d && !found && (e = readdir(d));) {
        char stage[PATH_BYTES], file[PATH_BYTES];
        if (stage_number(e->d_name) < 0 ||
            snprintf(stage, sizeof stage, "%s/%s", folder, e->d_name) >= (int)sizeof stage - 32)
            continue;
        checkpoint_name(file, stage, -1);
        found = !access(file, F_OK);
    }
    if (d)
        closedir(d);
    return found;
}

/* A folder without a checkpoint: says where there is a model below it. */
static int no_stage(const char *folder)
{
    struct dirent **entry = NULL;
    const int n = scandir(folder, &entry, NULL, alphasort);
    struct buf found = {0};
    for (int i = 0; i < n; i++) {
        char path[PATH_BYTES], file[PATH_BYTES];
        const char *name = entry[i]->d_name;
        const size_t len = strlen(name);
        const bool gguf = len > 5 && !strcmp(name + len - 5, ".gguf");
        if (*name != '.' && !found.n &&
            snprintf(path, sizeof path, "%s/%s", folder, name) < (int)sizeof path - 32) {
            checkpoint_name(file, path, -1);
            if (gguf || !access(file, F_OK) || has_stages(path))
                buf_text(&found, path);
        }
        free(entry[i]);
    }
    free(entry);
    err("%s: no checkpoint.h5 in this folder, nor in a stage's folder below it%s%s%s", folder,
        found.n ? "; did you mean " : "", found.n ? found.p : "", found.n ? "?" : "");
    buf_free(&found);
    return -1;
}

/* Finds the stage's folder with the highest number that has a checkpoint. */
static int find_stage(const char *folder, struct buf *path)
{
    struct buf names = {0};
    int best = -1, there = file_list(folder, &names);
    for (size_t i = 0; there >= 0 && i < names.n; i += strlen(names.p + i) + 1) {
        char stage[PATH_BYTES / 2], file[PATH_BYTES];
        const int number = stage_number(names.p + i);
        const int n = snprintf(stage, sizeof stage, "%s/%s", folder, names.p + i);
        if (number <= best || n >= (int)sizeof stage)
            continue;
        checkpoint_name(file, stage, -1);
        there = file_exists(file);
        if (there <= 0)
            continue;
        best = number;
        buf_clear(path);
        buf_text(path, file);
    }
    buf_free(&names);
    if (there < 0)
        return -1;
    if (best < 0)
        return no_stage(folder);
    return path->failed ? -1 : 0;
}

int model_path(const char *name, struct buf *path)
{
    struct stat s;
    char file[PATH_BYTES];
    buf_clear(path);
    if (stat(name, &s))
        return absent_report(name);
    if (S_ISDIR(s.st_mode)) {
        checkpoint_name(file, name, -1);
        const int checkpoint = file_exists(file);
        const int hf = checkpoint ? checkpoint : import_hf_is(name);
        if (hf < 0)
            return -1;
        if (!hf)
            return find_stage(name, path);
        if (checkpoint)
            name = file;
    }
    buf_text(path, name);
    return path->failed ? -1 : 0;
}

/* The first bytes of a file that h5seal.h describes; what is no such file is no checkpoint,
 * whatever its name. */
static int check_kind(const char *path)
{
    char magic[8] = "";
    FILE *f = fopen(path, "rb");
    const size_t n = f ? fread(magic, 1, sizeof magic, f) : 0;
    if (f)
        fclose(f);
    if (!f || (n == sizeof magic && !memcmp(magic, "ATTAR-H5", sizeof magic)))
        return 0; // what is wrong with it is said by who reads it
    return err("%s: no model: neither a checkpoint .h5 nor a GGUF file", path);
}

int model_path_open(const char *name, struct transformer *m, struct tokenizer **tok,
                    struct buf *path)
{
    struct buf own = {0}, *p = path ? path : &own;
    int rc = model_path(name, p);
    const int gguf = rc ? -1 : model_gguf_is(p->p);
    const int hf = gguf ? gguf : import_hf_is(p->p);
    if (hf < 0)
        rc = -1;
    else
        rc = gguf               ? model_gguf_use(p->p, m, tok)
             : hf               ? import_hf(p->p, m, tok)
             : check_kind(p->p) ? -1
                                : checkpoint_use(p->p, m, tok);
    buf_free(&own);
    return rc;
}
