/* What `attar help config` prints: every key with meaning, range and default; and parts of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "experiments/config_parts.h"

static struct buf all;

/* Finds the row's two lines: "name  meaning", then kind, range and default. Rows seen. */
static int check_table(const struct field *table, const char *text)
{
    int n = 0;
    for (const struct field *f = table; f->name; f++, n++) {
        struct buf kind = {0};
        char start[64];
        snprintf(start, sizeof start, "%s ", f->name);
        const char *line = text;
        for (; line; line = strchr(line, '\n')) {
            line += *line == '\n';
            const char *word = line + strspn(line, " ");
            if (!strncmp(word, start, strlen(start)) &&
                !strncmp(word + strlen(start) + strspn(word + strlen(start), " "), f->doc,
                         strlen(f->doc)))
                break;
        }
        if (!line || !*f->doc)
            fail_msg("%s: its meaning is not in the docs", f->name);
        const char *next = strchr(line, '\n') + 1, *end = strchr(next, '\n');
        field_print_kind(f, &kind);
        next += strspn(next, " ");
        if ((size_t)(end - next) != kind.n || memcmp(next, kind.p, kind.n))
            fail_msg("%s: no line with its kind, but: %.*s", f->name, (int)(end - next), next);
        const bool ranged = f->type == FIELD_INT || f->type == FIELD_FLOAT || f->type == FIELD_INTS;
        if (ranged && !strstr(kind.p, " to ") && !strstr(kind.p, "at least"))
            fail_msg("%s: no range: %s", f->name, kind.p);
        if (f->type != FIELD_MAP && !strstr(kind.p, "default") && !strstr(kind.p, "required") &&
            !strstr(f->doc, "default"))
            fail_msg("%s: neither required nor a default: %s", f->name, kind.p);
        if (f->when && !strstr(kind.p, "only with"))
            fail_msg("%s: no condition: %s", f->name, kind.p);
        buf_free(&kind);
        if (f->type == FIELD_MAP)
            n += check_table(f->fields, line);
    }
    return n;
}

static void every_key_has_meaning_range_and_default(void **state)
{
    (void)state;
    int n = check_table(config_fields, all.p);
    for (const struct config_kind *k = config_kinds; k->name; k++) {
        char title[64];
        snprintf(title, sizeof title, "\n- %s: ", k->name);
        const char *part = strstr(all.p, title);
        assert_non_null(part);
        for (const struct config_part *p = k->parts; p->table; p++)
            n += check_table(p->table, part);
    }
    assert_true(n > 150);
}

/* A part is the whole's own text. */
static void a_part_is_found_by_name(void **state)
{
    (void)state;
    struct buf part = {0};
    for (const struct config_kind *k = config_kinds; k->name; k++) {
        buf_clear(&part);
        assert_int_equal(config_docs_of(k->name, &part), 0);
        assert_non_null(strstr(all.p, part.p));
        for (const struct config_kind *other = config_kinds; other->name; other++) {
            char title[64];
            snprintf(title, sizeof title, "- %s: ", other->name);
            assert_int_equal(!strncmp(part.p, title, strlen(title)), other == k);
        }
        for (const struct config_part *p = k->parts; p->table; p++)
            check_table(p->table, part.p);
    }
    for (const struct field *f = config_fields; f->name; f++) {
        buf_clear(&part);
        assert_int_equal(config_docs_of(f->name, &part), 0);
        assert_non_null(strstr(part.p, f->doc));
    }
    buf_clear(&part);
    assert_int_equal(config_docs_of("data.tokenizer.vocab_size", &part), 0);
    assert_true(!strncmp(part.p, "in data.tokenizer:\nvocab_size ", 30));
    buf_clear(&part);
    assert_int_equal(config_docs_of("lr", &part), 0);
    assert_non_null(strstr(part.p, "in pretrain:\nlr "));
    assert_non_null(strstr(part.p, "in qat:\nlr "));
    assert_int_equal(config_docs_of("learning_rate", &part), -1);
    assert_string_equal(err_text(), "a config has no 'learning_rate'; did you mean 'lr'?");
    assert_int_equal(config_docs_of("finetun", &part), -1);
    assert_string_equal(err_text(), "a config has no 'finetun'; did you mean 'finetune'?");
    buf_free(&part);
}

static int print_all(void **state)
{
    (void)state;
    config_docs(&all);
    return all.failed;
}

static int free_all(void **state)
{
    (void)state;
    buf_free(&all);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key_has_meaning_range_and_default),
        cmocka_unit_test(a_part_is_found_by_name),
    };
    return cmocka_run_group_tests_name("config_docs", tests, print_all, free_all);
}
