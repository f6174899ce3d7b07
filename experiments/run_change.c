#include "experiments/run_change.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "autograd/base/file.h"
#include "experiments/checkpoint.h"

enum { CONFIG_MAX = 1 << 20 };

/* An earlier config, and where the run's parts from it. */
struct earlier {
    struct config config;
    struct config_change change;
    struct buf diff;
};

static void earlier_free(struct earlier *e)
{
    config_free(&e->config);
    buf_free(&e->diff);
}

/* 0, or -1 with err() set; free it either way. */
static int earlier_read(struct earlier *e, const struct run *r, const char *path,
                        const struct buf *yaml)
{
    struct mistakes bad = {0};
    *e = (struct earlier){0};
    const int rc =
        config_parse(&e->config, yaml->p ? yaml->p : "", yaml->n, r->config->folder, 0, NULL, &bad);
    mistake_free(&bad);
    if (rc)
        return err("%s: its config cannot be read any more (damaged, or made by another version); "
                   "start over with --fresh, or give the run another name",
                   path);
    return config_change(&e->config, r->config, &e->change, &e->diff);
}

static int refuse(const struct earlier *e, const char *path)
{
    return err(
        "%s was started with another config:\n%sWhat has begun keeps its config; a stage may "
        "become longer. Go back to that one, start over with --fresh, or give the run "
        "another name",
        path, e->diff.p ? e->diff.p : "");
}

int run_change_agrees(const struct run *r, int stage, const char *path, const struct buf *yaml,
                      struct config_train *was)
{
    struct earlier e;
    *was = (struct config_train){0};
    int rc = earlier_read(&e, r, path, yaml);
    if (!rc) {
        const struct config_change *c = &e.change;
        const bool longer = c->n && c->stage == stage && c->longer;
        if (c->n && c->stage <= stage && !longer)
            rc = refuse(&e, path);
        else if (longer) {
            const struct config_train *t = &e.config.stages[stage].train;
            *was = (struct config_train){.tokens = t->tokens,
                                         .steps = t->steps,
                                         .epochs = t->epochs,
                                         .batch_tokens = t->batch_tokens};
        }
    }
    earlier_free(&e);
    return rc;
}

/* ---- stages that have begun ---- */

/* 1: a step was saved, or it is done; 0: neither; -1 with err() set: that cannot be known. */
static int begun(const struct run *r, int stage)
{
    char path[RUN_PATH];
    int64_t step;
    run_stage_path(r, stage, "summary.json", path);
    const int done = file_exists(path);
    if (done)
        return done;
    run_stage_path(r, stage, "", path);
    const int n = checkpoint_list(path, &step, 1);
    return n < 0 ? -1 : n > 0 && step > 0;
}

/* The first stage from `from` on that has begun, or n_stages; -1 with err() set. */
static int first_begun(const struct run *r, int from)
{
    for (; from < r->config->n_stages; from++) {
        const int is = begun(r, from);
        if (is)
            return is < 0 ? -1 : from;
    }
    return from;
}

/* What a start left that came to no step: a checkpoint of step 0 has another config. */
static void forget_start(const struct run *r, int stage)
{
    char folder[RUN_PATH], path[4096];
    run_stage_path(r, stage, "", folder);
    for (int step = 0; step >= -1; step--) {
        checkpoint_name(path, folder, step);
        unlink(path);
    }
    run_stage_path(r, stage, "best.h5", path);
    unlink(path);
}

/* The folder of a stage that runs again gets the first free name aside-01-NAME.1, .2, ... */
static int move_aside(const struct run *r, int stage)
{
    char from[RUN_PATH], to[RUN_PATH + 32];
    struct stat st;
    run_stage_path(r, stage, "", from);
    const char *name = strrchr(from, '/') + 1;
    for (int i = 1; i < 10000; i++) {
        snprintf(to, sizeof to, "%.*saside-%s.%d", (int)(name - from), from, name, i);
        if (!lstat(to, &st))
            continue;
        if (errno != ENOENT)
            return err("%s: %s", to, strerror(errno));
        if (rename(from, to))
            return err("%s: cannot be renamed to %s: %s", from, to, strerror(errno));
        fprintf(stderr, "stage %s runs again; what it made is now in %s\n",
                r->config->stages[stage].name, to);
        return 0;
    }
    return err("%s: there are too many earlier ones beside it; remove some", from);
}

/* Stage `longer` has grown: it is not done any more, and what is behind it begins again. */
static int reopen(const struct run *old, int longer)
{
    char path[RUN_PATH];
    for (int i = longer + 1; i < old->config->n_stages; i++) {
        const int is = begun(old, i);
        if (is < 0 || (is && move_aside(old, i)))
            return -1;
    }
    run_stage_path(old, longer, "summary.json", path);
    return unlink(path) && errno != ENOENT ? err("%s: %s", path, strerror(errno)) : 0;
}

/* Stages from `stage` on have changed: none of them has begun, or the first has become longer. */
static int take(const struct run *r, const struct earlier *e, const char *path)
{
    struct run old = *r;
    old.config = &e->config; // stages lie under the names that they had
    const int from = e->change.stage < 0 ? 0 : e->change.stage;
    const int first = first_begun(&old, from);
    if (first < 0)
        return -1;
    const bool longer = e->change.longer && first == from && from < old.config->n_stages;
    if (first < old.config->n_stages && !longer)
        return refuse(e, path);
    fprintf(stderr, "%s: %s\n%s", r->folder,
            longer ? "a stage has become longer, and goes on from its last checkpoint"
                   : "changed where nothing has begun",
            e->diff.p ? e->diff.p : "");
    if (longer && reopen(&old, from))
        return -1;
    for (int i = from + longer; i < old.config->n_stages; i++)
        forget_start(&old, i);
    return file_replace(path, r->yaml.p, r->yaml.n);
}

int run_change(const struct run *r)
{
    char path[RUN_PATH];
    struct buf old = {0};
    struct earlier e = {0};
    snprintf(path, sizeof path, "%.4000s/config.yaml", r->folder);
    const int there = file_exists(path);
    if (there <= 0)
        return there < 0 ? -1 : file_replace(path, r->yaml.p, r->yaml.n);
    int rc = file_read(path, CONFIG_MAX, &old);
    if (!rc)
        rc = earlier_read(&e, r, path, &old);
    if (!rc && e.change.n)
        rc = take(r, &e, path);
    earlier_free(&e);
    buf_free(&old);
    return rc;
}
