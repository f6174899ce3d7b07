#include "experiments/config.h"

#include <string.h>
#include <sys/stat.h>

#include "autograd/base/err.h"
#include "autograd/base/file.h"
#include "experiments/config_parts.h"

enum { ERR_BYTES = ERR_TEXT_MAX - 2048 }; // the rest is for a last long line

int config_stage_find(const struct config *c, const char *name)
{
    for (int i = 0; i < c->n_stages; i++)
        if (!strcmp(c->stages[i].name, name))
            return i;
    return -1;
}

void config_free(struct config *c)
{
    pool_free(&c->pool);
    memset(c, 0, sizeof *c);
}

int config_parse(struct config *c, const char *text, size_t n, const char *folder, int n_overrides,
                 const char *const *overrides, struct mistakes *bad)
{
    struct yaml **nodes = NULL;
    memset(c, 0, sizeof *c);
    c->folder = pool_text(&c->pool, folder, strlen(folder));
    struct yaml *root = yaml_parse(text, n, 0, &c->pool, bad);
    if (!c->folder)
        mistake_add(bad, (struct place){0, 1, 1}, "%s", err_text());
    if (root && root->kind != YAML_TREE) {
        mistake_add(bad, root->at, "expected a map of keys and values, not %s",
                    yaml_kind_name(root));
        root = NULL;
    }
    if (root && c->folder) {
        for (int i = 0; i < n_overrides; i++)
            config_override(root, overrides[i], i + 1, &c->pool, bad);
        const bool all_known = config_bind(c, root, &nodes, &c->pool, bad);
        config_paths(c, root, nodes, bad);
        config_rules(c, root, nodes, all_known, bad);
        c->root = root;
        c->nodes = nodes;
    }
    return mistake_any(bad) ? -1 : 0;
}

int config_refuse(struct mistakes *bad)
{
    struct buf list = {0};
    const size_t total = bad->n + bad->dropped;
    mistake_print(bad, ERR_BYTES, &list);
    if (!list.failed)
        err("%zu mistake%s in the config\n%s", total, total == 1 ? "" : "s", list.p);
    buf_free(&list);
    return -1;
}

int config_read(struct config *c, const char *path, int n_overrides, const char *const *overrides)
{
    struct mistakes bad = {.file = path};
    struct buf text = {0}, folder = {0};
    memset(c, 0, sizeof *c);
    const char *slash = strrchr(path, '/');
    if (slash)
        buf_add(&folder, path, slash == path ? 1 : (size_t)(slash - path));
    else
        buf_text(&folder, ".");
    struct stat s;
    int rc = !stat(path, &s) && S_ISDIR(s.st_mode)
                 ? err("%s is a folder: a config is wanted, a file such as "
                       "experiments/configs/quickstart.yaml",
                       path)
                 : file_read(path, YAML_BYTES_MAX, &text);
    if (!rc && folder.failed)
        rc = -1;
    if (!rc &&
        config_parse(c, text.p ? text.p : "", text.n, folder.p, n_overrides, overrides, &bad)) {
        rc = config_refuse(&bad);
    }
    c->file = pool_text(&c->pool, path, strlen(path));
    mistake_free(&bad);
    buf_free(&folder);
    buf_free(&text);
    return rc;
}
