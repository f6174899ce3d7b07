/*
 * A fuzz harness as a test: every seed of its folder, cut at some places, and with bytes changed at
 * others, by a fixed sequence. The long runs are tests/long.sh fuzz. A test program includes the
 * harness, then this:
 *
 *     #include "tests/fuzz/fuzz_gguf.c"
 *     #include "tests/replay.h"
 *     REPLAY("tests/fuzz/gguf", 400)
 */
#ifndef ATTAR_TESTS_REPLAY_H
#define ATTAR_TESTS_REPLAY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Gives each file of the folder to `harness`, and `times` changed copies of it; fails the test if
   there is no file. */
void replay(const char *folder, int times, int (*harness)(const uint8_t *data, size_t size));

#define REPLAY(folder, times)                                                                      \
    static void every_seed_and_its_changes(void **state)                                           \
    {                                                                                              \
        (void)state;                                                                               \
        replay(folder, times, LLVMFuzzerTestOneInput);                                             \
    }                                                                                              \
    int main(void)                                                                                 \
    {                                                                                              \
        const struct CMUnitTest tests[] = {cmocka_unit_test(every_seed_and_its_changes)};          \
        return cmocka_run_group_tests(tests, NULL, NULL);                                          \
    }

#endif
