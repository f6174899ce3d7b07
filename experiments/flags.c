#include "experiments/flags.h"

#include <stdio.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/spell.h"
#include "experiments/cmd.h"

enum { NAME_MAX_BYTES = 40 };

struct parse {
    const struct flags *flags;
    int argc;
    char *const *argv;
    void *args;
    struct pool *pool;
    bool given[FLAGS_MAX]; // a row of the table each
};

static bool positional(const struct field *f)
{
    return f->flags & FIELD_POSITIONAL;
}

/* top_k -> --top-k, a positional -> its name in capitals */
static const char *shown(const struct field *f, char out[NAME_MAX_BYTES])
{
    snprintf(out, NAME_MAX_BYTES, "%s%s", positional(f) ? "" : "--", f->name);
    for (char *p = out; *p; p++) {
        if (positional(f) && *p >= 'a' && *p <= 'z')
            *p = (char)(*p - 'a' + 'A');
        else if (*p == '_')
            *p = '-';
    }
    return out;
}

static bool same_name(const char *field, const char *flag, size_t n)
{
    if (strlen(field) != n)
        return false;
    for (size_t i = 0; i < n; i++)
        if (field[i] != flag[i] && !(field[i] == '_' && flag[i] == '-'))
            return false;
    return true;
}

/* The flag that the word begins with, or that begins with it: --temperature for --temp. */
static const struct field *longer_or_shorter(const struct parse *p, const char *word)
{
    enum { LEAST = 3 };
    for (const struct field *f = p->flags->table; f->name; f++) {
        const size_t n = strlen(f->name), m = strlen(word), both = n < m ? n : m;
        if (!positional(f) && both >= LEAST && !strncmp(f->name, word, both))
            return f;
    }
    return NULL;
}

static int unknown_flag(const struct parse *p, const char *name, size_t n)
{
    char word[NAME_MAX_BYTES], best[NAME_MAX_BYTES];
    snprintf(word, sizeof word, "%.*s", (int)n, name);
    struct spell near = {.word = word};
    for (const struct field *f = p->flags->table; f->name; f++)
        if (!positional(f))
            spell_offer(&near, f->name);
    const struct field *f =
        near.best ? field_find(p->flags->table, near.best) : longer_or_shorter(p, word);
    if (!f && strstr(p->flags->synopsis, "key=value"))
        err("unknown flag --%s; a key of the config is given without --, as in seed=2", word);
    else if (f)
        err("unknown flag --%s; did you mean %s?", word, shown(f, best));
    else
        err("unknown flag --%s; `attar %s --help` lists the flags", word, p->argv[0]);
    return CMD_USAGE;
}

static int set(struct parse *p, const struct field *f, const char *value)
{
    char name[NAME_MAX_BYTES];
    bool *given = &p->given[f - p->flags->table];
    int rc = 0;
    if (*given && f->type != FIELD_TEXTS) {
        err("%s is given twice", shown(f, name));
        return CMD_USAGE;
    }
    if (!*given && (f->type == FIELD_INTS || f->type == FIELD_TEXTS))
        field_clear(f, p->args);
    *given = true;
    if (f->type == FIELD_INTS) {
        for (size_t n; !rc; value += n + 1) {
            n = strcspn(value, ",");
            rc = field_append(f, p->args, value, n, p->pool);
            if (!value[n])
                break;
        }
    } else if (f->type == FIELD_TEXTS) {
        rc = field_append(f, p->args, value, strlen(value), p->pool);
    } else {
        rc = field_set(f, p->args, value, strlen(value), p->pool);
    }
    if (rc)
        err_in("%s", shown(f, name));
    return rc ? CMD_USAGE : 0;
}

/* --name, --name=value, --name value; *i moves over what was used. */
static int take_long(struct parse *p, int *i)
{
    const char *name = p->argv[*i] + 2;
    const size_t n = strcspn(name, "=");
    const struct field *f = p->flags->table;
    char text[NAME_MAX_BYTES];
    while (f->name && (positional(f) || !same_name(f->name, name, n)))
        f++;
    if (!f->name)
        return unknown_flag(p, name, n);
    if (name[n])
        return set(p, f, name + n + 1);
    if (f->type == FIELD_BOOL)
        return set(p, f, "true");
    if (*i + 1 == p->argc) {
        err("%s needs a value", shown(f, text));
        return CMD_USAGE;
    }
    return set(p, f, p->argv[++*i]);
}

/* -n 128, -n128 */
static int take_short(struct parse *p, int *i)
{
    const char *arg = p->argv[*i];
    const struct field *f = p->flags->table;
    while (f->name && (positional(f) || f->letter != arg[1]))
        f++;
    if (!f->name) {
        err("unknown flag -%c; `attar %s --help` lists the flags", arg[1], p->argv[0]);
        return CMD_USAGE;
    }
    if (f->type == FIELD_BOOL && arg[2]) {
        err("-%c takes no value", arg[1]);
        return CMD_USAGE;
    }
    if (f->type == FIELD_BOOL)
        return set(p, f, "true");
    if (arg[2])
        return set(p, f, arg + 2);
    if (*i + 1 == p->argc) {
        err("-%c needs a value", arg[1]);
        return CMD_USAGE;
    }
    return set(p, f, p->argv[++*i]);
}

static int take_positional(struct parse *p, const char *arg)
{
    const struct field *f = p->flags->table;
    while (f->name && (!positional(f) || (f->type != FIELD_TEXTS && p->given[f - p->flags->table])))
        f++;
    if (f->name)
        return set(p, f, arg);
    err("unexpected argument '%s' (text with blanks wants quotes); usage: attar %s", arg,
        p->flags->synopsis);
    return CMD_USAGE;
}

static int check_all(const struct parse *p)
{
    char name[NAME_MAX_BYTES], other[NAME_MAX_BYTES];
    const struct field *table = p->flags->table, *on;
    for (const struct field *f = table; f->name; f++) {
        const bool given = p->given[f - table], applies = field_applies(table, f, p->args);
        const char *values;
        if (!given && applies && (f->flags & FIELD_REQUIRED)) {
            err("missing %s; usage: attar %s", shown(f, name), p->flags->synopsis);
            return CMD_USAGE;
        }
        if (given && !applies && field_condition(table, f, &on, &values)) {
            err("%s has no effect without %s%s%s", shown(f, name), shown(on, other),
                *values ? " " : "", values);
            return CMD_USAGE;
        }
    }
    return 0;
}

static bool wants_help(const struct flags *flags, const char *arg)
{
    if (!strcmp(arg, "--help"))
        return true;
    for (const struct field *f = flags->table; f->name; f++)
        if (f->letter == 'h')
            return false;
    return !strcmp(arg, "-h");
}

int flags_parse(const struct flags *flags, int argc, char *const *argv, void *args,
                struct pool *pool)
{
    struct parse p = {flags, argc, argv, args, pool, {false}};
    bool names = true; // false behind --
    int rc = 0;
    for (const struct field *f = flags->table; f->name; f++) {
        if (f - flags->table >= FLAGS_MAX || f->type == FIELD_MAP)
            BUG("%s: not a table of flags", flags->synopsis);
        if (field_default(f, args, pool))
            return -1;
    }
    for (int i = 1; i < argc && !rc; i++) {
        const char *arg = argv[i];
        if (names && wants_help(flags, arg)) {
            struct buf help = {0};
            flags_help(flags, &help);
            if (help.p)
                fputs(help.p, stdout);
            rc = help.failed ? -1 : FLAGS_HELP;
            buf_free(&help);
        } else if (names && !strcmp(arg, "--")) {
            names = false;
        } else if (names && !strncmp(arg, "--", 2)) {
            rc = take_long(&p, &i);
        } else if (names && arg[0] == '-' && arg[1]) {
            rc = take_short(&p, &i);
        } else {
            rc = take_positional(&p, arg);
        }
    }
    return rc ? rc : check_all(&p);
}

void flags_help(const struct flags *flags, struct buf *out)
{
    char name[NAME_MAX_BYTES], left[NAME_MAX_BYTES + 8];
    buf_printf(out, "usage: attar %s\n\n%s\n\n", flags->synopsis, flags->about);
    for (const struct field *f = flags->table; f->name; f++) {
        if (f->letter)
            snprintf(left, sizeof left, "-%c, %s", f->letter, shown(f, name));
        else
            snprintf(left, sizeof left, "%s%s", positional(f) ? "" : "    ", shown(f, name));
        buf_printf(out, "  %-22s %s\n  %22s (", left, f->doc, "");
        field_print_kind(f, out);
        buf_text(out, ")\n");
    }
}
