#include "datasets/fetch.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "autograd/base/aside.h"
#include "autograd/base/err.h"
#include "autograd/base/file.h"
#include "autograd/base/mem.h"
#include "datasets/child.h"
#include "datasets/stream.h"

enum { BLOCK = 1 << 16, HASH_IN_NAME = 16 };

static int copy(int from, int to)
{
    char *block = mem_new(BLOCK, 1);
    int r = block ? 0 : -1;
    while (!r) {
        const ssize_t n = read(from, block, BLOCK);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            r = err("cannot read from curl: %s", strerror(errno));
        if (n <= 0)
            break;
        if (file_write(to, block, (size_t)n, -1))
            r = err("cannot write: %s", strerror(errno));
    }
    free(block);
    return r;
}

static int run_curl(const char *url, int to)
{
    const char *const argv[] = {"curl",         "--fail",     "--silent",
                                "--show-error", "--location", "--proto",
                                "=http,https",  "--globoff",  "--connect-timeout",
                                "30",           "--retry",    "2",
                                "--",           url,          NULL};
    struct child curl;
    if (child_start(&curl, argv, "curl"))
        return -1;
    if (copy(curl.out, to)) {
        child_abandon(&curl);
        return -1;
    }
    return child_finish(&curl);
}

/* Reads the file to its end, which verifies the hash. */
static int verify(const char *path, bool xz, const char *sha256)
{
    struct stream *s;
    size_t got = 1;
    char *block = mem_new(BLOCK, 1);
    if (!block)
        return -1;
    int r = stream_open(&s, path, xz, sha256);
    if (!r) {
        while (!r && got)
            r = stream_read(s, block, BLOCK, &got);
        stream_close(s);
    }
    free(block);
    return r;
}

static int fetch(const char *url, const char *sha256, const char *path)
{
    struct aside a;
    const size_t n = strlen(path);
    if (aside_open(&a, path))
        return -1;
    if (run_curl(url, a.fd))
        err_in("%s: cannot be fetched (without network: put the file at %s)", url, path);
    else if (!verify(a.tmp, n > 3 && !strcmp(path + n - 3, ".xz"), sha256))
        return aside_commit(&a);
    else
        err_in("%s", url);
    aside_abandon(&a);
    return -1;
}

/* The URL's last part, with harmless characters only. */
static void add_name(struct buf *path, const char *url)
{
    const size_t n = strcspn(url, "?#");
    size_t start = n;
    while (start && url[start - 1] != '/')
        start--;
    for (size_t i = start; i < n; i++)
        buf_add(path, isalnum((unsigned char)url[i]) || strchr(".-_", url[i]) ? url + i : "_", 1);
}

int fetch_file(const char *url, const char *sha256, const char *folder, struct buf *path)
{
    const size_t at = path->n;
    if (!sha256 || strlen(sha256) != STREAM_HEX - 1)
        return err("%s: a URL needs the SHA-256 of its file: `sha256: ` and 64 hex digits", url);
    buf_printf(path, "%s/%.*s-", folder, HASH_IN_NAME, sha256);
    add_name(path, url);
    if (path->failed)
        return -1;
    const int there = file_exists(path->p + at);
    return there < 0 ? -1 : there ? 0 : fetch(url, sha256, path->p + at);
}
