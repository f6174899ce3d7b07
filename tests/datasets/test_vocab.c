#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "autograd/base/mem.h"
#include "datasets/vocab.h"

static void any_order_with_holes(void **state)
{
    (void)state;
    struct vocab v = {0};
    assert_int_equal(vocab_set(&v, 5, "five", 4, VOCAB_NORMAL), 0);
    assert_int_equal(vocab_set(&v, 2, "", 0, VOCAB_NORMAL), 0);
    assert_int_equal(vocab_set(&v, 0, "<s>", 3, VOCAB_CONTROL), 0);
    assert_int_equal(vocab_set(&v, 5, "again", 5, VOCAB_NORMAL), -1);
    assert_non_null(strstr(err_text(), "5"));
    assert_int_equal(v.n, 6);
    assert_int_equal(v.token[3].type, VOCAB_HOLE);
    assert_int_equal(vocab_index(&v), 0);
    assert_int_equal(vocab_find(&v, "five", 4), 5);
    assert_int_equal(vocab_find(&v, "fiv", 3), -1);
    assert_int_equal(vocab_find(&v, "<s>", 3), -1);
    assert_int_equal(vocab_find(&v, "", 0), 2);
    vocab_free(&v);
}

static void many(void **state)
{
    (void)state;
    enum { N = 20000 };
    struct vocab v = {0};
    for (int32_t id = N - 1; id >= 0; id--)
        assert_int_equal(vocab_set(&v, id, (const char *)&(int32_t){id / 2}, 4, VOCAB_NORMAL), 0);
    assert_int_equal(vocab_index(&v), 0);
    for (int32_t id = 0; id < N; id++) // of equal ones the lowest
        assert_int_equal(vocab_find(&v, (const char *)&(int32_t){id / 2}, 4), id / 2 * 2);
    assert_int_equal(vocab_find(&v, (const char *)&(int32_t){N}, 4), -1);
    vocab_free(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_order_with_holes),
        cmocka_unit_test(many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
