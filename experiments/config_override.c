#include <stdlib.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/utf8.h"
#include "experiments/config_parts.h"

struct override {
    struct place at;
    struct pool *pool;
    struct mistakes *bad;
};

/* The name of a stage item (or NULL) and, in *map, what its one key holds. */
static const char *stage_name(const struct yaml *item, struct yaml **map)
{
    if (item->kind != YAML_TREE || item->n_children != 1)
        return NULL;
    *map = item->first;
    const struct yaml *name = yaml_get(*map, "name");
    return name && name->kind == YAML_TEXT ? name->text : (*map)->key;
}

static struct yaml *stage_by_name(const struct yaml *root, const char *name)
{
    const struct yaml *stages = yaml_get(root, "stages");
    if (!stages || stages->kind != YAML_LIST)
        return NULL;
    for (const struct yaml *item = stages->first; item; item = item->next) {
        struct yaml *map;
        const char *its = stage_name(item, &map);
        if (its && !strcmp(its, name))
            return map;
    }
    return NULL;
}

static struct yaml *stage_by_index(const struct override *o, const struct yaml *stages,
                                   const char *index)
{
    if (stages->kind != YAML_LIST || !stages->first) {
        mistake_add(o->bad, o->at, "the config has no list of stages");
        return NULL;
    }
    const size_t digits = strspn(index, "0123456789");
    const long i = digits && digits < 6 && !index[digits] ? strtol(index, NULL, 10) : -1;
    if (i < 0 || i >= stages->n_children) {
        mistake_add(o->bad, o->at, "there is no stage '%s' (0 to %d)", index,
                    stages->n_children - 1);
        return NULL;
    }
    struct yaml *item = stages->first, *map;
    for (long k = 0; k < i; k++)
        item = item->next;
    if (!stage_name(item, &map)) {
        mistake_add(o->bad, o->at, "stage %ld is not a map of one key", i);
        return NULL;
    }
    return map;
}

/* The tree that a key like `data` or `pretrain` stands for, before anything below it; NULL after a
   mistake. *rest is what follows its first step or steps. */
static struct yaml *start(const struct override *o, struct yaml *root, char *step, char **rest)
{
    if (!strcmp(step, "stages") && *rest) {
        const struct yaml *stages = yaml_get(root, "stages");
        char *index = strsep(rest, ".");
        struct yaml *map = stages ? stage_by_index(o, stages, index) : NULL;
        if (!stages)
            mistake_add(o->bad, o->at, "the config has no list of stages");
        const size_t n = map ? strlen(map->key) : 0; // stages.0.pretrain.lr is stages.0.lr
        if (map && *rest && !strncmp(*rest, map->key, n) && (*rest)[n] == '.')
            *rest += n + 1;
        return map;
    }
    const bool top = field_find(config_fields, step) || !strcmp(step, "stages");
    struct yaml *found = top ? yaml_get(root, step) : stage_by_name(root, step);
    if (found)
        return found;
    if (top) {
        found = yaml_put(root, step, o->at, o->pool);
        if (!found)
            mistake_add(o->bad, o->at, "%s", err_text());
        return found;
    }
    static const struct field *const tables[] = {config_fields, NULL};
    config_unknown(o->bad, o->at,
                   &(struct config_map){.path = "",
                                        .tables = tables,
                                        .stages = yaml_get(root, "stages")},
                   step);
    return NULL;
}

/* The value to put in: YAML where it begins like a list, a map or quotes, else the very text. */
static bool set_value(const struct override *o, struct yaml *node, const char *value)
{
    if (!strchr("[{\"'", *value)) {
        node->kind = YAML_TEXT;
        node->text = value;
        node->n = strlen(value);
        node->quoted = false;
        node->first = node->last = NULL;
        node->n_children = 0;
    } else {
        const struct yaml *tree = yaml_parse(value, strlen(value), o->at.override, o->pool, o->bad);
        if (!tree)
            return false;
        const struct yaml old = *node;
        *node = *tree;
        node->key = old.key;
        node->next = old.next;
    }
    node->at = node->key_at = o->at;
    return true;
}

static void put(const struct override *o, struct yaml *root, char *key, const char *value)
{
    char *rest = key, *step = strsep(&rest, ".");
    struct yaml *parent = root, *node = start(o, root, step, &rest);
    while (node && rest) {
        if (yaml_empty(node)) {
            node->kind = YAML_TREE;
            node->first = node->last = NULL;
        }
        if (node->kind != YAML_TREE) {
            mistake_add(o->bad, o->at, "'%s' has nothing below it: it is %s", node->key,
                        yaml_kind_name(node));
            return;
        }
        step = strsep(&rest, ".");
        parent = node;
        node = yaml_get(parent, step);
        if (!node && !(node = yaml_put(parent, step, o->at, o->pool)))
            mistake_add(o->bad, o->at, "%s", err_text());
    }
    if (!node)
        return;
    if (!*value && yaml_get(parent, node->key) == node)
        yaml_remove(parent, node);
    else if (yaml_get(parent, node->key) == node)
        set_value(o, node, value);
    else
        mistake_add(o->bad, o->at, "'%s' is a stage: name one of its keys, such as %s.name",
                    node->key, node->key);
}

void config_override(struct yaml *root, const char *text, int k, struct pool *pool,
                     struct mistakes *bad)
{
    const struct override o = {.at = {.override = k}, .pool = pool, .bad = bad};
    const char *equals = strchr(text, '=');
    const size_t n = strlen(text);
    if (utf8_valid(text, n) < n) {
        mistake_add(bad, o.at, "not UTF-8");
        return;
    }
    if (!equals || equals == text) {
        mistake_add(
            bad, o.at,
            "'%s' is not KEY=VALUE, such as seed=2 or data.valid_fraction=0.1 (no blanks around =)",
            text);
        return;
    }
    char *key = pool_text(pool, text, (size_t)(equals - text));
    const char *value = pool_text(pool, equals + 1, n - (size_t)(equals + 1 - text));
    if (!key || !value) {
        mistake_add(bad, o.at, "%s", err_text());
        return;
    }
    if (*key == '.' || key[strlen(key) - 1] == '.' || strstr(key, "..")) {
        mistake_add(bad, o.at, "'%s' has an empty part between its dots", key);
        return;
    }
    put(&o, root, key, value);
}
