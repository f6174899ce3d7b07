#include "experiments/metrics.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "autograd/base/err.h"
#include "autograd/base/file.h"
#include "autograd/base/mem.h"

void metrics_add_number(struct buf *b, double x)
{
    char text[40];
    if (!isfinite(x)) {
        buf_text(b, "null");
        return;
    }
    const bool single = fabs(x) <= 3.4e38 && (double)(float)x == x;
    for (int digits = single ? 6 : 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (single ? strtof(text, NULL) == (float)x : strtod(text, NULL) == x)
            break;
    }
    buf_text(b, text);
}

void metrics_now(char out[32])
{
    const time_t now = time(NULL);
    struct tm t;
    gmtime_r(&now, &t);
    strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &t);
}

/* ---- writing ---- */

static void line_begin(struct metrics *m, int64_t step)
{
    buf_clear(&m->line);
    buf_printf(&m->line, "{\"step\":%lld", (long long)step);
}

static void line_number(struct metrics *m, const char *key, double x)
{
    buf_text(&m->line, ",");
    buf_json(&m->line, key, strlen(key));
    buf_text(&m->line, ":");
    metrics_add_number(&m->line, x);
}

static void line_count(struct metrics *m, const char *key, int64_t n)
{
    buf_printf(&m->line, ",\"%s\":%lld", key, (long long)n);
}

static void line_text(struct metrics *m, const char *key, const char *s, size_t n)
{
    buf_printf(&m->line, ",\"%s\":", key);
    buf_json(&m->line, s, n);
}

/* Shows the line just written to who follows. */
static int tell(const struct metrics *m, int64_t step)
{
    if (!m->each)
        return 0;
    json_t *line = json_loadb(m->line.p, m->line.n, JSON_ALLOW_NUL, NULL);
    if (!line)
        return err("out of memory: a line of %s", m->file.path);
    const int rc = m->each(m->arg, step, line);
    json_decref(line);
    return rc;
}

static int line_end(struct metrics *m, int64_t step)
{
    buf_text(&m->line, "}\n");
    if (m->line.failed)
        return err_in("%s", m->file.path);
    if (m->line.n > METRICS_LINE_MAX)
        return err("%s: a line of %zu bytes, at most %d are possible", m->file.path, m->line.n,
                   METRICS_LINE_MAX);
    return tail_add(&m->file, m->line.p, m->line.n) ? -1 : tell(m, step);
}

/* An event that names which of the values just written were not finite. */
static int report_bad(struct metrics *m, int64_t step, const struct metrics_term *v, int n)
{
    struct buf what = {0};
    for (int i = 0; i < n; i++)
        if (!isfinite(v[i].value))
            buf_printf(&what, "%s%s is %g", what.n ? ", " : "", v[i].name, v[i].value);
    int rc = 0;
    if (what.failed)
        rc = err_in("%s", m->file.path);
    else if (what.n)
        rc = metrics_event(m, step, "not finite", "%s", what.p);
    buf_free(&what);
    return rc;
}

int metrics_step(struct metrics *m, const struct metrics_step *s)
{
    const struct metrics_term own[] = {{"loss", s->loss},
                                       {"lr", s->lr},
                                       {"grad_norm", s->grad_norm}};
    const int n_own = (int)(sizeof own / sizeof own[0]);
    line_begin(m, s->step);
    for (int i = 0; i < n_own; i++)
        line_number(m, own[i].name, own[i].value);
    for (int i = 0; i < s->n_terms; i++)
        line_number(m, s->term[i].name, s->term[i].value);
    line_count(m, "tokens", s->tokens);
    line_number(m, "tokens_per_s", s->tokens_per_s);
    line_number(m, "time", s->time);
    if (line_end(m, s->step) || report_bad(m, s->step, own, n_own))
        return -1;
    return report_bad(m, s->step, s->term, s->n_terms);
}

int metrics_valid(struct metrics *m, const struct metrics_valid *v)
{
    const struct metrics_term own[] = {{"valid_loss", v->loss}, {"perplexity", exp(v->loss)}};
    line_begin(m, v->step);
    for (int i = 0; i < 2; i++)
        line_number(m, own[i].name, own[i].value);
    if (v->bytes > 0)
        line_number(m, "bits_per_byte", v->loss * (double)v->tokens / (double)v->bytes / log(2));
    if (v->unaveraged)
        line_number(m, "valid_loss_unaveraged", *v->unaveraged);
    line_number(m, "time", v->time);
    return line_end(m, v->step) ? -1 : report_bad(m, v->step, own, 2);
}

int metrics_sample(struct metrics *m, int64_t step, const char *prompt, const char *text, size_t n)
{
    if (n > METRICS_SAMPLE_MAX) {
        n = METRICS_SAMPLE_MAX;
        for (int i = 0; i < 3 && ((unsigned char)text[n] & 0xc0) == 0x80; i++)
            n--;
    }
    line_begin(m, step);
    line_text(m, "sample", text, n);
    if (prompt)
        line_text(m, "prompt", prompt, strnlen(prompt, METRICS_MESSAGE_MAX));
    return line_end(m, step);
}

int metrics_event(struct metrics *m, int64_t step, const char *event, const char *fmt, ...)
{
    char message[METRICS_MESSAGE_MAX], at[32];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    metrics_now(at);
    line_begin(m, step);
    line_text(m, "event", event, strlen(event));
    line_text(m, "message", message, strlen(message));
    line_text(m, "at", at, strlen(at));
    return line_end(m, step);
}

int metrics_follow(struct metrics *m, metrics_each *each, void *arg)
{
    m->each = each;
    m->arg = arg;
    return metrics_read(m->file.path, each, arg);
}

int metrics_sync(struct metrics *m)
{
    return tail_sync(&m->file);
}

int metrics_close(struct metrics *m)
{
    const int rc = tail_close(&m->file);
    buf_free(&m->line);
    *m = (struct metrics){.file.fd = -1};
    return rc;
}

/* ---- reading ---- */

struct source {
    FILE *f;
    const char *path;
    long number; /* of the line in hand, 1 for the first */
    char *text;  /* [METRICS_LINE_MAX + 1] */
    size_t n;
    bool whole;   /* it ends in a newline, which is not part of text */
    json_t *json; /* NULL: malformed, err() says how */
    int64_t step;
};

static int source_open(struct source *s, const char *path)
{
    *s = (struct source){.path = path, .f = fopen(path, "rbe")};
    if (!s->f)
        return err("%s: %s", path, strerror(errno));
    s->text = mem_new(METRICS_LINE_MAX + 1, 1);
    if (s->text)
        return 0;
    fclose(s->f);
    return -1;
}

static void source_close(struct source *s)
{
    json_decref(s->json);
    fclose(s->f);
    free(s->text);
}

static void parse(struct source *s)
{
    json_error_t e;
    if (s->n > METRICS_LINE_MAX) {
        err_damaged("%s:%ld: a line of more than %d bytes", s->path, s->number, METRICS_LINE_MAX);
        return;
    }
    s->json = json_loadb(s->text, s->n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e);
    if (!s->json) {
        err_damaged("%s:%ld:%d: %s", s->path, s->number, e.column, e.text);
        return;
    }
    const json_t *step = json_object_get(s->json, "step");
    if (json_is_integer(step) && json_integer_value(step) >= 0) {
        s->step = json_integer_value(step);
        return;
    }
    err_damaged("%s:%ld: no object with a \"step\" of 0 or more", s->path, s->number);
    json_decref(s->json);
    s->json = NULL;
}

/* 1: a line, malformed or not; 0: the end; -1: the file cannot be read. */
static int source_next(struct source *s)
{
    json_decref(s->json);
    s->json = NULL;
    s->n = 0;
    s->number++;
    int c;
    while ((c = getc_unlocked(s->f)) != EOF && c != '\n') {
        if (s->n < METRICS_LINE_MAX)
            s->text[s->n] = (char)c;
        s->n += s->n <= METRICS_LINE_MAX;
    }
    if (c == EOF && ferror(s->f))
        return err("%s: %s", s->path, strerror(errno));
    if (c == EOF && !s->n)
        return 0;
    s->whole = c == '\n';
    parse(s);
    return 1;
}

int metrics_read(const char *path, metrics_each *each, void *arg)
{
    struct source s;
    if (source_open(&s, path))
        return -1;
    int rc;
    while ((rc = source_next(&s)) > 0) {
        if (s.json)
            rc = each(arg, s.step, s.json);
        else
            rc = s.whole ? -1 : 0;
        if (rc)
            break;
    }
    source_close(&s);
    return rc;
}

double metrics_number(const json_t *line, const char *key)
{
    const json_t *x = json_object_get(line, key);
    return json_is_number(x) ? json_number_value(x) : NAN;
}

/* ---- resuming ---- */

static bool has_one(const json_t *line, const char *const *keys)
{
    for (; keys && *keys; keys++)
        if (json_object_get(line, *keys))
            return true;
    return false;
}

/* The lines to keep. Malformed ones at the end are what a crash leaves behind: they go. */
static int collect(struct source *s, int64_t step, const char *const *undone, struct buf *kept)
{
    char bad[512] = "";
    int rc;
    while ((rc = source_next(s)) > 0) {
        if (!s->json && !*bad)
            snprintf(bad, sizeof bad, "%s", err_text());
        if (!s->json || s->step > step || (s->step == step && has_one(s->json, undone)))
            continue;
        if (*bad)
            return err("%s; remove that line, or start the stage over", bad);
        buf_add(kept, s->text, s->n);
        buf_text(kept, "\n");
    }
    if (kept->failed)
        return err_in("%s", s->path);
    return rc;
}

static int cut(const char *path, int64_t step, const char *const *undone)
{
    struct source s;
    struct buf kept = {0};
    if (step < 0)
        return file_replace(path, "", 0);
    if (source_open(&s, path))
        return -1;
    int rc = collect(&s, step, undone, &kept);
    source_close(&s);
    if (!rc)
        rc = file_replace(path, kept.p ? kept.p : "", kept.n);
    buf_free(&kept);
    return rc;
}

int metrics_reopen(struct metrics *m, const char *path, int64_t step, const char *const *undone)
{
    *m = (struct metrics){.file.fd = -1};
    const int there = file_exists(path);
    if (there < 0)
        return -1;
    if (!there) {
        if (step >= 0)
            err_warn("%s is missing: the curves begin at step %lld", path, (long long)step);
    } else if (cut(path, step, undone)) {
        return -1;
    }
    return tail_open(&m->file, path);
}

int metrics_open(struct metrics *m, const char *path, int64_t step)
{
    return metrics_reopen(m, path, step, NULL);
}
