/* Every entry of every table of row kernels against the scalar one: all lengths around vectors,
   pointers aligned to a float only, results over their inputs where that is allowed. Memory behind
   a row is guarded, and what is only written starts as NaN. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/cpu.h"
#include "tests/autograd/rows_check.h"

#define ENTRY(name)                                                                                \
    {                                                                                              \
#name, check_rows_##name, offsetof(struct rows, name)                                      \
    }
static const struct {
    const char *name;
    void (*check)(const struct rows *r, const struct input *in);
    size_t offset;
} checks[] = {
    ENTRY(dot),
    ENTRY(max),
    ENTRY(add),
    ENTRY(scale),
    ENTRY(axpy),
    ENTRY(exp_sum),
    ENTRY(softmax_backward),
    ENTRY(rmsnorm),
    ENTRY(rmsnorm_backward),
    ENTRY(layernorm),
    ENTRY(layernorm_backward),
    ENTRY(gelu),
    ENTRY(gelu_backward),
    ENTRY(swiglu),
    ENTRY(swiglu_backward),
    ENTRY(rope_adjacent),
    ENTRY(rope_half),
    ENTRY(adamw),
    ENTRY(lion),
    ENTRY(exp_bf16),
    ENTRY(softmax_backward_bf16),
    ENTRY(widen),
    ENTRY(narrow),
    ENTRY(widen_half),
    ENTRY(narrow_half),
    ENTRY(sum_squares),
    ENTRY(dropout),
};
enum { CHECKS = sizeof checks / sizeof *checks };
_Static_assert(sizeof(struct rows) == sizeof(char *) + CHECKS * sizeof(void (*)(void)),
               "an entry of struct rows without a check");

/* ---- tables ---- */

static const struct rows *const tables[] = {
    &rows_scalar,
#if defined __x86_64__
    &rows_avx2,
    &rows_avx512,
#elif defined __aarch64__
    &rows_neon,
#endif
};
enum { TABLES = sizeof tables / sizeof *tables };

/* Tables bear their level's name. */
static int level_of(const struct rows *r)
{
    int l = 0;
    while (strcmp(cpu_level_name((enum cpu_level)l), r->name))
        if (++l == CPU_LEVELS)
            fail_msg("%s is no level's name", r->name);
    return l;
}

static bool runs_here(const struct rows *r)
{
    const bool runs = level_of(r) <= (int)cpu_hardware();
    if (!runs)
        print_message("this CPU has no %s: skipped\n", r->name);
    return runs;
}

static void check_lengths(void **state)
{
    const int which = *(const int *)*state;
    const struct rows *r = tables[which / CHECKS];
    static const int64_t large[] = {255, 256, 511, 513, 1000, 4099};
    if (!runs_here(r))
        skip();
    for (int64_t k = 0; k <= 70 + (int64_t)(sizeof large / sizeof *large); k++) {
        const int64_t n = k <= 70 ? k : large[k - 71];
        for (int shift = 0; shift < 2; shift++) {
            const struct input in = {n, vec_new(1, n, shift), vec_new(2, n, 3 * shift),
                                     vec_new(3, n, 7 * shift)};
            checks[which % CHECKS].check(r, &in);
            vec_free(in.a), vec_free(in.b), vec_free(in.c);
        }
    }
}

/* exp over its whole range, alone in a row and in the middle of a vector. */
static void exp_range(void **state)
{
    (void)state;
    for (int t = 0; t < TABLES; t++) {
        const struct rows *r = tables[t];
        enum { N = 40000 };
        static float x[N], y[N];
        if (!runs_here(r))
            continue;
        for (int i = 0; i < N; i++)
            x[i] = -110 + 220 * (float)i / N;
        r->exp_sum(N, x, 1, 0, y);
        for (int i = 0; i < N; i++) {
            float one;
            r->exp_sum(1, x + i, 1, 0, &one);
            const double want = exp((double)x[i]);
            if (x[i] > -87.3f && x[i] < 88)
                near("exp", i, y[i], want, 2.5 * EPS * want);
            else
                assert_true(x[i] < 0 ? y[i] >= 0 && y[i] < 1.3e-38f : y[i] > 1.6e38f);
            assert_true(one == y[i]);
        }
        const float edge[] = {-INFINITY, INFINITY, 0, -0.0f};
        r->exp_sum(4, edge, 1, 0, y);
        assert_true(y[0] >= 0 && y[0] < 1.3e-38f && y[1] > 1.6e38f && y[2] == 1 && y[3] == 1);
    }
}

static void table_follows_level(void **state)
{
    (void)state;
    const enum cpu_level level = cpu_level();
    for (int l = CPU_SCALAR; l < CPU_LEVELS; l++) {
        const struct rows *best = NULL; // they ascend
        cpu_set_level((enum cpu_level)l);
        rows_init();
        for (int t = 0; t < TABLES; t++)
            if (level_of(tables[t]) <= (int)cpu_level())
                best = tables[t];
        assert_ptr_equal(rows, best);
    }
    cpu_set_level(level);
    rows_init();
}

int main(void)
{
    enum { ALL = TABLES * CHECKS };
    static char names[ALL][48];
    static int which[ALL];
    struct CMUnitTest tests[ALL + 2] = {[ALL] = cmocka_unit_test(exp_range),
                                        cmocka_unit_test(table_follows_level)};
    for (int i = 0; i < ALL; i++) {
        which[i] = i;
        snprintf(names[i], sizeof names[i], "%s %s", tables[i / CHECKS]->name,
                 checks[i % CHECKS].name);
        tests[i] = (struct CMUnitTest){names[i], check_lengths, NULL, NULL, &which[i]};
        for (int j = 0; j < i % CHECKS; j++)
            if (checks[j].offset == checks[i % CHECKS].offset)
                return 1; // an entry twice hides one that is missing
    }
    return cmocka_run_group_tests_name("rows", tests, NULL, NULL);
}
