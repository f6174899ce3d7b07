#include "tests/experiments/capture.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { ARGS = 32 };

struct channel {
    FILE *stream, *file;
    int saved;
};

static struct channel redirect(FILE *stream)
{
    struct channel c = {stream, tmpfile(), -1};
    assert_non_null(c.file);
    fflush(stream);
    c.saved = dup(fileno(stream));
    assert_true(c.saved >= 0 && dup2(fileno(c.file), fileno(stream)) >= 0);
    return c;
}

static void restore(struct channel *c, struct buf *text)
{
    char block[4096];
    size_t n;
    fflush(c->stream);
    dup2(c->saved, fileno(c->stream));
    close(c->saved);
    buf_clear(text);
    buf_text(text, "");
    rewind(c->file);
    while ((n = fread(block, 1, sizeof block, c->file)) > 0)
        buf_add(text, block, n);
    fclose(c->file);
}

int capture_run(int (*run)(int argc, char **argv), const char *const *argv, struct buf *out,
                struct buf *notes)
{
    char *copy[ARGS] = {NULL};
    int argc = 0;
    for (; argv[argc]; argc++) {
        assert_true(argc + 1 < ARGS);
        copy[argc] = (char *)(uintptr_t)argv[argc];
    }
    struct channel o = redirect(stdout), e = redirect(stderr);
    const int rc = run(argc, copy);
    restore(&e, notes);
    restore(&o, out);
    return rc;
}

int capture_run_from(const char *path, int (*run)(int argc, char **argv), const char *const *argv,
                     struct buf *out, struct buf *notes)
{
    const int saved = dup(STDIN_FILENO), fd = open(path, O_RDONLY);
    assert_true(fd >= 0 && dup2(fd, STDIN_FILENO) == STDIN_FILENO);
    close(fd);
    const int rc = capture_run(run, argv, out, notes);
    dup2(saved, STDIN_FILENO);
    close(saved);
    return rc;
}
