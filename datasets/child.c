#include "datasets/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "autograd/base/err.h"

extern char **environ;

static int spawn(pid_t *pid, const char *const *argv, int out)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t none, usual;
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attr);
    posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO);
    // what attar ignores or blocks, the program should not
    sigemptyset(&none);
    sigemptyset(&usual);
    sigaddset(&usual, SIGPIPE);
    sigaddset(&usual, SIGXFSZ);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &usual);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    char *const *args = (char *const *)(const void *)argv;
    const int e = posix_spawnp(pid, argv[0], &files, &attr, args, environ);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&files);
    return e;
}

int child_start(struct child *c, const char *const *argv, const char *package)
{
    int ends[2];
    *c = (struct child){.name = argv[0], .out = -1};
    if (pipe2(ends, O_CLOEXEC))
        return err("cannot start `%s`: %s", argv[0], strerror(errno));
    const int e = spawn(&c->pid, argv, ends[1]);
    close(ends[1]);
    if (!e) {
        c->out = ends[0];
        return 0;
    }
    c->pid = 0;
    close(ends[0]);
    if (e == ENOENT)
        return err("the program `%s` is not installed; Debian has it in the package %s "
                   "(apt-get install %s)",
                   argv[0], package, package);
    return err("cannot start `%s`: %s", argv[0], strerror(e));
}

static pid_t wait_for(struct child *c, int *raw)
{
    pid_t r;
    close(c->out);
    do
        r = waitpid(c->pid, raw, 0);
    while (r < 0 && errno == EINTR);
    c->pid = 0;
    return r;
}

int child_finish(struct child *c)
{
    int raw = 0;
    if (wait_for(c, &raw) < 0)
        return err("`%s` cannot be waited for: %s", c->name, strerror(errno));
    if (WIFSIGNALED(raw))
        return err("`%s` was ended by signal %d", c->name, WTERMSIG(raw));
    if (WEXITSTATUS(raw))
        return err("`%s` failed with exit status %d", c->name, WEXITSTATUS(raw));
    return 0;
}

void child_abandon(struct child *c)
{
    int raw;
    if (!c->pid)
        return;
    kill(c->pid, SIGKILL);
    (void)wait_for(c, &raw);
}
