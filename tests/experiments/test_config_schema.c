#include <ctype.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "autograd/base/file.h"
#include "autograd/base/mem.h"
#include "datasets/pretok.h"
#include "experiments/config.h"

typedef void visit(const char *owner, const struct field *table, const struct field *f);

static void walk_table(const char *owner, const struct field *table, visit *v)
{
    for (const struct field *f = table; f->name; f++) {
        v(owner, table, f);
        if (f->type == FIELD_MAP)
            walk_table(f->name, f->fields, v);
    }
}

static int n_visited;

static void walk(visit *v)
{
    n_visited = 0;
    walk_table("config", config_fields, v);
    for (const struct config_kind *k = config_kinds; k->name; k++) {
        assert_non_null(k->doc);
        for (const struct config_part *p = k->parts; p->table; p++)
            walk_table(k->name, p->table, v);
    }
    assert_true(n_visited == 0 || n_visited > 80);
}

static void row(const char *owner, const struct field *table, const struct field *f)
{
    const size_t doc = f->doc ? strlen(f->doc) : 0;
    const struct field *on = NULL;
    const char *values;
    n_visited++;
    if (!doc || doc > 80 || strchr(f->doc, '\n') || isspace((unsigned char)f->doc[doc - 1]))
        fail_msg("%s.%s: its doc line is missing or too long", owner, f->name);
    if (f->min > f->max)
        fail_msg("%s.%s: an empty range", owner, f->name);
    if (field_find(table, f->name) != f)
        fail_msg("%s.%s is there twice", owner, f->name);
    if ((f->type == FIELD_ENUM) != (f->names != NULL) || (f->type == FIELD_MAP) != !!f->fields)
        fail_msg("%s.%s: names or fields do not go with its type", owner, f->name);
    if ((f->flags & FIELD_REQUIRED) && f->def)
        fail_msg("%s.%s: required, with a default", owner, f->name);
    if (field_condition(table, f, &on, &values) && *values) {
        char copy[100];
        snprintf(copy, sizeof copy, "%s", values);
        for (char *rest = copy, *one; (one = strsep(&rest, "|"));) {
            bool known = false;
            for (int i = 0; on->names && on->names[i]; i++)
                known |= !strcmp(on->names[i], one);
            if (!known)
                fail_msg("%s.%s depends on %s=%s, which is no value", owner, f->name, on->name,
                         one);
        }
    }
}

static void every_row_is_sound(void **state)
{
    (void)state;
    walk(row);
}

/* A struct that is large enough for every table, at any of their offsets. */
static union {
    struct config config;
    struct config_stage stage;
} any;

static void defaults_and_limits(const char *owner, const struct field *table, const struct field *f)
{
    struct pool pool = {0};
    struct buf first = {0}, second = {0};
    (void)table;
    n_visited++;
    if (field_default(f, &any, &pool))
        fail_msg("%s.%s: default %s: %s", owner, f->name, f->def, err_text());
    if (f->type != FIELD_MAP && f->def) { // printed and read again it is the same
        field_print(f, &any, &first);
        const char *text = strcmp(first.p, "\"\"") ? first.p : "";
        if (field_set(f, &any, text, strlen(text), &pool))
            fail_msg("%s.%s: %s: %s", owner, f->name, text, err_text());
        field_print(f, &any, &second);
        assert_string_equal(first.p, second.p);
    }
    const bool ranged = f->min != 0 || f->max != 0;
    if (ranged && f->type != FIELD_SHARE) {
        char text[64];
        snprintf(text, sizeof text, "%.17g", f->min);
        if (field_set(f, &any, text, strlen(text), &pool))
            fail_msg("%s.%s: its minimum: %s", owner, f->name, err_text());
        snprintf(text, sizeof text, "%.17g", f->min - (f->type == FIELD_FLOAT ? 1e-9 : 1));
        if (f->min > -1e15 && fabs(f->min) > 0 && !field_set(f, &any, text, strlen(text), &pool))
            fail_msg("%s.%s took %s", owner, f->name, text);
        snprintf(text, sizeof text, "%.17g", f->max);
        if (!isinf(f->max) && field_set(f, &any, text, strlen(text), &pool))
            fail_msg("%s.%s: its maximum: %s", owner, f->name, err_text());
        snprintf(text, sizeof text, "%.17g", f->type == FIELD_FLOAT ? f->max * 1.5 : f->max + 1);
        if (!isinf(f->max) && !field_set(f, &any, text, strlen(text), &pool))
            fail_msg("%s.%s took %s", owner, f->name, text);
    }
    for (int i = 0; f->names && f->names[i]; i++)
        assert_int_equal(field_set(f, &any, f->names[i], strlen(f->names[i]), &pool), 0);
    buf_free(&first);
    buf_free(&second);
    pool_free(&pool);
}

static void every_default_and_limit_parses(void **state)
{
    (void)state;
    walk(defaults_and_limits);
}

static struct buf docs;

static void documented(const char *owner, const struct field *table, const struct field *f)
{
    (void)owner;
    (void)table;
    n_visited++;
    if (!strstr(docs.p, f->doc))
        fail_msg("%s is not in the docs", f->name);
}

static void docs_hold_every_row(void **state)
{
    (void)state;
    config_docs(&docs);
    walk(documented);
    assert_non_null(strstr(docs.p, "whole number, 2 to 1073741824; default 8Ki"));
    assert_non_null(strstr(docs.p, "only with optimizer: sgd"));
    buf_free(&docs);
}

/* A stage has one row of a name, over all its tables. */
static void parts_of_a_stage_share_no_key(void **state)
{
    (void)state;
    for (const struct config_kind *k = config_kinds; k->name; k++)
        for (const struct config_part *p = k->parts; p->table; p++)
            for (const struct field *f = p->table; f->name; f++)
                for (const struct config_part *q = k->parts; q < p; q++)
                    if (field_find(q->table, f->name))
                        fail_msg("%s.%s is there twice", k->name, f->name);
}

static void shipped_configs_are_good(void **state)
{
    (void)state;
    static const char *const paths[] = {"experiments/configs/quickstart.yaml",
                                        "experiments/configs/shakespeare.yaml"};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        struct config c;
        if (config_read(&c, paths[i], 0, NULL))
            fail_msg("%s", err_text());
        assert_string_equal(c.folder, "experiments/configs");
        config_free(&c);
    }
}

/* The pretokenizers that can be named are those that a tokenizer may be trained with. */
static void every_pretokenizer_has_a_name(void **state)
{
    (void)state;
    int n = 0;
    for (const struct pretok *r = pretok_rules; r->name; r++)
        if (!r->apart)
            assert_string_equal(config_pre_names[n++], r->name);
    assert_null(config_pre_names[n]);
}

/* config_read puts all mistakes into one error, and says where they are. */
static void read_reports(void **state)
{
    (void)state;
    static const char *const overrides[] = {"seed=x", "thread=1"};
    struct config c;
    assert_int_equal(config_read(&c, "experiments/configs/quickstart.yaml", 2, overrides), -1);
    assert_string_equal(err_text(), "2 mistakes in the config\n"
                                    "override 1: seed: 'x' is not a number (such as 12, 3e-4, 600K "
                                    "or 8Ki)\n"
                                    "override 2: unknown key 'thread'; did you mean 'threads'?");
    config_free(&c);
    assert_int_equal(config_read(&c, "/nowhere/x.yaml", 0, NULL), -1);
    assert_non_null(strstr(err_text(), "/nowhere/x.yaml"));
    config_free(&c);
    assert_int_equal(config_read(&c, "experiments", 0, NULL), -1);
    config_free(&c);
}

/* Each allocation in turn fails: a mistake is reported and nothing leaks or crashes. */
static void no_memory(void **state)
{
    (void)state;
    static const char *const overrides[] = {"seed=3", "data.corpus=[a, b, c]", "bake=1"};
    struct buf text = {0};
    long k = 1;
    assert_int_equal(file_read("experiments/configs/quickstart.yaml", 1 << 20, &text), 0);
    for (bool through = false; !through; k++) {
        struct mistakes bad = {.file = "c"};
        struct config c;
        mem_fail_at(k);
        const int rc = config_parse(&c, text.p, text.n, ".", 3, overrides, &bad);
        mem_fail_at(0);
        assert_int_equal(rc, -1);
        through = bad.n == 1 && !bad.failed && strstr(bad.list[0].text, "unknown key 'bake'");
        if (!through && !bad.failed) {
            bool told = false;
            for (size_t i = 0; i < bad.n; i++)
                told |= strstr(bad.list[i].text, "out of memory") != NULL;
            if (!told)
                fail_msg("allocation %ld: %zu mistakes, none about memory", k, bad.n);
        }
        mistake_free(&bad);
        config_free(&c);
    }
    assert_true(k > 5);
    buf_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_is_sound),
        cmocka_unit_test(every_default_and_limit_parses),
        cmocka_unit_test(docs_hold_every_row),
        cmocka_unit_test(parts_of_a_stage_share_no_key),
        cmocka_unit_test(shipped_configs_are_good),
        cmocka_unit_test(every_pretokenizer_has_a_name),
        cmocka_unit_test(read_reports),
        cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
