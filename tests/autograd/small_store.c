#include "tests/autograd/small_store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

void small_store_add(struct store *s, const char *name, int64_t rows, int64_t cols, float std)
{
    const int64_t dim[] = {rows ? rows : cols, cols};
    assert_int_equal(store_add(s, name, rows ? 2 : 1, dim, std), 0);
}

void small_store(struct store *s, enum store_use use)
{
    *s = (struct store){0};
    small_store_add(s, "matrix", 5, 7, 0.5f);
    small_store_add(s, "gain", 0, 3, 0);
    small_store_add(s, "other", 2, 16, 2);
    assert_int_equal(store_alloc(s, use), 0);
}
