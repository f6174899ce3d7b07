#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "autograd/base/rng.h"
#include "experiments/logits_file.h"
#include "tests/datasets/scratch.h"

enum { C = 9, V = 37, CHUNKS = 3, SCORED = 4, ROW = V + 1 + 4, HEADER = 20 };

static float logits[CHUNKS * SCORED][V];
static int32_t token[CHUNKS * C];

static const char *make(void *state)
{
    struct logits_file f;
    const char *path = scratch_path(state, "base.kld");
    for (int i = 0; i < CHUNKS * C; i++)
        token[i] = (int32_t)rng_below(1, (uint64_t)i, V);
    for (int i = 0; i < CHUNKS * SCORED; i++)
        rng_normal((uint64_t)i + 9, i % 3 ? 2 : 12, logits[i], V);
    for (int v = 0; v < V; v++)
        logits[5][v] = 3; // a row without a span
    if (logits_file_create(&f, path, C, V, CHUNKS, token))
        fail_msg("%s", err_text());
    assert_int_equal(f.scored, SCORED);
    for (int k = 0; k < CHUNKS; k++) {
        assert_int_equal(access(path, F_OK), -1); // not before it is complete
        for (int i = 0; i < SCORED; i++)
            logits_file_pack(&f, i, logits[k * SCORED + i]);
        assert_int_equal(logits_file_add(&f), 0);
    }
    logits_file_close(&f);
    return path;
}

/* Within half a step of the row's span, at most 16 below the likeliest; those below are there. */
static void rows_come_back(void **state)
{
    struct logits_file f;
    assert_int_equal(logits_file_open(&f, make(*state)), 0);
    assert_int_equal(logits_file_row(V), ROW);
    assert_int_equal(logits_file_row(V + 1), ROW);
    assert_memory_equal(f.token, token, sizeof token);
    for (int k = 0; k < CHUNKS; k++) {
        assert_int_equal(logits_file_next(&f), 0);
        for (int i = 0; i < SCORED; i++) {
            const float *x = logits[k * SCORED + i];
            double top = x[0], low = x[0], sum = 0;
            for (int v = 0; v < V; v++) {
                top = fmax(top, x[v]);
                low = fmin(low, x[v]);
            }
            low = fmax(low, top - 16);
            for (int v = 0; v < V; v++)
                sum += exp(x[v] - top);
            const double step = (top - low) / 65535;
            for (int v = 0; v < V; v++) {
                const double want = fmax(x[v], low) - top - log(sum);
                const double got = logits_file_log_p(f.rows + i * ROW, v);
                assert_true(fabs(got - want) <= step / 2 + 4e-6);
            }
        }
    }
    assert_int_equal(logits_file_next(&f), -1);
    assert_non_null(strstr(err_text(), "ends early"));
    logits_file_close(&f);
}

/* The layout, byte for byte, where llama-perplexity has it. */
static void bytes_are_where_they_belong(void **state)
{
    size_t n;
    char *all = scratch_read(make(*state), &n);
    int32_t head[3];
    float scale, low;
    uint16_t q[V];
    assert_int_equal(n, HEADER + CHUNKS * C * 4 + CHUNKS * SCORED * ROW * 2);
    assert_memory_equal(all, "_logits_", 8);
    memcpy(head, all + 8, sizeof head);
    assert_int_equal(head[0], C);
    assert_int_equal(head[1], V);
    assert_int_equal(head[2], CHUNKS);
    assert_memory_equal(all + HEADER, token, sizeof token);
    const char *row = all + HEADER + sizeof token + 7 * ROW * 2;
    memcpy(&scale, row, 4);
    memcpy(&low, row + 4, 4);
    memcpy(q, row + 8, sizeof q);
    int top = 0, least = 0;
    for (int v = 0; v < V; v++) {
        top = logits[7][v] > logits[7][top] ? v : top;
        least = logits[7][v] < logits[7][least] ? v : least;
    }
    assert_int_equal(q[top], 65535);
    assert_int_equal(q[least], 0);
    assert_true(fabs(scale * 65535 - fmin(16, logits[7][top] - logits[7][least])) < 1e-4);
    assert_true(fabs(low + scale * 65535 - logits_file_log_p((const void *)row, top)) < 1e-4);
    free(all);
}

static void refused(const char *path, const char *all, size_t n, const char *why)
{
    struct logits_file f;
    scratch_write(path, all, n);
    int rc = logits_file_open(&f, path);
    for (int k = 0; !rc && k < f.chunks; k++)
        rc = logits_file_next(&f);
    assert_int_equal(rc, -1);
    if (!strstr(err_text(), why))
        fail_msg("%s instead of %s", err_text(), why);
    logits_file_close(&f);
}

static void broken_files_are_refused(void **state)
{
    static const int32_t bad[][4] = {{0, 3},  {0, -1},        {0, INT32_MAX},
                                     {1, 0},  {1, INT32_MAX}, {2, 0},
                                     {2, -7}, {2, INT32_MAX}, {2, CHUNKS + 1}};
    const char *path = scratch_path(*state, "bad.kld");
    size_t n;
    char *all = scratch_read(make(*state), &n);
    refused(path, all, 0, "ends early");
    refused(path, all, 19, "ends early");
    refused(path, all, HEADER, "cut off");
    refused(path, all, n - 1, "cut off");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char *copy = malloc(n);
        memcpy(copy, all, n);
        memcpy(copy + 8 + 4 * bad[i][0], &bad[i][1], 4);
        refused(path, copy, n, "chunks of");
        free(copy);
    }
    all[0] = 'x';
    refused(path, all, n, "byte 0");
    all[0] = '_';
    const int32_t high = V;
    memcpy(all + HEADER + 4 * 4, &high, 4);
    refused(path, all, n, "byte 36: token 37");
    memcpy(all + HEADER + 4 * 4, &token[4], 4);
    const float nan = NAN;
    memcpy(all + HEADER + sizeof token + (SCORED + 2) * ROW * 2, &nan, 4);
    refused(path, all, n, "chunk 1, row 2");
    free(all);
    struct logits_file f;
    assert_int_equal(logits_file_open(&f, scratch_path(*state, "none")), -1);
    assert_int_equal(logits_file_create(&f, scratch_path(*state, "no/where"), C, V, CHUNKS, token),
                     -1);
}

/* One that is given up leaves nothing. */
static void unfinished_files_leave_nothing(void **state)
{
    struct logits_file f;
    const char *path = scratch_path(*state, "new.kld");
    const int before = scratch_count(*state);
    assert_int_equal(logits_file_create(&f, path, C, V, CHUNKS, token), 0);
    assert_int_equal(logits_file_add(&f), 0);
    logits_file_close(&f);
    assert_int_equal(scratch_count(*state), before);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)
    const struct CMUnitTest tests[] = {
        TEST(rows_come_back),
        TEST(bytes_are_where_they_belong),
        TEST(broken_files_are_refused),
        TEST(unfinished_files_leave_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
