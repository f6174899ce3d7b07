/* What is said about paths that are not there. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "autograd/base/absent.h"
#include "autograd/base/err.h"
#include "tests/datasets/scratch.h"

static void says(const char *path, const char *tail)
{
    struct stat s;
    char want[8192];
    assert_int_equal(stat(path, &s), -1);
    const char *reason = strerror(errno);
    snprintf(want, sizeof want, "%s: %s%s", path, reason, tail);
    (void)stat(path, &s); // for errno
    assert_int_equal(absent_report(path), -1);
    assert_string_equal(err_text(), want);
}

static void slips_and_missing_folders_are_named(void **state)
{
    char tail[4096], path[4096];
    scratch_text(scratch_path(*state, "text.txt"), "x");
    assert_int_equal(mkdir(scratch_path(*state, "configs"), 0777), 0);
    scratch_text(scratch_path(*state, "configs/one.yaml"), "x");
    snprintf(tail, sizeof tail, "; did you mean %s?", scratch_path(*state, "text.txt"));
    says(scratch_path(*state, "txt.txt"), tail);
    says(scratch_path(*state, "textt.txt"), tail);
    snprintf(tail, sizeof tail, "; did you mean %s?", scratch_path(*state, "configs/one.yaml"));
    says(scratch_path(*state, "configs/on.yaml"), tail);
    snprintf(tail, sizeof tail, "; there is no folder '%s'; did you mean %s?",
             scratch_path(*state, "config"), scratch_path(*state, "configs"));
    says(scratch_path(*state, "config/one.yaml"), tail);
    snprintf(tail, sizeof tail, "; there is no folder '%s'", scratch_path(*state, "zzz"));
    says(scratch_path(*state, "zzz/a/b.yaml"), tail);
    says(scratch_path(*state, "something.else"), "");
    says(scratch_path(*state, "text.txt/x"), ""); // another reason: nothing is added
    says("", "");
    snprintf(path, sizeof path, "/%s/x", strrchr(scratch_folder(*state), '/') + 1);
    snprintf(tail, sizeof tail, "; there is no folder '/%s'",
             strrchr(scratch_folder(*state), '/') + 1);
    says(path, tail);
}

/* They are there, so neither a slip of their own name nor a missing folder. */
static void links_to_nothing_are_named(void **state)
{
    char tail[4096], link[2048];
    snprintf(link, sizeof link, "%s", scratch_path(*state, "model.gguf"));
    assert_int_equal(symlink("../blobs/1", link), 0);
    snprintf(tail, sizeof tail, "; '%s' is a link to '../blobs/1', which is not there", link);
    says(link, tail);
    says(scratch_path(*state, "model.gguf/x"), tail);
    assert_int_equal(unlink(link), 0);
}

static void relative_paths_name_the_current_folder(void **state)
{
    char tail[4096], here[2048], before[2048];
    assert_non_null(getcwd(before, sizeof before));
    scratch_text(scratch_path(*state, "a.yaml"), "x");
    assert_int_equal(chdir(scratch_folder(*state)), 0);
    assert_non_null(getcwd(here, sizeof here));
    snprintf(tail, sizeof tail, "; there is no folder 'experiments' in the current one, %s", here);
    says("experiments/configs/a.yaml", tail);
    says("zzzz.yml", "");
    says("a.yml", "; did you mean a.yaml?");
    assert_int_equal(chdir(before), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(slips_and_missing_folders_are_named, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(links_to_nothing_are_named, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(relative_paths_name_the_current_folder, scratch_setup,
                                        scratch_teardown),
    };
    return cmocka_run_group_tests_name("absent", tests, NULL, NULL);
}
