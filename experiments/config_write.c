#define XXH_STATIC_LINKING_ONLY
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "autograd/base/err.h"
#include "experiments/config_parts.h"

/* Should the row be written? What has no effect, or was not given and has no default, is not. */
static bool shown(const struct field *table, const struct field *f, const void *base)
{
    return field_applies(table, f, base) && !field_absent(f, base);
}

/* `deciding`: only what the result depends on; names and references to stages do not change it. */
static void write_table(const struct field *table, const void *base, int indent, bool deciding,
                        struct buf *out)
{
    for (const struct field *f = table; f->name; f++) {
        if (!shown(table, f, base) || (deciding && (f->flags & (FIELD_LIVE | FIELD_LABEL))))
            continue;
        buf_printf(out, "%*s%s:", indent, "", f->name);
        if (f->type == FIELD_MAP) {
            buf_text(out, "\n");
            write_table(f->fields, (const char *)base + f->offset, indent + 2, deciding, out);
            continue;
        }
        buf_text(out, " ");
        field_print(f, base, out);
        buf_text(out, "\n");
    }
}

/* Was the model left out? */
static bool without_model(const struct config *c, const struct field *f)
{
    return f->type == FIELD_MAP && !strcmp(f->name, "model") && !c->model.n_layers;
}

static void write_top(const struct config *c, bool deciding, struct buf *yaml)
{
    for (const struct field *f = config_fields; f->name; f++) {
        const struct field one[] = {*f, {0}};
        if (!without_model(c, f))
            write_table(one, c, 0, deciding, yaml);
    }
    buf_text(yaml, "stages:\n");
}

static void write_stage(const struct config_stage *s, bool deciding, struct buf *yaml)
{
    buf_printf(yaml, "  - %s:\n", config_kinds[s->kind].name);
    for (const struct config_part *p = config_kinds[s->kind].parts; p->table; p++)
        write_table(p->table, (const char *)s + p->offset, 6, deciding, yaml);
}

void config_write(const struct config *c, struct buf *yaml)
{
    write_top(c, false, yaml);
    for (int i = 0; i < c->n_stages; i++)
        write_stage(&c->stages[i], false, yaml);
}

/* The stage, and before it the stages that its model comes from. */
static void write_line(const struct config *c, int stage, struct buf *text)
{
    const struct config_stage *s = &c->stages[stage];
    if (s->parent >= 0)
        write_line(c, s->parent, text);
    else if (s->checkpoint)
        buf_printf(text, "  - from: %s\n", s->checkpoint);
    write_stage(s, true, text);
}

int config_hash(const struct config *c, int stage, char hex[33])
{
    struct buf text = {0};
    write_top(c, true, &text);
    write_line(c, stage, &text);
    if (text.failed) {
        buf_free(&text);
        return -1;
    }
    const XXH128_hash_t h = XXH3_128bits(text.p, text.n);
    snprintf(hex, 33, "%016llx%016llx", (unsigned long long)h.high64, (unsigned long long)h.low64);
    buf_free(&text);
    return 0;
}

/* One side of a comparison: a row that may be missing there. */
struct side {
    const struct field *table;
    const void *base;
};

static void print_side(struct side s, const struct field *f, struct buf *out)
{
    if (s.base && shown(s.table, f, s.base))
        field_print(f, s.base, out);
    else
        buf_text(out, "(none)");
}

static int diff_table(const char *path, struct side was, struct side now, struct buf *out)
{
    int n = 0;
    for (const struct field *f = was.table; f->name; f++) {
        if (f->flags & FIELD_LIVE)
            continue;
        char inner[256];
        snprintf(inner, sizeof inner, "%s%s%s", path, *path ? "." : "", f->name);
        if (f->type == FIELD_MAP) {
            n += diff_table(inner,
                            (struct side){f->fields,
                                          was.base ? (const char *)was.base + f->offset : NULL},
                            (struct side){f->fields,
                                          now.base ? (const char *)now.base + f->offset : NULL},
                            out);
            continue;
        }
        struct buf a = {0}, b = {0};
        print_side(was, f, &a);
        print_side(now, f, &b);
        out->failed |= a.failed || b.failed;
        if (!out->failed && strcmp(a.p, b.p)) {
            buf_printf(out, "%s: %s -> %s\n", inner, a.p, b.p);
            n++;
        }
        buf_free(&a);
        buf_free(&b);
    }
    return n;
}

static int diff_stage(const struct config_stage *was, const struct config_stage *now,
                      struct buf *out)
{
    int n = 0;
    for (const struct config_part *p = config_kinds[was->kind].parts; p->table; p++)
        n += diff_table(was->name, (struct side){p->table, (const char *)was + p->offset},
                        (struct side){p->table, (const char *)now + p->offset}, out);
    return n;
}

/* Nothing but the length differs, and that has grown. */
static bool is_longer(const struct config_stage *was, const struct config_stage *now)
{
    const struct config_train *a = &was->train, *b = &now->train;
    struct config_stage same = *now;
    struct buf out = {0};
    same.train.tokens = a->tokens;
    same.train.steps = a->steps;
    same.train.epochs = a->epochs;
    const bool rest = config_kinds[was->kind].makes_model && !diff_stage(was, &same, &out);
    buf_free(&out);
    return rest && ((a->tokens && b->tokens > a->tokens) || (a->steps && b->steps > a->steps) ||
                    (a->epochs > 0 && b->epochs > a->epochs));
}

int config_change(const struct config *was, const struct config *now, struct config_change *c,
                  struct buf *out)
{
    *c = (struct config_change){.stage = CONFIG_STAGES_MAX};
    for (const struct field *f = config_fields; f->name; f++) {
        const struct field one[] = {*f, {0}};
        c->n += diff_table("", (struct side){one, without_model(was, f) ? NULL : was},
                           (struct side){one, without_model(now, f) ? NULL : now}, out);
    }
    c->stage = c->n ? -1 : c->stage;
    for (int i = 0; i < was->n_stages || i < now->n_stages; i++) {
        const struct config_stage *a = i < was->n_stages ? &was->stages[i] : NULL;
        const struct config_stage *b = i < now->n_stages ? &now->stages[i] : NULL;
        const bool same = a && b && a->kind == b->kind;
        const int n = same ? diff_stage(a, b, out) : 1;
        if (!same)
            buf_printf(out, "stages.%d: %s -> %s\n", i, a ? config_kinds[a->kind].name : "(none)",
                       b ? config_kinds[b->kind].name : "(none)");
        if (n && c->stage == CONFIG_STAGES_MAX) {
            c->stage = i;
            c->longer = same && is_longer(a, b);
        }
        c->n += n;
    }
    return out->failed ? -1 : 0;
}

int config_diff(const struct config *was, const struct config *now, struct buf *out)
{
    struct config_change c;
    return config_change(was, now, &c, out) ? -1 : c.n;
}
