#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "compress/gguf_meta.h"
#include "compress/gguf_write.h"
#include "tests/datasets/scratch.h"

/* A file without tensors whose pairs are those of w. */
static void reopen(struct gguf *g, void *state, struct gguf_write *w)
{
    const char *path = scratch_path(state, "m.gguf");
    if (gguf_write_open(w, path) || gguf_write_commit(w) || gguf_open(g, path))
        fail_msg("%s", err_text());
}

static void says(const char *text)
{
    if (!strstr(err_text(), text))
        fail_msg("'%s' does not say '%s'", err_text(), text);
}

static void whole_numbers_of_every_kind(void **state)
{
    static const struct {
        const char *key;
        enum gguf_kind kind;
        int64_t x;
    } each[] = {{"u8", GGUF_U8, 200},  {"i8", GGUF_I8, -100},         {"u16", GGUF_U16, 60000},
                {"i16", GGUF_I16, -3}, {"u32", GGUF_U32, 4000000000}, {"i32", GGUF_I32, -7},
                {"u64", GGUF_U64, 1},  {"i64", GGUF_I64, INT64_MIN},  {"big", GGUF_U64, -1}};
    enum { EACH = sizeof each / sizeof *each };
    struct gguf_write w = {0};
    struct gguf g;
    for (int i = 0; i < EACH; i++)
        gguf_write_number(&w, each[i].key, each[i].kind, &each[i].x); // little-endian
    reopen(&g, *state, &w);
    for (int i = 0; i < EACH; i++) {
        int64_t x = 5;
        double d = 0;
        const int rc = gguf_meta_int(&g, each[i].key, INT64_MIN, INT64_MAX, &x);
        assert_int_equal(rc, i == EACH - 1 ? -1 : 0); // 2^64 - 1 is none
        assert_true(x == (rc ? 5 : each[i].x));
        assert_int_equal(gguf_meta_real(&g, each[i].key, &d), rc);
        assert_true(rc || d == (double)each[i].x);
    }
    int64_t x = 5;
    assert_int_equal(gguf_meta_int(&g, "none", 0, 1, &x), 1);
    assert_int_equal(gguf_meta_int(&g, "u8", 0, 199, &x), -1);
    says("metadata 'u8' is 200, not from 0 to 199");
    assert_int_equal(gguf_meta_int(&g, "i32", -6, 0, &x), -1);
    assert_int_equal(gguf_meta_int(&g, "i32", -7, -7, &x), 0);
    gguf_close(&g);
}

static void other_kinds_are_refused(void **state)
{
    struct gguf_write w = {0};
    struct gguf g;
    int64_t x = 1;
    double d = 0;
    bool b = false;
    struct gguf_string s;
    const double pi = 3.25, nan = NAN;
    const uint8_t two = 2;
    gguf_write_text(&w, "text", "a text");
    gguf_write_f32(&w, "f32", 0.5f);
    gguf_write_f32(&w, "inf", INFINITY);
    gguf_write_number(&w, "f64", GGUF_F64, &pi);
    gguf_write_number(&w, "nan", GGUF_F64, &nan);
    gguf_write_bool(&w, "yes", true);
    gguf_write_list(&w, "list", GGUF_U8, 1, &two);
    reopen(&g, *state, &w);
    assert_int_equal(gguf_meta_text(&g, "text", &s), 0);
    assert_true(s.n == 6 && !memcmp(s.s, "a text", 6));
    assert_int_equal(gguf_meta_real(&g, "f32", &d), 0);
    assert_true(d == 0.5);
    assert_int_equal(gguf_meta_real(&g, "f64", &d), 0);
    assert_true(d == 3.25);
    assert_int_equal(gguf_meta_bool(&g, "yes", &b), 0);
    assert_true(b);
    assert_int_equal(gguf_meta_int(&g, "f32", 0, 9, &x), -1);
    says("metadata 'f32' is f32, a whole number is expected");
    assert_int_equal(gguf_meta_int(&g, "yes", 0, 9, &x), -1);
    assert_int_equal(gguf_meta_int(&g, "list", 0, 9, &x), -1);
    says("a list of u8, a whole number");
    assert_int_equal(gguf_meta_real(&g, "inf", &d), -1);
    says("metadata 'inf' is inf");
    assert_int_equal(gguf_meta_real(&g, "nan", &d), -1);
    assert_int_equal(gguf_meta_real(&g, "text", &d), -1);
    assert_int_equal(gguf_meta_real(&g, "list", &d), -1);
    assert_int_equal(gguf_meta_bool(&g, "list", &b), -1);
    assert_int_equal(gguf_meta_bool(&g, "f32", &b), -1);
    assert_int_equal(gguf_meta_text(&g, "f32", &s), -1);
    says("a text is expected");
    assert_true(gguf_meta_real(&g, "none", &d) == 1 && gguf_meta_bool(&g, "none", &b) == 1 &&
                gguf_meta_text(&g, "none", &s) == 1);
    gguf_close(&g);
}

static void lists(void **state)
{
    static const int16_t heads[] = {4, -2, 300};
    static const float scores[] = {1, 2};
    const struct gguf_pair *p;
    struct gguf_write w = {0};
    struct gguf g;
    int got[3] = {7, 7, 7};
    gguf_write_list(&w, "heads", GGUF_I16, 3, heads);
    gguf_write_list(&w, "scores", GGUF_F32, 2, scores);
    gguf_write_u32(&w, "one", 6);
    reopen(&g, *state, &w);
    assert_int_equal(gguf_meta_ints(&g, "heads", -2, 300, 3, got), 0);
    assert_true(got[0] == 4 && got[1] == -2 && got[2] == 300);
    assert_int_equal(gguf_meta_ints(&g, "heads", -1, 300, 3, got), -1);
    says("is -2, not from -1 to 300");
    assert_int_equal(gguf_meta_ints(&g, "heads", -2, 300, 2, got), -1);
    says("is a list of 3, 2 are expected");
    assert_int_equal(gguf_meta_ints(&g, "scores", 0, 9, 2, got), -1);
    says("a list of f32, whole numbers");
    assert_int_equal(gguf_meta_ints(&g, "one", 0, 9, 3, got), 0);
    assert_true(got[0] == 6 && got[1] == 6 && got[2] == 6);
    assert_int_equal(gguf_meta_ints(&g, "none", 0, 9, 3, got), 1);
    assert_int_equal(gguf_meta_list(&g, "scores", GGUF_F32, 0, &p), 0);
    assert_true(p->n == 2 && p->bytes == sizeof scores);
    assert_int_equal(gguf_meta_list(&g, "scores", GGUF_F32, 3, &p), -1);
    says("is a list of 2, 3 are expected");
    assert_int_equal(gguf_meta_list(&g, "scores", GGUF_I32, 0, &p), -1);
    says("is a list of f32, a list of i32 is expected");
    assert_int_equal(gguf_meta_list(&g, "one", GGUF_U32, 0, &p), -1);
    assert_int_equal(gguf_meta_list(&g, "none", GGUF_U32, 0, &p), 1);
    gguf_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(whole_numbers_of_every_kind, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(other_kinds_are_refused, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(lists, scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
