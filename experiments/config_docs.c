/* The keys of a config, as `attar help config` prints them: all, a part, or one. */
#include <stdio.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/spell.h"
#include "experiments/config_parts.h"

static void print_kind(const struct config_kind *k, struct buf *out)
{
    buf_printf(out, "- %s: %s\n", k->name, k->doc);
    for (const struct config_part *p = k->parts; p->table; p++)
        field_print_docs(p->table, 4, out);
}

static void print_stages(struct buf *out)
{
    buf_printf(out, "%-20s %s\n", "stages", config_stages_doc);
    buf_printf(out, "%-20s list, 1 to %d; required\n", "", CONFIG_STAGES_MAX);
}

void config_docs(struct buf *out)
{
    field_print_docs(config_fields, 0, out);
    print_stages(out);
    for (const struct config_kind *k = config_kinds; k->name; k++) {
        buf_text(out, "\n");
        print_kind(k, out);
    }
}

/* ---- a part ---- */

struct topic {
    const char *name;
    struct spell near;
    int found;
    struct buf *out;
};

/* Prints each row that is meant by name or by its whole path; `inside`: the path of the table. */
static void search(struct topic *t, const struct field *table, const char *inside)
{
    for (const struct field *f = table; f->name; f++) {
        char path[128];
        snprintf(path, sizeof path, "%s%s%s", inside, *inside ? "." : "", f->name);
        spell_offer(&t->near, f->name);
        if (!strcmp(t->name, f->name) || !strcmp(t->name, path)) {
            const struct field one[] = {*f, {0}};
            if (*inside)
                buf_printf(t->out, "in %s:\n", inside);
            field_print_docs(one, 0, t->out);
            t->found++;
        }
        if (f->type == FIELD_MAP)
            search(t, f->fields, path);
    }
}

static const char *alias_of(const char *name)
{
    const char *ours;
    for (int i = 0; config_alias(i, &ours); i++)
        if (!strcmp(config_alias(i, &ours), name))
            return ours;
    return NULL;
}

int config_docs_of(const char *name, struct buf *out)
{
    struct topic t = {.name = name, .near = {.word = name}, .out = out};
    for (const struct config_kind *k = config_kinds; k->name; k++) {
        spell_offer(&t.near, k->name);
        if (!strcmp(name, k->name)) {
            print_kind(k, out);
            t.found++;
        }
    }
    if (!strcmp(name, "stages")) {
        print_stages(out);
        t.found++;
    }
    search(&t, config_fields, "");
    for (const struct config_kind *k = config_kinds; k->name; k++)
        for (const struct config_part *p = k->parts; p->table; p++)
            search(&t, p->table, k->name);
    if (t.found)
        return out->failed ? -1 : 0;
    const char *ours = alias_of(name);
    if (ours || t.near.best)
        return err("a config has no '%.60s'; did you mean '%s'?", name, ours ? ours : t.near.best);
    return err("a config has no '%.60s'; `attar help config` lists all", name);
}
