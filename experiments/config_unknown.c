/* What is said about a key that is none where it stands: what it is called here, or where it
 * belongs. */
#include <string.h>

#include "autograd/base/spell.h"
#include "experiments/config_parts.h"

struct alias {
    const char *theirs, *ours, *note;
};

static const struct alias aliases[] = {
#define ALIAS(theirs, ours, note) {theirs, ours, note},
#include "experiments/config_alias.def"
#undef ALIAS
    {0},
};

static bool same(const char *a, const char *b)
{
    return spell_distance(a, b) == 0;
}

const char *config_alias(int i, const char **ours)
{
    *ours = aliases[i].ours;
    return aliases[i].theirs;
}

/* Is it a key of the map at hand? */
static bool is_here(const struct config_map *m, const char *key)
{
    for (int i = 0; m->tables[i]; i++)
        if (field_find(m->tables[i], key))
            return true;
    return !*m->path && !strcmp(key, "stages");
}

/* ---- where else ---- */

/* What f depends on, unless that is so by default; NULL: nothing. */
static const char *condition(const struct field *table, const struct field *f)
{
    const struct field *on;
    const char *values;
    if (!field_condition(table, f, &on, &values))
        return NULL;
    return on->def && *values && strstr(values, on->def) ? NULL : f->when;
}

/* Adds the path of each map below `path` with such a key; `with`: what a map on the way depends on.
 */
static void find_in(const struct field *table, const char *path, const char *with, const char *key,
                    struct buf *out)
{
    const struct field *f = field_find(table, key);
    if (f) {
        const char *when = condition(table, f) ? f->when : with;
        buf_printf(out, "%s%s", out->n ? ", or " : "", path);
        if (when && strchr(when, '=')) // the first of the values
            buf_printf(out, " (with %.*s: %.*s)", (int)strcspn(when, "="), when,
                       (int)strcspn(strchr(when, '=') + 1, "|"), strchr(when, '=') + 1);
        else if (when)
            buf_printf(out, " (with %s)", when);
    }
    for (f = table; f->name; f++) {
        struct buf inner = {0};
        if (f->type != FIELD_MAP)
            continue;
        buf_printf(&inner, "%s%s%s", path, *path ? "." : "", f->name);
        if (!inner.failed)
            find_in(f->fields, inner.p, condition(table, f) ? f->when : with, key, out);
        buf_free(&inner);
    }
}

/* The places of a key, "data.tokenizer", "a stage pretrain, finetune": empty if there are none. */
static void find_places(const char *key, struct buf *out)
{
    int stages = 0;
    const size_t before = out->n;
    if (field_find(config_fields, key) || !strcmp(key, "stages"))
        buf_text(out, "the top of the config");
    for (const struct field *f = config_fields; f->name; f++)
        if (f->type == FIELD_MAP)
            find_in(f->fields, f->name, NULL, key, out);
    for (const struct config_kind *k = config_kinds; k->name; k++)
        for (const struct config_part *p = k->parts; p->table; p++) {
            struct buf at = {0};
            find_in(p->table, k->name, NULL, key, &at);
            if (at.n && !at.failed)
                buf_printf(out, "%s%s",
                           stages++          ? ", "
                           : out->n > before ? ", or a stage "
                                             : "a stage ",
                           at.p);
            buf_free(&at);
        }
}

/* The config's own stages that take the key, as overrides name them: "pretrain.lr, qat.lr". */
static void find_own(const struct yaml *stages, const char *key, struct buf *out)
{
    const struct yaml *item = stages && stages->kind == YAML_LIST ? stages->first : NULL;
    for (; item; item = item->next) {
        const struct yaml *map = item->kind == YAML_TREE ? item->first : NULL;
        for (const struct config_kind *k = config_kinds; map && k->name; k++)
            for (const struct config_part *p = k->parts; p->table; p++) {
                const struct yaml *name = yaml_get(map, "name");
                if (!strcmp(k->name, map->key) && field_find(p->table, key))
                    buf_printf(out, "%s%.60s.%s", out->n ? ", " : "",
                               name && name->kind == YAML_TEXT ? name->text : map->key, key);
            }
    }
}

/* "KEY belongs elsewhere": true if there is such a place. */
static bool elsewhere(struct mistakes *bad, struct place at, const struct config_map *m,
                      const char *key, const char *ours)
{
    struct buf own = {0}, where = {0};
    const char *in = *m->path ? " in " : "";
    if (at.override && !*m->path)
        find_own(m->stages, ours, &own);
    find_places(ours, &where);
    const bool found = (own.n && !own.failed) || (where.n && !where.failed);
    if (own.n && !own.failed)
        mistake_add(bad, at, "unknown key '%.60s'; did you mean %s?", key, own.p);
    else if (found && !strcmp(key, ours))
        mistake_add(bad, at, "unknown key '%.60s'%s%s; it belongs into %s", key, in, m->path,
                    where.p);
    else if (found)
        mistake_add(bad, at, "unknown key '%.60s'%s%s; here it is called %s, and belongs into %s",
                    key, in, m->path, ours, where.p);
    buf_free(&own);
    buf_free(&where);
    return found;
}

/* ---- the message ---- */

/* What others call it: true after a message. */
static bool say_alias(struct mistakes *bad, struct place at, const struct config_map *m,
                      const char *key)
{
    const struct alias *first = NULL;
    for (const struct alias *a = aliases; a->theirs; a++) {
        if (!same(a->theirs, key))
            continue;
        first = first ? first : a;
        if (!is_here(m, a->ours))
            continue;
        mistake_add(bad, at, "unknown key '%.60s'%s%s; did you mean '%s'%s%s%s?", key,
                    *m->path ? " in " : "", m->path, a->ours, *a->note ? " (" : "", a->note,
                    *a->note ? ")" : "");
        return true;
    }
    return first && elsewhere(bad, at, m, key, first->ours);
}

static bool say_near(struct mistakes *bad, struct place at, const struct config_map *m,
                     const char *key)
{
    struct spell near = {.word = key};
    for (int i = 0; m->tables[i]; i++)
        for (const struct field *f = m->tables[i]; f->name; f++)
            spell_offer(&near, f->name);
    if (!*m->path)
        spell_offer(&near, "stages");
    const struct yaml *stages = at.override ? m->stages : NULL;
    for (const struct yaml *s = stages ? stages->first : NULL; s; s = s->next) {
        const struct yaml *map = s->kind == YAML_TREE ? s->first : NULL;
        const struct yaml *name = yaml_get(map, "name");
        if (map)
            spell_offer(&near, name && name->kind == YAML_TEXT ? name->text : map->key);
    }
    if (near.best)
        mistake_add(bad, at, "unknown key '%.60s'%s%s; did you mean '%s'?", key,
                    *m->path ? " in " : "", m->path, near.best);
    return near.best;
}

void config_unknown(struct mistakes *bad, struct place at, const struct config_map *m,
                    const char *key)
{
    struct buf all = {0};
    if (say_alias(bad, at, m, key) || say_near(bad, at, m, key) || elsewhere(bad, at, m, key, key))
        return;
    for (int i = 0; m->tables[i]; i++)
        for (const struct field *f = m->tables[i]; f->name; f++)
            buf_printf(&all, "%s%s", all.n ? ", " : "", f->name);
    if (!*m->path)
        buf_printf(&all, ", stages%s", at.override ? ", and names of stages" : "");
    mistake_add(bad, at, "unknown key '%.60s'%s%s; valid are: %s", key, *m->path ? " in " : "",
                m->path, all.failed ? "" : all.p);
    buf_free(&all);
}
