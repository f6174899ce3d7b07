/* What the scripts of tests/ print: run.sh its sums and reasons, build.sh its progress, deps.sh
 * what is missing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "autograd/base/buf.h"
#include "tests/datasets/scratch.h"

/* Writes a program of the shell. */
static void program(const char *path, const char *text)
{
    scratch_text(path, text);
    assert_int_equal(chmod(path, 0755), 0);
}

/* Exit status; both outputs go into `said`. */
static int shell(const char *command, struct buf *said)
{
    struct buf line = {0};
    buf_clear(said);
    buf_printf(&line, "{ %s; } 2>&1 </dev/null", command);
    FILE *f = popen(line.p, "r");
    assert_non_null(f);
    char part[4096];
    for (size_t n; (n = fread(part, 1, sizeof part, f)) > 0;)
        buf_add(said, part, n);
    buf_text(said, "");
    buf_free(&line);
    const int status = pclose(f);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void says(const struct buf *said, const char *text)
{
    if (!strstr(said->p, text))
        fail_msg("no '%s' in\n%s", text, said->p);
}

static void run_lists_what_is_skipped(void **state)
{
    struct buf said = {0}, command = {0};
    scratch_text(scratch_path(*state, "placeholder"), "");
    buf_printf(&command, "mkdir -p '%s/tests/a'", scratch_folder(*state));
    assert_int_equal(shell(command.p, &said), 0);
    program(scratch_path(*state, "tests/a/test_one"),
            "#!/bin/sh\ncat <<E\n"
            "[ RUN      ] alpha\nno model.gguf here: skipped\n[  SKIPPED ] alpha\n"
            "[ RUN      ] beta\n[  SKIPPED ] beta\n"
            "[ RUN      ] gamma\nthis CPU has no amx: skipped\n[       OK ] gamma\n"
            "[ RUN      ] delta\n[       OK ] delta\n"
            "[==========] 4 test(s) run.\n[  PASSED  ] 2 test(s).\n[  SKIPPED ] 2 test(s), listed "
            "below:\n"
            "[  SKIPPED ] alpha\n[  SKIPPED ] beta\n 2 SKIPPED TEST(S)\nE\n");
    buf_clear(&command);
    buf_printf(&command, "TESTS= RUNNER= tests/run.sh '%s'", scratch_folder(*state));
    assert_int_equal(shell(command.p, &said), 0);
    says(&said, "1 of 1  a/test_one");
    says(&said, "a/test_one: alpha: no model.gguf here\n");
    says(&said, "a/test_one: beta: no reason given\n");
    says(&said, "a/test_one: gamma in part: this CPU has no amx\n");
    says(&said, "2 passed, 0 failed, 2 skipped\n");
    assert_null(strstr(said.p, "delta"));
    program(scratch_path(*state, "tests/a/test_two"), "#!/bin/sh\necho 'it broke'\nexit 3\n");
    assert_int_equal(shell(command.p, &said), 1);
    says(&said, "2 of 2  a/test_two");
    says(&said, "1 FAILED (exit status 3)\nit broke\n");
    buf_free(&said);
    buf_free(&command);
}

static void build_shows_progress(void **state)
{
    struct buf said = {0}, command = {0}, file = {0};
    buf_text(&file, "all:\n");
    for (int i = 0; i < 60; i++)
        buf_printf(&file, "\ttrue %d -o x%d.o\n", i, i);
    scratch_text(scratch_path(*state, "makefile"), file.p);
    buf_printf(&command, "MAKEFLAGS= tests/build.sh -f '%s' all", scratch_path(*state, "makefile"));
    assert_int_equal(shell(command.p, &said), 0);
    says(&said, "building 60 files");
    says(&said, "25 of 60 files\n50 of 60 files\n");
    assert_null(strstr(said.p, "true"));
    buf_text(&file, "\techo 'what is wrong' >&2; false\n");
    scratch_text(scratch_path(*state, "makefile"), file.p);
    assert_int_equal(shell(command.p, &said), 2);
    says(&said, "what is wrong");
    buf_free(&said);
    buf_free(&command);
    buf_free(&file);
}

/* With a dpkg-query that knows one package, and neither root nor sudo. */
static void deps_say_what_is_missing(void **state)
{
    struct buf said = {0}, command = {0};
    program(scratch_path(*state, "dpkg-query"),
            "#!/bin/sh\n[ \"$3\" != there ] || echo 'install ok installed'\n");
    program(scratch_path(*state, "id"), "#!/bin/sh\necho 1000\n");
    program(scratch_path(*state, "grep"), "#!/bin/sh\nexec /bin/grep \"$@\"\n");
    buf_printf(&command, "PATH='%s' /bin/sh tests/deps.sh", scratch_folder(*state));
    const size_t n = command.n;
    buf_text(&command, " there");
    assert_int_equal(shell(command.p, &said), 0);
    assert_string_equal(said.p, "");
    command.n = n;
    buf_text(&command, " there away");
    assert_int_equal(shell(command.p, &said), 1);
    says(&said, "apt-get install -y --no-install-recommends away\n");
    buf_free(&said);
    buf_free(&command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(run_lists_what_is_skipped, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(build_shows_progress, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(deps_say_what_is_missing, scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests_name("scripts", tests, NULL, NULL);
}
