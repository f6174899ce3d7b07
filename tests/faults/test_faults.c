/*
 * One failed call at a time, below whole programs: what a file that cannot be read, a program that
 * cannot open more files or a file that is cut off must not do. The sweep over all commands and
 * kinds of calls is `make long`'s (sweep.c).
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "experiments/checkpoint.h"
#include "tests/datasets/scratch.h"
#include "tests/experiments/same_run.h"
#include "tests/experiments/spawn.h"

static const char CONFIG[] =
    "name: t\n"
    "data: {corpus: text.txt, tokenizer: {type: byte}, valid_fraction: 20%}\n"
    "model: {n_layers: 1, d_model: 32, n_heads: 2, d_ff: 32, context: 32}\n"
    "stages:\n"
    "  - pretrain: {steps: 6, batch_tokens: 64, lr: 1e-2, eval_every: 3, save_every: 2, ema: 0.9}\n"
    "  - qat: {type: q8_0, steps: 2, batch_tokens: 64, lr: 1e-3}\n";

static const char *folder;

static int setup(void **state)
{
    if (scratch_setup(state))
        return -1;
    folder = scratch_folder(*state);
    same_run_text(scratch_path(*state, "text.txt"), 40, 3);
    scratch_text(scratch_path(*state, "t.yaml"), CONFIG);
    return 0;
}

/* A path in the scratch folder, static until the eighth call from now. */
static const char *at(const char *name)
{
    static char paths[8][300];
    static int i;
    char *path = paths[i = (i + 1) % 8];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

/* The next children have this fault, "" for none; "KIND:N:ERROR". */
static void fault(const char *text)
{
    char shim[4096];
    const ssize_t n = readlink("/proc/self/exe", shim, sizeof shim - 16);
    assert_true(n > 0);
    shim[n] = 0;
    strcpy(strrchr(shim, '/'), "/shim.so");
    if (*text) {
        setenv("FAULT", text, 1);
        setenv("LD_PRELOAD", shim, 1);
    } else {
        unsetenv("FAULT");
        unsetenv("LD_PRELOAD");
    }
}

static int with_fault(const char *kind, int n, const char *error, const char *args)
{
    char text[64];
    snprintf(text, sizeof text, "%s:%d:%s", kind, n, error);
    fault(text);
    const int status = spawn_run(folder, args);
    fault("");
    return status;
}

static bool says(const char *text)
{
    char *output = spawn_output(folder);
    const bool is = strstr(output, text) != NULL;
    free(output);
    return is;
}

static bool same_file(const char *name, const char *bytes, size_t n)
{
    size_t m;
    char *other = scratch_read(at(name), &m);
    const bool same = n == m && !memcmp(bytes, other, n);
    free(other);
    return same;
}

/* Every read of an export, in turn: a message, never another model. */
static void unreadable_is_not_absent(void **state)
{
    (void)state;
    static const char *const from[] = {"runs/t/01-pretrain/checkpoint.h5",
                                       "runs/t/02-qat/checkpoint.h5"};
    spawn_expect(folder, 0, "run t.yaml");
    for (int k = 0; k < 2; k++) {
        char args[128];
        size_t n;
        snprintf(args, sizeof args, "export %s o.gguf", from[k]);
        spawn_expect(folder, 0, args);
        char *good = scratch_read(at("o.gguf"), &n);
        int nth = 1, status;
        for (; (status = with_fault("pread", nth, "EIO", args)); nth++) {
            assert_int_equal(status, 1);
            if (!says("cannot read: Input/output error"))
                spawn_says(folder, "attar: ");
            assert_true(says("Input/output error"));
            assert_true(same_file("o.gguf", good, n));
        }
        assert_true(nth > 20);
        assert_true(same_file("o.gguf", good, n));
        free(good);
    }
}

static int count_checkpoints(void)
{
    int64_t steps[16];
    return checkpoint_list(at("runs/t/01-pretrain"), steps, 16);
}

/* A resume that cannot open, read or hold a good checkpoint leaves all of them where they are. */
static void transient_errors_set_nothing_aside(void **state)
{
    (void)state;
    static const struct {
        const char *kind, *error;
        int most;
    } faults[] = {{"open", "EMFILE", 16},
                  {"pread", "EIO", 16},
                  {"stat", "EIO", 12},
                  {"readdir", "EIO", 9}};
    spawn_expect(folder, 0, "run t.yaml");
    const int all = count_checkpoints();
    assert_true(all > 1);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        for (int nth = 1; nth <= faults[i].most; nth++) {
            unlink(at("runs/t/01-pretrain/summary.json"));
            const int status = with_fault(faults[i].kind, nth, faults[i].error, "run t.yaml");
            assert_true(status == 0 || status == 1);
            if (status)
                spawn_says(folder, "attar: ");
            assert_false(says("damaged"));
            assert_int_equal(count_checkpoints(), all);
        }
}

/* A signal or a full pipe of the disk may end any call early: the file is the same. */
static void interrupted_and_partial_calls_go_on(void **state)
{
    (void)state;
    static const struct {
        const char *kind, *error;
    } faults[] = {{"pwrite", "EINTR"}, {"pwrite", "short"}, {"pread", "EINTR"},
                  {"pread", "short"},  {"write", "EINTR"},  {"write", "short"}};
    size_t n;
    spawn_expect(folder, 0, "run t.yaml");
    spawn_expect(folder, 0, "export runs/t/02-qat/checkpoint.h5 m.gguf");
    spawn_expect(folder, 0, "import m.gguf m.h5");
    char *good = scratch_read(at("m.h5"), &n);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        for (int nth = 1; nth <= 60; nth += nth < 12 ? 1 : 7) {
            const int status =
                with_fault(faults[i].kind, nth, faults[i].error, "import m.gguf m.h5");
            if (status)
                spawn_says(folder, "nothing");
            assert_true(same_file("m.h5", good, n));
        }
    free(good);
}

/* The first files that a program without streams opens do not become its streams. */
static void closed_streams_stay_apart(void **state)
{
    (void)state;
    const int saved[] = {dup(0), dup(1), dup(2)};
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (!pid) {
        char program[4096];
        const ssize_t n = readlink("/proc/self/exe", program, sizeof program - 16);
        program[n < 0 ? 0 : n] = 0;
        char *tests = strstr(program, "/tests/");
        for (char *next; tests && (next = strstr(tests + 1, "/tests/"));)
            tests = next;
        if (!tests || chdir(folder))
            _exit(126);
        strcpy(tests, "/attar");
        close(0);
        close(1);
        close(2);
        execl(program, program, "run", "t.yaml", "name=closed", (char *)NULL);
        _exit(127);
    }
    assert_int_equal(spawn_wait(pid), 0);
    for (int i = 0; i < 3; i++)
        close(saved[i]);
    // the same lines as of a run with streams, and it goes on
    spawn_expect(folder, 0, "run t.yaml");
    same_run(at("runs/t/01-pretrain"), at("runs/closed/01-pretrain"));
    unlink(at("runs/closed/01-pretrain/summary.json"));
    spawn_expect(folder, 0, "run t.yaml name=closed");
}

/* What the program needs in its environment to execute itself again, it may not get. */
static void environment_that_cannot_grow_ends(void **state)
{
    (void)state;
    const char *names[] = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "ATTAR_EXECED"};
    char *kept[3];
    for (int i = 0; i < 3; i++) {
        kept[i] = getenv(names[i]) ? strdup(getenv(names[i])) : NULL;
        unsetenv(names[i]);
    }
    for (int n = 1; n <= 4; n++) {
        char text[32];
        snprintf(text, sizeof text, "setenv:%d+:ENOMEM", n);
        fault(text);
        spawn_expect(folder, 0, "check t.yaml");
        fault("");
    }
    for (int i = 0; i < 3; i++) {
        if (kept[i])
            setenv(names[i], kept[i], 1);
        free(kept[i]);
    }
}

/* A mapped file that loses its end: its name and 1, no signal, nothing left behind. */
static void cut_off_map_is_named(void **state)
{
    (void)state;
    spawn_expect(folder, 0, "run t.yaml");
    spawn_expect(folder, 0, "export runs/t/02-qat/checkpoint.h5 whole.gguf");
    size_t n;
    char *whole = scratch_read(at("whole.gguf"), &n);
    static const char *const commands[] = {"import m.gguf o.h5"};
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        bool cut = false;
        for (int nth = 1; nth <= 60 && !cut; nth++) {
            scratch_write(at("m.gguf"), whole, n);
            const int before = scratch_count(*state);
            const int status = with_fault("mmap", nth, "cut", commands[i]);
            assert_true(status == 0 || status == 1);
            if (status) {
                spawn_says(folder, ": the file was cut off"); // the input, or the output read back
                assert_int_equal(scratch_count(*state), before);
            }
            cut = cut || (status && says("attar: m.gguf: "));
            unlink(at("o.h5"));
            unlink(at("o.gguf"));
        }
        if (!cut)
            fail_msg("`attar %s` never read what was cut off", commands[i]);
    }
    free(whole);
}

/* HDF5, libcrypto and others crash, or go on with a part, where they get no memory. */
static void no_memory_is_a_message(void **state)
{
    static const char args[] = "export runs/t/02-qat/checkpoint.h5 o.gguf";
    size_t n;
    (void)state;
    spawn_expect(folder, 0, "run t.yaml");
    spawn_expect(folder, 0, args);
    char *good = scratch_read(at("o.gguf"), &n);
    const int before = scratch_count(*state);
    for (int nth = 1; nth <= 6000; nth += nth < 40 ? 3 : 211) {
        const int status = with_fault("malloc", nth, "ENOMEM", args);
        assert_true(status == 0 || status == 1);
        if (status)
            spawn_says(folder, "out of memory");
        assert_true(same_file("o.gguf", good, n));
        assert_int_equal(scratch_count(*state), before);
    }
    free(good);
}

int main(void)
{
#if defined __SANITIZE_ADDRESS__
    printf("[  SKIPPED ] test_faults: the address sanitizer has a malloc of its own\n");
    return 0;
#endif
    setenv("OMP_WAIT_POLICY", "passive", 0);
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, scratch_teardown)
    const struct CMUnitTest tests[] = {
        TEST(unreadable_is_not_absent),
        TEST(transient_errors_set_nothing_aside),
        TEST(interrupted_and_partial_calls_go_on),
        TEST(closed_streams_stay_apart),
        TEST(environment_that_cannot_grow_ends),
        TEST(cut_off_map_is_named),
        TEST(no_memory_is_a_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
