#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "autograd/base/cpu.h"

/* The level that this program has with ATTAR_CPU=value, and what it says on stderr. */
static void level_under(const char *value, char *text, size_t size)
{
    char exe[512], command[640];
    const ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    assert_true(n > 0);
    exe[n] = 0;
    const char *runner = getenv("RUNNER"); // what runs this program, if the machine cannot
    snprintf(command, sizeof command, "ATTAR_CPU=%s %s '%s' level 2>&1", value,
             runner ? runner : "", exe);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    text[fread(text, 1, size - 1, f)] = 0;
    assert_int_equal(pclose(f), 0);
}

static void environment_caps(void **state)
{
    char text[512];
    (void)state;
    for (int l = CPU_SCALAR; l < CPU_LEVELS; l++) {
        const enum cpu_level most = cpu_hardware(), want = (int)most < l ? most : (enum cpu_level)l;
        level_under(cpu_level_name((enum cpu_level)l), text, sizeof text);
        assert_string_equal(text, cpu_level_name(want));
    }
    level_under("SCALAR", text, sizeof text); // letters of either case
    assert_string_equal(text, "scalar");
    level_under("sse9", text, sizeof text);
    assert_non_null(strstr(text, "warning"));
    assert_non_null(strstr(text, "sse9"));
    assert_non_null(strstr(text, cpu_level_name(cpu_hardware())));
    level_under("", text, sizeof text);
    assert_string_equal(text, cpu_level_name(cpu_hardware()));
}

static void set_level(void **state)
{
    const enum cpu_level old = cpu_level();
    (void)state;
    for (int l = CPU_SCALAR; l < CPU_LEVELS; l++) {
        cpu_set_level((enum cpu_level)l);
        assert_int_equal(cpu_level(), (int)cpu_hardware() < l ? (int)cpu_hardware() : l);
    }
    cpu_set_level(old);
}

static void machine(void **state)
{
    (void)state;
    assert_true(strlen(cpu_name()) > 0 && !strchr(cpu_name(), '\n'));
    const size_t rss = cpu_rss(), peak = cpu_rss_peak();
    assert_true(rss > 1 << 18 && peak > 1 << 18);
    enum { MANY = 64 << 20 };
    char *p = malloc(MANY);
    for (size_t i = 0; i < MANY; i += 1024)
        ((volatile char *)p)[i] = 1;
    assert_true(cpu_rss() > rss + MANY / 2);
    assert_true(cpu_rss_peak() >= MANY);
    free(p);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(environment_caps),
        cmocka_unit_test(set_level),
        cmocka_unit_test(machine),
    };
    if (argc > 1 && !strcmp(argv[1], "level"))
        return printf("%s", cpu_level_name(cpu_level())) < 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
