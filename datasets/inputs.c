#include "datasets/inputs.h"

#include <errno.h>
#include <fts.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "autograd/base/absent.h"
#include "autograd/base/buf.h"
#include "autograd/base/err.h"
#include "autograd/base/mem.h"
#include "datasets/fetch.h"

static const char HASH_MARK[] = "#sha256=";
static const char DATA_VARIABLE[] = "${ATTAR_DATA}";

/* An entry while it is being worked on. */
struct entry {
    const char *text;   /* as written, without its hash */
    const char *sha256; /* or NULL */
    size_t first;       /* input that came first out of it */
};

static bool ends_in(const char *s, size_t *n, const char *suffix)
{
    const size_t m = strlen(suffix);
    if (*n <= m || strncasecmp(s + *n - m, suffix, m) != 0)
        return false;
    *n -= m;
    return true;
}

/* What the suffix of a file's name says. */
static bool known_kind(const char *path, enum input_kind *kind, bool *xz)
{
    size_t n = strlen(path);
    *xz = ends_in(path, &n, ".xz");
    *kind = ends_in(path, &n, ".jsonl") ? INPUT_JSONL : INPUT_TXT;
    return *kind == INPUT_JSONL || ends_in(path, &n, ".txt") || ends_in(path, &n, ".md");
}

static int add(struct inputs *in, struct input i)
{
    if (mem_grow(&in->input, &in->cap, in->n + 1, sizeof *in->input))
        return -1;
    i.path = pool_text(&in->pool, i.path, strlen(i.path));
    in->input[in->n++] = i;
    return i.path ? 0 : -1;
}

static const char NO_KIND[] = "by its name no .txt, .md or .jsonl";

static int skip(struct inputs *in, const char *path, const char *why)
{
    if (mem_grow(&in->skipped, &in->cap_skipped, in->n_skipped + 1, sizeof *in->skipped))
        return -1;
    const char *copy = pool_text(&in->pool, path, strlen(path));
    in->skipped[in->n_skipped] = (struct input_skipped){copy, why};
    in->n_skipped += copy != NULL;
    return copy ? 0 : -1;
}

static int64_t mtime_of(const struct stat *st)
{
    return (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
}

static int add_file(struct inputs *in, const char *path)
{
    struct input i = {.path = path};
    struct stat st;
    if (stat(path, &st))
        return err("%s: %s", path, strerror(errno));
    if (!known_kind(path, &i.kind, &i.xz))
        return err("%s: unknown kind of file; .txt, .md and .jsonl are read, also with .xz", path);
    i.size = st.st_size;
    i.mtime = mtime_of(&st);
    return add(in, i);
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

/* A file that a folder or a pattern has come up with. */
static int add_chosen(struct inputs *in, const char *path)
{
    enum input_kind kind;
    bool xz;
    struct stat st;
    in->chosen = true;
    if (stat(path, &st))
        return errno == ENOENT ? skip(in, path, "a link to nothing")
                               : err("%s: %s", path, strerror(errno));
    if (S_ISDIR(st.st_mode))
        return skip(in, path, "a folder by itself, or a link to one");
    if (!S_ISREG(st.st_mode))
        return skip(in, path, "not a file");
    return known_kind(path, &kind, &xz) ? add_file(in, path) : skip(in, path, NO_KIND);
}

static int visit(struct inputs *in, FTS *tree, FTSENT *e)
{
    if (e->fts_info == FTS_DNR || e->fts_info == FTS_ERR || e->fts_info == FTS_NS)
        return err("%s: %s", e->fts_path, strerror(e->fts_errno));
    if (e->fts_level > 0 && e->fts_name[0] == '.') {
        fts_set(tree, e, FTS_SKIP);
        return 0;
    }
    if (e->fts_info == FTS_D || e->fts_info == FTS_DP)
        return 0;
    return add_chosen(in, e->fts_path);
}

static int add_folder(struct inputs *in, char *path)
{
    const size_t before = in->n;
    char *const roots[] = {path, NULL};
    FTS *tree = fts_open(roots, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_NOCHDIR, by_name);
    if (!tree)
        return err("%s: %s", path, strerror(errno));
    int r = 0;
    FTSENT *e;
    while (!r && (errno = 0, e = fts_read(tree)))
        r = visit(in, tree, e);
    if (!r && errno)
        r = err("%s: %s", path, strerror(errno));
    fts_close(tree);
    if (!r && in->n == before)
        r = err("%s: no .txt, .md or .jsonl file in this folder, nor one of them with .xz", path);
    return r;
}

static int add_pattern(struct inputs *in, const char *pattern)
{
    glob_t g;
    const size_t before = in->n;
    const int e = glob(pattern, 0, NULL, &g); // sorted
    int r = 0;
    if (e == GLOB_NOMATCH)
        return err("%s: no file matches", pattern);
    if (e)
        return err("%s: %s", pattern, e == GLOB_NOSPACE ? "out of memory" : "cannot be read");
    for (size_t i = 0; !r && i < g.gl_pathc; i++)
        r = add_chosen(in, g.gl_pathv[i]);
    globfree(&g);
    if (!r && in->n == before)
        r = err("%s: no .txt, .md or .jsonl file matches, nor one of them with .xz", pattern);
    return r;
}

/* Looks for a program as posix_spawnp() will. */
static bool find_program(const char *name, struct stat *st)
{
    const char *path = getenv("PATH");
    bool found = false;
    while (path && *path && !found) {
        struct buf file = {0};
        const size_t n = strcspn(path, ":");
        buf_printf(&file, "%.*s/%s", (int)n, path, name);
        found = !file.failed && !stat(file.p, st) && S_ISREG(st->st_mode);
        buf_free(&file);
        path += n + (path[n] == ':');
    }
    return found;
}

static int add_bible(struct inputs *in)
{
    struct input i = {.path = "bible-kjv", .kind = INPUT_BIBLE};
    struct stat st;
    if (find_program("bible", &st)) {
        i.size = st.st_size;
        i.mtime = mtime_of(&st);
    }
    return add(in, i);
}

/* The entry as a path: the variable replaced, the base folder in front. */
static int resolve(const char *text, const char *base_dir, struct buf *path)
{
    if (!strncmp(text, DATA_VARIABLE, sizeof DATA_VARIABLE - 1)) {
        const char *value = getenv("ATTAR_DATA");
        buf_text(path, value && *value ? value : "../shared/data");
        text += sizeof DATA_VARIABLE - 1;
    } else if (*text != '/' && strcmp(base_dir, ".")) {
        buf_printf(path, "%s/", base_dir);
    }
    if (strstr(text, "${"))
        return err("%s: only %s at the start is replaced", text, DATA_VARIABLE);
    buf_text(path, text);
    return path->failed ? -1 : 0;
}

static int add_entry(struct inputs *in, const struct entry *e, const char *base_dir,
                     const char *cache_dir)
{
    struct buf path = {0};
    struct stat st;
    int r;
    if (!strcmp(e->text, "bible-kjv"))
        return add_bible(in);
    if (!strncmp(e->text, "http://", 7) || !strncmp(e->text, "https://", 8)) {
        r = fetch_file(e->text, e->sha256, cache_dir, &path);
        if (!r)
            r = add_file(in, path.p);
    } else {
        r = resolve(e->text, base_dir, &path);
        if (!r && !stat(path.p, &st))
            r = S_ISDIR(st.st_mode) ? add_folder(in, path.p) : add_file(in, path.p);
        else if (!r && errno == ENOENT && strpbrk(path.p, "*?["))
            r = add_pattern(in, path.p);
        else if (!r)
            r = absent_report(path.p);
    }
    buf_free(&path);
    return r;
}

/* Gives the inputs of an entry its hash: there must be one. */
static int set_hash(struct inputs *in, const struct entry *e)
{
    if (!e->sha256)
        return 0;
    if (in->n - e->first != 1 || in->input[e->first].kind == INPUT_BIBLE)
        return err("%s: a sha256 is that of one file; this is %zu (several can each have "
                   "%s... behind their name)",
                   e->text, in->n - e->first, HASH_MARK);
    in->input[e->first].sha256 = e->sha256;
    return 0;
}

int inputs_find(struct inputs *in, size_t n, const char *const *entry, const char *sha256,
                const char *base_dir, const char *cache_dir)
{
    *in = (struct inputs){0};
    if (!n)
        return err("corpus: is empty");
    if (sha256 && n > 1)
        return err("sha256: is that of one file; for several, put %s<hash> behind their names",
                   HASH_MARK);
    for (size_t i = 0; i < n; i++) {
        const char *mark = strstr(entry[i], HASH_MARK);
        const size_t length = mark ? (size_t)(mark - entry[i]) : strlen(entry[i]);
        const struct entry e = {
            .text = pool_text(&in->pool, entry[i], length),
            .sha256 = mark ? mark + sizeof HASH_MARK - 1 : sha256,
            .first = in->n,
        };
        const char *hash = e.sha256 ? pool_text(&in->pool, e.sha256, strlen(e.sha256)) : NULL;
        if (!e.text || (e.sha256 && !hash))
            return -1;
        if (mark && sha256 && strcmp(e.sha256, sha256))
            return err("%s: has two different SHA-256", e.text);
        if (add_entry(in, &(struct entry){e.text, hash, e.first}, base_dir, cache_dir) ||
            set_hash(in, &(struct entry){e.text, hash, e.first}))
            return err_in("corpus");
    }
    return 0;
}

void inputs_describe(const struct inputs *in, struct buf *out)
{
    enum { NAMES = 12 };
    if (!in->chosen)
        return;
    buf_printf(out, "%zu file%s read: ", in->n, in->n == 1 ? " is" : "s are");
    for (size_t i = 0; i < in->n && i < NAMES; i++)
        buf_printf(out, "%s%s", i ? ", " : "", in->input[i].path);
    if (in->n > NAMES)
        buf_printf(out, " and %zu more", in->n - NAMES);
    for (size_t i = 0; i < in->n_skipped && i < NAMES; i++)
        buf_printf(out, "%s%s (%s)", i ? ", " : "; skipped: ", in->skipped[i].path,
                   in->skipped[i].why);
    if (in->n_skipped > NAMES)
        buf_printf(out, " and %zu more", in->n_skipped - NAMES);
}

void inputs_free(struct inputs *in)
{
    free(in->input);
    free(in->skipped);
    pool_free(&in->pool);
    *in = (struct inputs){0};
}
