#include "tests/datasets/scratch.h"

#include <dirent.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { PATHS = 64 };

struct scratch {
    char folder[32];
    char *path[PATHS];
    int n;
};

int scratch_setup(void **state)
{
    struct scratch *s = calloc(1, sizeof *s);
    strcpy(s->folder, "/tmp/attar-test-XXXXXX");
    if (!mkdtemp(s->folder))
        return -1;
    *state = s;
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

int scratch_teardown(void **state)
{
    struct scratch *s = *state;
    const int r = nftw(s->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    for (int i = 0; i < s->n; i++)
        free(s->path[i]);
    free(s);
    return r;
}

const char *scratch_path(void *state, const char *name)
{
    struct scratch *s = state;
    assert_true(s->n < PATHS);
    char *path = malloc(strlen(s->folder) + strlen(name) + 2);
    sprintf(path, "%s/%s", s->folder, name);
    return s->path[s->n++] = path;
}

const char *scratch_folder(void *state)
{
    return ((struct scratch *)state)->folder;
}

int scratch_count(void *state)
{
    const struct scratch *s = state;
    DIR *dir = opendir(s->folder);
    assert_non_null(dir);
    int n = 0;
    for (struct dirent *e; (e = readdir(dir));)
        n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
    closedir(dir);
    return n;
}

char *scratch_read(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    *n = (size_t)ftell(f);
    rewind(f);
    char *bytes = malloc(*n + 1);
    assert_int_equal(fread(bytes, 1, *n, f), *n);
    fclose(f);
    bytes[*n] = 0;
    return bytes;
}

void scratch_write(const char *path, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

void scratch_text(const char *path, const char *text)
{
    scratch_write(path, text, strlen(text));
}

char *scratch_data(const char *name)
{
    char path[1024];
    const char *folder = getenv("ATTAR_DATA");
    if (!folder || !*folder)
        folder = "../shared/data";
    snprintf(path, sizeof path, "%s/%s", folder, name);
    char *real = realpath(path, NULL);
    if (!real)
        print_message("%s is absent: skipped\n", path);
    return real;
}
