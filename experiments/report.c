#include "experiments/report.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "autograd/base/absent.h"
#include "autograd/base/err.h"
#include "autograd/base/file.h"
#include "autograd/base/mem.h"
#include "experiments/metrics.h"

enum { CONFIG_MAX = 1 << 20 };

/* ---- curves ---- */

static int curve_add(struct report_curve *c, int64_t step, double y)
{
    if (mem_grow(&c->x, &c->cap_x, c->n + 1, sizeof *c->x) ||
        mem_grow(&c->y, &c->cap_y, c->n + 1, sizeof *c->y))
        return -1;
    c->x[c->n] = (double)step;
    c->y[c->n++] = y;
    return 0;
}

static void curve_free(struct report_curve *c)
{
    free(c->x);
    free(c->y);
}

/* The keys of a step line that have a place of their own. */
static struct report_curve *curve_of(struct report_stage *s, const char *key)
{
    const struct {
        const char *key;
        struct report_curve *curve;
    } known[] = {{"loss", &s->loss},
                 {"lr", &s->lr},
                 {"grad_norm", &s->grad},
                 {"tokens_per_s", &s->speed},
                 {"valid_loss", &s->valid},
                 {"bits_per_byte", &s->bits},
                 {"valid_loss_unaveraged", &s->unaveraged}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (!strcmp(key, known[i].key))
            return known[i].curve;
    return NULL;
}

/* Any other number of a line with a loss is one of its terms; NULL if it gets no curve. */
static struct report_curve *term_of(struct report_stage *s, const json_t *line, const char *key)
{
    static const char *const no_term[] = {"step", "tokens", "time", "perplexity"};
    if (!json_object_get(line, "loss"))
        return NULL;
    for (size_t i = 0; i < sizeof no_term / sizeof no_term[0]; i++)
        if (!strcmp(key, no_term[i]))
            return NULL;
    for (int i = 0; i < s->n_terms; i++)
        if (!strcmp(key, s->term[i].name))
            return &s->term[i];
    if (s->n_terms == REPORT_TERMS || strlen(key) >= sizeof s->term[0].name)
        return NULL;
    strcpy(s->term[s->n_terms].name, key);
    return &s->term[s->n_terms++];
}

/* ---- texts ---- */

static void text_free(struct report_text *t)
{
    free(t->text);
    free(t->kind);
    *t = (struct report_text){0};
}

static int text_set(struct report_text *t, int64_t step, const json_t *text, const json_t *kind)
{
    text_free(t);
    const size_t full = json_string_length(text); // 0 for what is no string
    const size_t len = full < REPORT_TEXT ? full : REPORT_TEXT;
    t->step = step;
    t->text = mem_text(json_string_value(text), len);
    if (!t->text)
        return -1;
    t->n = len;
    if (!json_is_string(kind))
        return 0;
    const size_t n = json_string_length(kind);
    t->kind = mem_text(json_string_value(kind), n < REPORT_TEXT ? n : REPORT_TEXT);
    return t->kind ? 0 : -1;
}

/* Keeps every stride-th sample, and in the last place always the newest. */
static int add_sample(struct report_stage *s, int64_t step, const json_t *line)
{
    if (s->samples && (s->samples - 1) % s->stride)
        s->n_samples--; // it was there only as the newest
    if (s->n_samples == REPORT_SAMPLES) {
        for (int i = 1; i < REPORT_SAMPLES; i++) {
            struct report_text *to = &s->sample[i / 2];
            if (i % 2 == 0) {
                text_free(to);
                *to = s->sample[i];
                s->sample[i] = (struct report_text){0};
            }
        }
        s->n_samples = (REPORT_SAMPLES + 1) / 2;
        s->stride *= 2;
    }
    s->samples++;
    return text_set(&s->sample[s->n_samples++], step, json_object_get(line, "sample"),
                    json_object_get(line, "prompt"));
}

static int add_event(struct report_stage *s, int64_t step, const json_t *line)
{
    const char *event = json_string_value(json_object_get(line, "event"));
    const char *at = json_string_value(json_object_get(line, "at"));
    if (!strcmp(event, "save")) {
        s->saves++;
        s->last_save = step;
        return 0;
    }
    if (!strcmp(event, "resume")) {
        s->resumes++;
        if (curve_add(&s->resumed, step, 0))
            return -1;
    }
    if (s->events++ >= REPORT_EVENTS)
        return 0;
    struct report_text *t = &s->event[s->n_events++];
    if (text_set(t, step, json_object_get(line, "message"), json_object_get(line, "event")))
        return -1;
    snprintf(t->at, sizeof t->at, "%s", at ? at : "");
    return 0;
}

/* ---- a stage ---- */

static int add_line(void *arg, int64_t step, const json_t *line)
{
    struct report_stage *s = arg;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)line, key, value)
    {
        if (!json_is_number(value) && !json_is_null(value))
            continue;
        struct report_curve *c = curve_of(s, key);
        if (!c)
            c = term_of(s, line, key);
        if (c && curve_add(c, step, metrics_number(line, key)))
            return -1;
    }
    if (json_object_get(line, "loss")) {
        const double tokens = metrics_number(line, "tokens"), time = metrics_number(line, "time");
        s->step = step;
        s->tokens = tokens > 0 && tokens < 1e18 ? (int64_t)tokens : s->tokens;
        s->seconds = time > 0 ? time : s->seconds;
    }
    if (json_is_string(json_object_get(line, "sample")) && add_sample(s, step, line))
        return -1;
    if (json_is_string(json_object_get(line, "event")) && add_event(s, step, line))
        return -1;
    return 0;
}

static void problem(struct report_stage *s)
{
    buf_printf(&s->problem, "%s\n", err_text());
}

/* 1: a regular file; 0: there is none; -1 with err() set. */
static int exists(const char *path, struct stat *st)
{
    const int there = file_exists(path);
    if (there > 0 && stat(path, st))
        return err("%s: %s", path, strerror(errno));
    return there > 0 ? S_ISREG(st->st_mode) : there;
}

/* Names and sizes of the regular files in a folder, by name. */
static int list_files(struct report_stage *s, const char *folder, time_t *newest)
{
    struct dirent **entry;
    int rc = 0;
    const int n = scandir(folder, &entry, NULL, alphasort);
    if (n < 0)
        return err("%s: %s", folder, strerror(errno));
    for (int i = 0; i < n; i++) {
        struct buf path = {0};
        struct stat st;
        buf_printf(&path, "%s/%s", folder, entry[i]->d_name);
        const int there = rc || path.failed ? -1 : exists(path.p, &st);
        rc = there < 0 ? -1 : rc;
        if (there > 0) {
            if (st.st_mtime > *newest)
                *newest = st.st_mtime;
            if (s->n_files < REPORT_FILES) {
                struct report_file *f = &s->file[s->n_files++];
                snprintf(f->name, sizeof f->name, "%s", entry[i]->d_name);
                f->size = st.st_size;
            }
        }
        buf_free(&path);
        free(entry[i]);
    }
    free(entry);
    return rc;
}

/* A damaged file is a problem that the page shows; one that cannot be read is an error. */
static int stage_load(struct report_stage *s, const char *folder, time_t *newest)
{
    struct buf path = {0};
    const char *const names[] = {"config.yaml", "metrics.jsonl", "summary.json"};
    struct stat st;
    int rc = 0;
    summary_init(&s->summary);
    s->stride = 1;
    for (int i = 0; !rc && i < 3; i++) {
        buf_clear(&path);
        buf_printf(&path, "%s/%s", folder, names[i]);
        const int there = path.failed ? -1 : exists(path.p, &st);
        if (there <= 0)
            rc = there;
        else if (i == 0)
            rc = file_read(path.p, CONFIG_MAX, &s->config);
        else if (i == 1)
            rc = metrics_read(path.p, add_line, s);
        else if (!(rc = summary_read(&s->summary, path.p)))
            s->finished = true;
        if (rc && err_is_damage()) {
            problem(s);
            rc = 0;
        }
    }
    buf_free(&path);
    return rc || list_files(s, folder, newest) || s->problem.failed ? -1 : 0;
}

static void stage_free(struct report_stage *s)
{
    struct report_curve *const curves[] = {&s->loss,  &s->lr,   &s->grad,       &s->speed,
                                           &s->valid, &s->bits, &s->unaveraged, &s->resumed};
    for (size_t i = 0; i < sizeof curves / sizeof curves[0]; i++)
        curve_free(curves[i]);
    for (int i = 0; i < REPORT_TERMS; i++)
        curve_free(&s->term[i]);
    for (int i = 0; i < REPORT_SAMPLES; i++)
        text_free(&s->sample[i]);
    for (int i = 0; i < REPORT_EVENTS; i++)
        text_free(&s->event[i]);
    summary_free(&s->summary);
    buf_free(&s->config);
    buf_free(&s->problem);
}

/* ---- the run ---- */

static long number_of(const char *name)
{
    char *end;
    if (!isdigit((unsigned char)*name))
        return -1;
    const long n = strtol(name, &end, 10);
    return *end == '-' && end[1] && end - name <= 6 ? n : -1;
}

static int is_stage(const struct dirent *d)
{
    return number_of(d->d_name) >= 0;
}

static int by_number(const struct dirent **a, const struct dirent **b)
{
    const long x = number_of((*a)->d_name), y = number_of((*b)->d_name);
    return x != y ? (x > y) - (x < y) : strcmp((*a)->d_name, (*b)->d_name);
}

static int add_stage(struct report *r, const char *folder, const char *name, time_t *newest)
{
    struct buf path = {0};
    struct stat st;
    int rc = 0;
    buf_printf(&path, "%s/%s", folder, name);
    if (!path.failed && stat(path.p, &st))
        rc = errno == ENOENT ? 0 : err("%s: %s", path.p, strerror(errno));
    else if (path.failed || (S_ISDIR(st.st_mode) && r->n < REPORT_STAGES)) {
        rc = path.failed ? -1 : mem_grow(&r->stage, &r->cap, r->n + 1, sizeof *r->stage);
        if (!rc) {
            struct report_stage *s = &r->stage[r->n++];
            snprintf(s->name, sizeof s->name, "%s", name);
            rc = stage_load(s, path.p, newest);
        }
    }
    buf_free(&path);
    return rc;
}

/* The last part of a path; of "." the current folder's. */
static char *name_of(const char *folder)
{
    char *full = realpath(folder, NULL);
    if (!full) {
        absent_report(folder);
        return NULL;
    }
    const char *slash = strrchr(full, '/');
    char *name = mem_text(slash + 1, strlen(slash + 1));
    free(full);
    return name;
}

/* Says what the folder may be in place of a run's. */
static int no_run(const char *folder)
{
    char metrics[4096], full[PATH_MAX];
    snprintf(metrics, sizeof metrics, "%s/metrics.jsonl", folder);
    const char *slash = realpath(folder, full) ? strrchr(full, '/') : NULL;
    if (slash && number_of(slash + 1) >= 0 && file_exists(metrics) > 0)
        return err("%s: a stage's folder, and a run's is wanted: %.*s", folder, (int)(slash - full),
                   full);
    return err("%s: no run: it has no stage folders such as 01-pretrain", folder);
}

int report_load(struct report *r, const char *folder)
{
    struct dirent **entry = NULL;
    struct buf path = {0};
    time_t newest = 0;
    *r = (struct report){0};
    r->name = name_of(folder);
    if (!r->name)
        return -1;
    const int n = scandir(folder, &entry, is_stage, by_number);
    int rc = n < 0 ? err("%s: %s", folder, strerror(errno)) : 0;
    for (int i = 0; i < n; i++) {
        if (!rc)
            rc = add_stage(r, folder, entry[i]->d_name, &newest);
        free(entry[i]);
    }
    free(entry);
    buf_printf(&path, "%s/config.yaml", folder);
    struct stat st;
    const int config = rc || path.failed ? -1 : exists(path.p, &st);
    rc = config < 0 ? -1 : config ? file_read(path.p, CONFIG_MAX, &r->config) : rc;
    buf_free(&path);
    if (!rc && !r->n)
        rc = no_run(folder);
    struct tm t;
    if (newest && gmtime_r(&newest, &t))
        strftime(r->written, sizeof r->written, "%Y-%m-%dT%H:%M:%SZ", &t);
    return rc;
}

void report_free(struct report *r)
{
    for (size_t i = 0; i < r->n; i++)
        stage_free(&r->stage[i]);
    free(r->stage);
    free(r->name);
    buf_free(&r->config);
    *r = (struct report){0};
}
