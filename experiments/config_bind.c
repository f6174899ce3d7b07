#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/spell.h"
#include "experiments/config_parts.h"

struct bind {
    struct pool *pool;
    struct mistakes *bad;
};

struct span {
    const struct field *table;
    void *base;
};

static void report(const struct bind *b, struct yaml *node, struct place at, const char *key)
{
    mistake_add(b->bad, at, "%s: %s", key, err_text());
    node->bad = true;
}

static bool numeric(const struct field *f)
{
    return f->type == FIELD_BOOL || f->type == FIELD_INT || f->type == FIELD_FLOAT ||
           f->type == FIELD_SHARE || f->type == FIELD_INTS;
}

/* One scalar: the value of f, or an element of it. */
static bool check_scalar(const struct bind *b, const struct field *f, struct yaml *holder,
                         const struct yaml *node)
{
    struct buf kind = {0};
    field_print_type(f, &kind);
    const char *expected = kind.failed ? "another kind of value" : kind.p;
    bool good = false;
    if (node->kind != YAML_TEXT)
        mistake_add(b->bad, node->at, "%s: expected %s, not %s", f->name, expected,
                    yaml_kind_name(node));
    else if (yaml_empty(node))
        mistake_add(b->bad, node->at, "%s has no value: expected %s", f->name, expected);
    else if (node->quoted && numeric(f))
        mistake_add(b->bad, node->at, "%s: expected %s, not text in quotes", f->name, expected);
    else
        good = true;
    holder->bad |= !good;
    buf_free(&kind);
    return good;
}

static void bind_list(const struct bind *b, const struct field *f, void *base, struct yaml *node)
{
    if (f->type != FIELD_INTS && f->type != FIELD_TEXTS) {
        check_scalar(b, f, node, node);
        return;
    }
    field_clear(f, base);
    if (!node->first) {
        mistake_add(b->bad, node->at, "%s: the list is empty", f->name);
        node->bad = true;
    }
    const int most = f->type == FIELD_INTS ? INTS_MAX : TEXTS_MAX;
    if (node->n_children > most) {
        mistake_add(b->bad, node->at, "%s: more than %d elements", f->name, most);
        node->bad = true;
        return;
    }
    for (const struct yaml *c = node->first; c; c = c->next)
        if (check_scalar(b, f, node, c) && field_append(f, base, c->text, c->n, b->pool))
            report(b, node, c->at, f->name);
}

static void bind_tree(const struct bind *b, const struct span *spans, struct yaml *node,
                      const char *path);

static void bind_value(const struct bind *b, const struct field *f, void *base, struct yaml *node)
{
    if (f->type == FIELD_MAP) {
        const struct span inner[] = {{f->fields, (char *)base + f->offset}, {0}};
        bind_tree(b, inner, node, f->name);
        return;
    }
    if (node->kind == YAML_LIST)
        bind_list(b, f, base, node);
    else if (check_scalar(b, f, node, node) && field_set(f, base, node->text, node->n, b->pool))
        report(b, node, node->at, f->name);
}

static void unknown_key(const struct bind *b, const struct span *spans, const struct yaml *node,
                        const char *path)
{
    const struct field *tables[sizeof config_kinds->parts / sizeof config_kinds->parts[0] + 1];
    int n = 0;
    for (const struct span *s = spans; s->table; s++)
        tables[n++] = s->table;
    tables[n] = NULL;
    config_unknown(b->bad, node->key_at, &(struct config_map){.path = path, .tables = tables},
                   node->key);
}

/* The required keys of a map that was left out. */
static void missing_inside(const struct bind *b, const struct field *map, const struct yaml *tree)
{
    for (const struct field *f = map->fields; f->name; f++) {
        if (f->type == FIELD_MAP)
            missing_inside(b, f, tree);
        else if ((f->flags & FIELD_REQUIRED) && !f->when)
            mistake_add(b->bad, tree->at, "missing key '%s' in %s: %s", f->name, map->name, f->doc);
    }
}

/* Prints the override that takes a key of the map out of the config; nothing for maps of which the
   path is not known, those inside stages. */
static void take_out(const struct yaml *map, const char *path, const char *key, struct buf *out)
{
    const struct yaml *name = yaml_get(map, "name");
    const char *in = name && name->kind == YAML_TEXT ? name->text : path, *outer = NULL;
    bool known = field_find(config_fields, path);
    for (const struct config_kind *k = config_kinds; k->name; k++)
        known = known || !strcmp(k->name, path);
    for (const struct field *f = config_fields; f->name; f++)
        if (f->type == FIELD_MAP && field_find(f->fields, path))
            outer = f->name;
    if (known || outer)
        buf_printf(out, "; `%s%s%s.%s=` behind it takes it out", outer ? outer : "",
                   outer ? "." : "", in, key);
}

/* What depends on another field, once all of them are bound. */
static void check_given(const struct bind *b, const struct span *s, const struct field *f,
                        struct yaml *tree, const char *path)
{
    struct yaml *node = yaml_get(tree, f->name);
    const struct field *on = NULL;
    const char *values = "";
    const bool depends = field_condition(s->table, f, &on, &values);
    if (depends && (!config_sound(tree, on->name) ||
                    ((on->flags & FIELD_REQUIRED) && !yaml_get(tree, on->name))))
        return;
    const bool applies = field_applies(s->table, f, s->base);
    if (node && !applies) {
        struct buf now = {0}, out = {0};
        const struct yaml *cause = yaml_get(tree, on->name);
        field_print(on, s->base, &now);
        if (cause && cause->at.override && !node->at.override)
            take_out(tree, path, f->name, &out);
        mistake_add(b->bad, node->key_at, "%s has no effect with %s: %s (only with %s%s%s)",
                    f->name, on->name, now.failed ? "?" : now.p, *values ? "" : "a value above ",
                    *values ? values : "0", out.n && !out.failed ? out.p : "");
        node->bad = true;
        buf_free(&now);
        buf_free(&out);
    }
    if (!node && applies && (f->flags & FIELD_REQUIRED))
        mistake_add(b->bad, tree->at, "missing key '%s'%s%s: %s", f->name, *path ? " in " : "",
                    path, f->doc);
    if (!node && f->type == FIELD_MAP)
        missing_inside(b, f, tree);
}

static void bind_tree(const struct bind *b, const struct span *spans, struct yaml *tree,
                      const char *path)
{
    if (yaml_empty(tree))
        tree->kind = YAML_TREE;
    if (tree->kind != YAML_TREE) {
        mistake_add(b->bad, tree->at, "%s: expected a map of keys and values, not %s",
                    *path ? path : "config", yaml_kind_name(tree));
        tree->bad = true;
        return;
    }
    for (struct yaml *c = tree->first; c; c = c->next) {
        const struct span *s = spans;
        const struct field *f = NULL;
        for (; s->table && !(f = field_find(s->table, c->key)); s++)
            ;
        if (f)
            bind_value(b, f, s->base, c);
        else if (*path || strcmp(c->key, "stages"))
            unknown_key(b, spans, c, path);
    }
    for (const struct span *s = spans; s->table; s++)
        for (const struct field *f = s->table; f->name; f++)
            if (strcmp(f->name, "model") || *path) // which is not always needed: config_rules
                check_given(b, s, f, tree, path);
}

/* The kind of a stage item, or -1 after a mistake. */
static int stage_kind(const struct bind *b, const struct yaml *item)
{
    if (item->kind != YAML_TREE || !item->first) {
        mistake_add(b->bad, item->at,
                    "a stage is a map of one key, such as `- pretrain: {...}`, "
                    "not %s",
                    yaml_kind_name(item));
        return -1;
    }
    const struct yaml *key = item->first;
    if (item->n_children > 1) {
        mistake_add(b->bad, key->next->key_at,
                    "'%.60s' stands beside the stage '%.60s': indent it further, or begin another "
                    "stage with `- `",
                    key->next->key, key->key);
        return -1;
    }
    struct spell near = {.word = key->key};
    struct buf all = {0};
    for (int k = 0; config_kinds[k].name; k++) {
        if (!strcmp(config_kinds[k].name, key->key)) {
            buf_free(&all);
            return k;
        }
        spell_offer(&near, config_kinds[k].name);
        buf_printf(&all, "%s%s", k ? ", " : "", config_kinds[k].name);
    }
    if (near.best)
        mistake_add(b->bad, key->key_at, "unknown stage '%.60s'; did you mean '%s'?", key->key,
                    near.best);
    else
        mistake_add(b->bad, key->key_at, "unknown stage '%.60s'; valid are: %s", key->key,
                    all.failed ? "" : all.p);
    buf_free(&all);
    return -1;
}

static bool bind_stages(const struct bind *b, struct config *c, struct yaml *list,
                        struct yaml **nodes)
{
    bool all_known = true;
    for (const struct yaml *item = list->first; item; item = item->next) {
        const int kind = stage_kind(b, item);
        if (kind < 0) {
            all_known = false;
            continue;
        }
        struct config_stage *s = &c->stages[c->n_stages];
        struct span spans[sizeof config_kinds->parts / sizeof config_kinds->parts[0]] = {0};
        s->kind = kind;
        s->parent = -1;
        for (int i = 0; config_kinds[kind].parts[i].table; i++) {
            const struct config_part *p = &config_kinds[kind].parts[i];
            spans[i] = (struct span){p->table, (char *)s + p->offset};
            for (const struct field *f = p->table; f->name; f++)
                if (field_default(f, spans[i].base, b->pool))
                    mistake_add(b->bad, item->at, "%s", err_text());
        }
        bind_tree(b, spans, item->first, config_kinds[kind].name);
        if (!s->name)
            s->name = config_kinds[kind].name;
        nodes[c->n_stages++] = item->first;
    }
    return all_known;
}

bool config_bind(struct config *c, struct yaml *root, struct yaml ***stage_nodes,
                 struct pool *scratch, struct mistakes *bad)
{
    const struct bind b = {.pool = &c->pool, .bad = bad};
    const struct span top[] = {{config_fields, c}, {0}};
    for (const struct field *f = config_fields; f->name; f++)
        if (field_default(f, c, &c->pool))
            mistake_add(bad, root->at, "%s", err_text());
    bind_tree(&b, top, root, "");
    const struct yaml *given = root->kind == YAML_TREE ? yaml_get(root, "stages") : NULL;
    if (!given) {
        if (root->kind == YAML_TREE)
            mistake_add(bad, root->at, "missing key 'stages': %s", config_stages_doc);
        return false;
    }
    if (given->kind != YAML_LIST || !given->first || given->n_children > CONFIG_STAGES_MAX) {
        mistake_add(bad, given->at, "stages: expected a list of 1 to %d stages, not %s",
                    CONFIG_STAGES_MAX,
                    given->kind != YAML_LIST ? yaml_kind_name(given)
                    : given->first           ? "more"
                                             : "an empty one");
        return false;
    }
    c->stages = pool_new(&c->pool, (size_t)given->n_children, sizeof *c->stages);
    *stage_nodes = pool_new(scratch, (size_t)given->n_children, sizeof **stage_nodes);
    if (!c->stages || !*stage_nodes) {
        mistake_add(bad, given->at, "%s", err_text());
        return false;
    }
    return bind_stages(&b, c, yaml_get(root, "stages"), *stage_nodes);
}
