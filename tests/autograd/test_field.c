#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "autograd/base/field.h"
#include "autograd/base/mem.h"
#include "autograd/base/spell.h"

struct inner {
    int64_t depth;
};

struct options {
    bool fast;
    int64_t count;
    double rate, part;
    struct share warmup;
    int mode;
    const char *text;
    struct ints heads;
    struct texts files;
    struct inner inner;
    double slope;
};

static const char *const modes[] = {"plain", "steep", "steeper", NULL};
static const struct field inner_fields[] = {
    {FIELD_AT(inner, depth), .type = FIELD_INT, .min = 1, .max = 9, .def = "4", .doc = "d"},
    {0},
};
static const struct field fields[] = {
    {FIELD_AT(options, fast), .type = FIELD_BOOL, .def = "true", .doc = "d"},
    {FIELD_AT(options, count), .type = FIELD_INT, .min = 1, .max = 100, .doc = "d"},
    {FIELD_AT(options, rate), .type = FIELD_FLOAT, .min = 0, .max = INFINITY, .def = "3e-4",
     .doc = "d"},
    {FIELD_AT(options, part), .type = FIELD_FLOAT, .min = 0, .max = 0.5, .def = "5%", .doc = "d"},
    {FIELD_AT(options, warmup), .type = FIELD_SHARE, .def = "2%", .doc = "d"},
    {FIELD_AT(options, mode), .type = FIELD_ENUM, .names = modes, .def = "steep", .doc = "d"},
    {FIELD_AT(options, text), .type = FIELD_TEXT, .def = "", .doc = "d"},
    {FIELD_AT(options, heads), .type = FIELD_INTS, .min = 1, .max = 8, .doc = "d"},
    {FIELD_AT(options, files), .type = FIELD_TEXTS, .doc = "d"},
    {FIELD_AT(options, inner), .type = FIELD_MAP, .fields = inner_fields, .doc = "d"},
    {FIELD_AT(options, slope), .type = FIELD_FLOAT, .when = "mode=steep|steeper", .doc = "d"},
    {0},
};

static struct pool pool;

static int set(struct options *o, const char *name, const char *text)
{
    const struct field *f = field_find(fields, name);
    assert_non_null(f);
    return field_set(f, o, text, strlen(text), &pool);
}

static void refuses(struct options *o, const char *name, const char *text, const char *reason)
{
    const struct options before = *o;
    if (!set(o, name, text) || !strstr(err_text(), reason))
        fail_msg("%s: %s (%s)", name, text, err_text());
    assert_memory_equal(&before, o, sizeof before);
}

static void defaults(void **state)
{
    (void)state;
    struct options o;
    memset(&o, 0xaa, sizeof o);
    for (const struct field *f = fields; f->name; f++)
        assert_int_equal(field_default(f, &o, &pool), 0);
    assert_true(o.fast && o.count == 0 && o.rate == 3e-4 && o.part == 0.05);
    assert_true(o.warmup.relative && o.warmup.value == 0.02);
    assert_int_equal(o.mode, 1);
    assert_string_equal(o.text, "");
    assert_true(o.heads.n == 0 && o.files.n == 0 && o.inner.depth == 4);
    assert_true(field_absent(field_find(fields, "count"), &o));
    assert_false(field_absent(field_find(fields, "text"), &o));
    assert_false(field_absent(field_find(fields, "mode"), &o));
}

static void values_and_ranges(void **state)
{
    (void)state;
    struct options o;
    memset(&o, 0, sizeof o);
    assert_int_equal(set(&o, "count", "100"), 0);
    assert_int_equal(o.count, 100);
    refuses(&o, "count", "0", "out of range (1 to 100)");
    refuses(&o, "count", "101", "out of range (1 to 100)");
    refuses(&o, "count", "0.1Ki", "not a whole number");
    refuses(&o, "rate", "-1e-9", "out of range (at least 0)");
    refuses(&o, "rate", "5%", "share");
    assert_int_equal(set(&o, "part", "50%"), 0);
    assert_true(o.part == 0.5);
    refuses(&o, "part", "51%", "out of range (0 to 0.5)");
    refuses(&o, "fast", "yes", "neither true nor false");
    refuses(&o, "fast", "True", "neither true nor false");
    refuses(&o, "fast", "1", "neither true nor false");
    refuses(&o, "fast", "true ", "neither true nor false");
    refuses(&o, "mode", "steepe", "none of plain, steep, steeper");
    refuses(&o, "mode", "", "none of");
    refuses(&o, "warmup", "101%", "0% to 100%");
    refuses(&o, "warmup", "-1%", "0% to 100%");
    refuses(&o, "warmup", "-1", "out of range");
    refuses(&o, "warmup", "0.5", "neither a share (5%) nor a count");
    assert_int_equal(set(&o, "warmup", "1K"), 0);
    assert_true(!o.warmup.relative && o.warmup.value == 1000);
    refuses(&o, "heads", "9", "out of range (1 to 8)");
}

static void lists(void **state)
{
    (void)state;
    struct options o;
    memset(&o, 0, sizeof o);
    const struct field *heads = field_find(fields, "heads"), *files = field_find(fields, "files");
    for (int i = 0; i < INTS_MAX; i++)
        assert_int_equal(field_append(heads, &o, "3", 1, &pool), 0);
    assert_int_equal(field_append(heads, &o, "3", 1, &pool), -1);
    assert_int_equal(o.heads.n, INTS_MAX);
    assert_int_equal(set(&o, "heads", "5"), 0);
    assert_int_equal(o.heads.n, 1);
    assert_int_equal(ints_at(&o.heads, 0), 5);
    assert_int_equal(ints_at(&o.heads, 400), 5);
    char text[16];
    for (int i = 0; i < TEXTS_MAX; i++) {
        snprintf(text, sizeof text, "f%d", i);
        assert_int_equal(field_append(files, &o, text, strlen(text), &pool), 0);
    }
    assert_int_equal(field_append(files, &o, "x", 1, &pool), -1);
    for (int i = 0; i < TEXTS_MAX; i++) {
        snprintf(text, sizeof text, "f%d", i);
        assert_string_equal(o.files.value[i], text);
    }
}

static void shares(void **state)
{
    (void)state;
    assert_int_equal(share_of((struct share){0.05, true}, 2000), 100);
    assert_int_equal(share_of((struct share){0.05, true}, 30), 2); // 1.5 rounds away from zero
    assert_int_equal(share_of((struct share){7, false}, 3), 7);
    assert_int_equal(share_of((struct share){1, true}, 12345), 12345);
}

static void conditions(void **state)
{
    (void)state;
    struct options o;
    memset(&o, 0, sizeof o);
    const struct field *slope = field_find(fields, "slope");
    static const bool applies[] = {false, true, true};
    for (o.mode = 0; o.mode < 3; o.mode++)
        assert_int_equal(field_applies(fields, slope, &o), applies[o.mode]);
    static const struct field by_value[] = {
        {FIELD_AT(options, count), .type = FIELD_INT},
        {FIELD_AT(options, rate), .type = FIELD_FLOAT, .when = "count"},
        {0},
    };
    assert_false(field_applies(by_value, &by_value[1], &o));
    o.count = 3;
    assert_true(field_applies(by_value, &by_value[1], &o));
}

static void prints(const char *name, const char *text, const char *expected)
{
    struct options o;
    struct buf b = {0};
    memset(&o, 0, sizeof o);
    assert_int_equal(set(&o, name, text), 0);
    field_print(field_find(fields, name), &o, &b);
    assert_string_equal(b.p, expected);
    buf_free(&b);
}

static void printing(void **state)
{
    (void)state;
    prints("fast", "false", "false");
    prints("count", "0.1K", "100");
    prints("rate", "0.0003", "0.0003");
    prints("warmup", "7%", "7%");
    prints("warmup", "12", "12");
    prints("mode", "steeper", "steeper");
    prints("text", "a/b_c-1.txt", "a/b_c-1.txt");
    prints("text", "", "\"\"");
    prints("text", "null", "\"null\"");
    prints("text", "~", "\"~\"");
    prints("text", "a: b", "\"a: b\"");
    prints("text", "\n\"\\\t", "\"\\n\\\"\\\\\\u0009\"");
    prints("text", "é", "\"é\"");
    prints("text", "\xc2\x85\xe2\x80\xa8\xef\xbb\xbf", "\"\\u0085\\u2028\\ufeff\"");
    prints("heads", "3", "3");
    prints("files", "a b", "\"a b\"");
}

/* Each allocation in turn fails: an error, no crash, nothing half set. */
static void no_memory(void **state)
{
    (void)state;
    for (long k = 1; k < 3; k++) {
        struct pool own = {0};
        struct options o;
        memset(&o, 0, sizeof o);
        char big[5000];
        memset(big, 'x', sizeof big);
        mem_fail_at(k);
        const int rc = field_set(field_find(fields, "files"), &o, big, sizeof big, &own);
        mem_fail_at(0);
        assert_int_equal(rc, -1);
        assert_int_equal(o.files.n, 0);
        pool_free(&own);
    }
}

static void spelling(void **state)
{
    (void)state;
    assert_int_equal(spell_distance("kitten", "sitting"), 3);
    assert_int_equal(spell_distance("lr", "rl"), 1);
    assert_int_equal(spell_distance("", "abc"), 3);
    assert_int_equal(spell_distance("top-k", "Top_K"), 0);
    struct spell s = {.word = "n_laiers"};
    spell_offer(&s, "n_heads");
    spell_offer(&s, "n_layers");
    spell_offer(&s, "d_ff");
    assert_string_equal(s.best, "n_layers");
    struct spell joined = {.word = "Q4KM"}; // - and _ may be left out
    spell_offer(&joined, "Q4_0");
    spell_offer(&joined, "Q4_K_M");
    assert_string_equal(joined.best, "Q4_K_M");
    assert_int_equal(joined.distance, 0);
    struct spell far = {.word = "colour"};
    spell_offer(&far, "d_model");
    spell_offer(&far, "lr");
    assert_null(far.best);
    struct spell tiny = {.word = "x"};
    spell_offer(&tiny, "y");
    assert_null(tiny.best);
}

static int free_pool(void **state)
{
    (void)state;
    pool_free(&pool);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),   cmocka_unit_test(values_and_ranges),
        cmocka_unit_test(lists),      cmocka_unit_test(shares),
        cmocka_unit_test(conditions), cmocka_unit_test(printing),
        cmocka_unit_test(no_memory),  cmocka_unit_test(spelling),
    };
    return cmocka_run_group_tests(tests, NULL, free_pool);
}
