#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "autograd/base/arena.h"
#include "autograd/base/err.h"

static void two_ends(void **state)
{
    struct arena a;
    (void)state;
    assert_int_equal(arena_init(&a, 4096), 0);
    char *x = arena_push_lo(&a, 1), *y = arena_push_lo(&a, 65), *z = arena_push_lo(&a, 0);
    assert_true(x == a.base && y == x + 64 && z == y + 128);
    assert_int_equal(a.lo, 192);
    char *h = arena_push_hi(&a, 100), *i = arena_push_hi(&a, 64);
    assert_true(h == a.base + a.size - 128 && i == h - 64);
    assert_int_equal(a.peak, 192 + 192);
    memset(x, 1, 192);
    memset(i, 2, 192); // all of both ends is there
    arena_pop_hi(&a, 128);
    assert_true((char *)arena_push_hi(&a, 1) == i);
    arena_pop_lo(&a, 64);
    arena_pop_hi(&a, 0);
    assert_true(a.lo == 64 && a.hi == 0);
    assert_int_equal(a.peak, 384);
    arena_free(&a);
    assert_null(a.base);
}

static void full(void **state)
{
    struct arena a;
    (void)state;
    assert_int_equal(arena_init(&a, 1024), 0);
    assert_non_null(arena_push_lo(&a, 512));
    assert_null(arena_push_hi(&a, 513));
    assert_non_null(arena_push_hi(&a, 512)); // the ends may meet
    assert_null(arena_push_lo(&a, 1));
    assert_null(arena_push_hi(&a, 1));
    static const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 63, SIZE_MAX - 64, SIZE_MAX / 2};
    arena_pop_hi(&a, 0);
    for (int i = 0; i < 4; i++) {
        assert_null(arena_push_lo(&a, sizes[i]));
        assert_null(arena_push_hi(&a, sizes[i]));
    }
    assert_true(a.lo == 512 && a.hi == 0 && a.peak == 1024);
    arena_free(&a);
}

/* Whatever the size, both ends are aligned. */
static void odd_sizes(void **state)
{
    (void)state;
    for (size_t size = 1; size < 5000; size += 37) {
        struct arena a;
        assert_int_equal(arena_init(&a, size), 0);
        assert_true(a.size >= size && a.size < size + ARENA_ALIGN);
        char *p = arena_push_hi(&a, 1);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % ARENA_ALIGN, 0);
        memset(p, 1, ARENA_ALIGN);
        arena_free(&a);
    }
}

/* A measuring arena is far larger than memory, and its pages cost nothing. */
static void measuring(void **state)
{
    struct arena a;
    (void)state;
    assert_int_equal(arena_init(&a, 0), 0);
    assert_true(a.size >= (size_t)1 << 28);
    const size_t half = a.size / 2;
    assert_non_null(arena_push_lo(&a, half));
    assert_non_null(arena_push_hi(&a, half));
    assert_int_equal(a.peak, a.size);
    arena_free(&a);
}

static void too_large(void **state)
{
    struct arena a;
    (void)state;
    assert_int_equal(arena_init(&a, SIZE_MAX / 2), -1);
    assert_non_null(strstr(err_text(), "address space"));
    assert_int_equal(arena_init(&a, SIZE_MAX), -1);
    arena_free(&a);
}

/* Where no address space is left (`ulimit -v`), a measuring arena says what it wanted at least. */
static void no_address_space(void **state)
{
    struct rlimit old, none;
    struct arena a;
    (void)state;
    assert_int_equal(getrlimit(RLIMIT_AS, &old), 0);
    none = (struct rlimit){.rlim_cur = 1 << 20, .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_AS, &none), 0);
    const int rc = arena_init(&a, 0);
    assert_int_equal(setrlimit(RLIMIT_AS, &old), 0);
    assert_int_equal(rc, -1);
    assert_non_null(strstr(err_text(), "cannot reserve 268435456 bytes"));
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_ends),  cmocka_unit_test(full),
        cmocka_unit_test(odd_sizes), cmocka_unit_test(measuring),
        cmocka_unit_test(too_large), cmocka_unit_test(no_address_space),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
