#include "tests/experiments/spawn.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/datasets/scratch.h"

enum { PATH = 4200, ARGS = 32, PATIENCE = 120 };

static long limit;

void spawn_limit(long file_bytes)
{
    limit = file_bytes;
}

/* build/x/tests/experiments/test_run -> build/x/attar */
static void find_program(char path[PATH])
{
    const ssize_t n = readlink("/proc/self/exe", path, PATH - 8);
    assert_true(n > 0);
    path[n] = 0;
    char *tests = strstr(path, "/tests/");
    for (char *next; tests && (next = strstr(tests + 1, "/tests/"));)
        tests = next;
    assert_non_null(tests);
    strcpy(tests, "/attar");
    if (access(path, X_OK))
        fail_msg("%s is needed: make tests-built", path);
}

static void output_path(const char *folder, char path[PATH])
{
    snprintf(path, PATH, "%s/output", folder);
}

static void become(const char *program, const char *folder, const char *output,
                   const char *const *args)
{
    const char *argv[ARGS] = {program};
    for (int i = 0; args[i]; i++)
        argv[i + 1] = args[i];
    const int fd = open(output, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0666);
    if (fd < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0 || chdir(folder))
        _exit(126);
    if (limit) {
        const struct rlimit r = {(rlim_t)limit, (rlim_t)limit};
        signal(SIGXFSZ, SIG_IGN); // the first write may come before the program ignores it
        setrlimit(RLIMIT_FSIZE, &r);
    }
    execv(program, (char *const *)(uintptr_t)argv);
    _exit(127);
}

pid_t spawn_start(const char *folder, const char *const *args)
{
    char program[PATH], output[PATH];
    find_program(program);
    output_path(folder, output);
    const pid_t pid = fork();
    if (!pid)
        become(program, folder, output, args);
    assert_true(pid > 0);
    return pid;
}

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 300000}, NULL);
}

int spawn_wait(pid_t pid)
{
    int status = 0;
    const time_t began = time(NULL);
    while (!waitpid(pid, &status, WNOHANG)) {
        if (time(NULL) - began > PATIENCE) {
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            fail_msg("attar did not end within %d s", PATIENCE);
        }
        nap();
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int spawn_run(const char *folder, const char *args)
{
    char *text = strdup(args), *rest = text;
    const char *argv[ARGS] = {0};
    for (int i = 0; rest && i < ARGS - 2; i++)
        argv[i] = strsep(&rest, " ");
    const int status = spawn_wait(spawn_start(folder, argv));
    free(text);
    return status;
}

char *spawn_output(const char *folder)
{
    char path[PATH];
    size_t n;
    output_path(folder, path);
    return scratch_read(path, &n);
}

void spawn_says(const char *folder, const char *text)
{
    char *output = spawn_output(folder);
    if (!strstr(output, text))
        fail_msg("`%s` is missing in:\n%s", text, output);
    free(output);
}

void spawn_expect(const char *folder, int status, const char *args)
{
    const int got = spawn_run(folder, args);
    if (got == status)
        return;
    char *output = spawn_output(folder);
    print_message("%s\n", output);
    free(output);
    fail_msg("`attar %s`: exit status %d, %d is expected", args, got, status);
}

int spawn_await(pid_t pid, const char *path, const char *text)
{
    const time_t began = time(NULL);
    while (time(NULL) - began < PATIENCE) {
        siginfo_t ended = {0};
        const int gone =
            waitid(P_PID, (id_t)pid, &ended, WEXITED | WNOHANG | WNOWAIT) || ended.si_pid == pid;
        if (!access(path, F_OK)) {
            size_t n;
            char *bytes = scratch_read(path, &n);
            const int there = strstr(bytes, text) != NULL;
            free(bytes);
            if (there)
                return !gone;
        }
        if (gone)
            return 0;
        nap();
    }
    fail_msg("%s: no `%s` within %d s", path, text, PATIENCE);
    return 0;
}
