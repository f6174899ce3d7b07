#include "experiments/progress.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "autograd/base/clock.h"
#include "autograd/base/err.h"

enum { FIELDS = 10, FIELD_BYTES = 64 };

/* A line while it is put together. */
struct line {
    int n;
    struct {
        const char *name; /* shown dim before the value; NULL: none */
        char value[FIELD_BYTES];
        bool keep; /* dropped after all fields that are not kept (the ETA) */
    } field[FIELDS];
};

static struct progress *current;

static void put(const struct progress *p, const char *s, size_t n)
{
    while (n) {
        const ssize_t w = write(p->fd, s, n);
        if (w <= 0)
            return; // nobody looks: no reason to stop the work
        s += w;
        n -= (size_t)w;
    }
}

void progress_clear(struct progress *p)
{
    if (p->terminal && p->drawn)
        put(p, "\r\033[K", 4);
    p->drawn = false;
}

static void clear_current(void)
{
    if (current)
        progress_clear(current);
}

void progress_open(struct progress *p, int fd, const char *label)
{
    const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");
    *p = (struct progress){
        .fd = fd, .clock = clock_seconds, .delay = 2, .interval = 10, .samples = -1};
    snprintf(p->label, sizeof p->label, "%s", label);
    p->terminal = isatty(fd) && !(term && !strcmp(term, "dumb"));
    p->color = p->terminal && !(no_color && *no_color);
    p->began = p->shown = p->clock();
    clear_current();
    p->outer = current;
    current = p;
    err_before_warning = clear_current;
}

static int width(const struct progress *p)
{
    struct winsize w;
    if (!p->terminal)
        return PROGRESS_LINE;
    if (!ioctl(p->fd, TIOCGWINSZ, &w) && w.ws_col)
        return w.ws_col;
    const char *columns = getenv("COLUMNS");
    const int n = columns ? atoi(columns) : 0;
    return n > 0 ? n : 80;
}

/* Code points: all that these lines are made of is one column wide. */
static int columns_of(const char *s)
{
    int n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

static void add(struct line *l, const char *name, const char *fmt, ...) ERR_PRINTF(3, 4);

static void add(struct line *l, const char *name, const char *fmt, ...)
{
    if (l->n == FIELDS)
        BUG("a progress line of more than %d fields", FIELDS);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(l->field[l->n].value, FIELD_BYTES, fmt, ap);
    va_end(ap);
    l->field[l->n].name = name;
    l->field[l->n].keep = false;
    l->n++;
}

static int field_columns(const struct line *l, int i)
{
    const char *name = l->field[i].name;
    return columns_of(l->field[i].value) + (name ? columns_of(name) + 1 : 0) + (i ? 2 : 0);
}

/* Drops fields until the line fits: the rightmost first, those to keep last, the first one never.
 */
static void fit(struct line *l, int columns)
{
    for (;;) {
        int sum = 0, drop = 0;
        for (int i = 0; i < l->n; i++) {
            sum += field_columns(l, i);
            if (i && (!drop || !l->field[i].keep || l->field[drop].keep))
                drop = i;
        }
        if (sum <= columns || !drop)
            return;
        memmove(&l->field[drop], &l->field[drop + 1],
                (size_t)(l->n - drop - 1) * sizeof l->field[0]);
        l->n--;
    }
}

/* The line as text; cut where not even its first field fits. */
static void render(const struct progress *p, struct line *l, char out[PROGRESS_LINE])
{
    // a character in the last column may wrap, and \r would then not reach the line's start
    const int columns = width(p) - 1;
    fit(l, columns);
    size_t n = 0;
    for (int i = 0; i < l->n && n < PROGRESS_LINE; i++) {
        const char *name = l->field[i].name ? l->field[i].name : "";
        const bool dim = p->color && *name;
        n += (size_t)snprintf(out + n, PROGRESS_LINE - n, "%s%s%s%s%s%s", i ? "  " : "",
                              dim ? "\033[2m" : "", name, dim ? "\033[0m" : "", *name ? " " : "",
                              l->field[i].value);
    }
    if (l->n == 1 && field_columns(l, 0) > columns) {
        const char *name = l->field[0].name;
        snprintf(out, PROGRESS_LINE, "%s%s%s", name ? name : "", name ? " " : "",
                 l->field[0].value);
        out[columns > 0 ? columns : 0] = 0; // these bytes are ASCII, but for a strange label
    }
}

static void duration(char out[FIELD_BYTES], double seconds)
{
    const long long s = llround(fmin(fmax(seconds, 0), 1e9));
    if (s < 3600)
        snprintf(out, FIELD_BYTES, "%lld:%02lld", s / 60, s % 60);
    else if (s < 86400)
        snprintf(out, FIELD_BYTES, "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(out, FIELD_BYTES, "%lldd %02lldh", s / 86400, s / 3600 % 24);
}

/* Three digits and a power of 1000: 812, 11.2k, 4.61M. */
static void quantity(char out[FIELD_BYTES], double x, const char *space)
{
    static const char *const unit[] = {"", "k", "M", "G", "T", "P"};
    int u = 0;
    for (; fabs(x) >= 999.5 && u < 5; u++)
        x /= 1000;
    const bool whole = x == floor(x) && !u;
    const int digits = whole ? 0 : fabs(x) < 9.995 ? 2 : fabs(x) < 99.95 ? 1 : 0;
    snprintf(out, FIELD_BYTES, "%.*f%s%s", digits, x, space, unit[u]);
}

static void add_eta(struct line *l, const struct progress *p, bool last)
{
    char time[FIELD_BYTES];
    const double eta = progress_eta(p);
    if (last) {
        duration(time, p->clock() - p->began);
        add(l, "in", "%s", time);
    } else if (!isnan(eta)) {
        duration(time, eta);
        add(l, "ETA", "%s", time);
    } else {
        return;
    }
    l->field[l->n - 1].keep = true;
}

/* 2.9e-3: a mantissa with at most one decimal, an exponent without padding. */
static void add_small(struct line *l, const char *name, double x)
{
    char text[32];
    snprintf(text, sizeof text, "%.1e", x);
    char *e = strchr(text, 'e');
    if (x == 0 || !e)
        add(l, name, "%g", x);
    else
        add(l, name, "%.*se%d", (int)(e - text), text, atoi(e + 1));
}

static void fill_step(struct line *l, const struct progress *p, bool last)
{
    const struct progress_step *s = &p->step;
    char text[FIELD_BYTES];
    add(l, p->label, "%lld/%lld", (long long)s->step, (long long)s->steps);
    if (isnan(s->smooth))
        add(l, "loss", "%.3f", s->loss);
    else
        add(l, "loss", "%.3f (%.3f)", s->loss, s->smooth);
    if (!isnan(s->lr))
        add_small(l, "lr", s->lr);
    if (!isnan(s->grad_norm))
        add(l, "grad", fabs(s->grad_norm) < 1e4 ? "%.2f" : "%.1e", s->grad_norm);
    if (s->tokens_per_s > 0) {
        quantity(text, s->tokens_per_s, "");
        add(l, NULL, "%.16s tok/s", text);
    }
    if (s->gemm_share > 0)
        add(l, "GEMM", "%.0f%%", 100 * s->gemm_share);
    if (s->mem_bytes > 0) {
        quantity(text, s->mem_bytes, " ");
        add(l, "mem", "%.16sB", text);
    }
    add_eta(l, p, last);
}

static void fill_count(struct line *l, const struct progress *p, bool last)
{
    const bool bytes = !strcmp(p->unit, "B");
    char done[FIELD_BYTES], total[FIELD_BYTES], rate[FIELD_BYTES];
    const char *space = bytes ? " " : "", *gap = bytes ? "" : " ";
    quantity(done, p->done, space);
    quantity(total, p->total, space);
    if (p->total > 0) {
        // 1.20 MB/4.61 MB
        add(l, p->label, "%.16s%s/%.16s%s%.20s", done, bytes ? "B" : "", total, gap, p->unit);
        add(l, NULL, "%.0f%%", floor(100 * fmin(p->done / p->total, 1)));
    } else {
        add(l, p->label, "%.16s%s%.20s", done, gap, p->unit);
    }
    if (p->samples > 0) {
        quantity(rate, 1 / p->per_unit, space);
        add(l, NULL, "%.16s%s%.20s/s", rate, gap, p->unit);
    }
    add_eta(l, p, last);
}

static void show(struct progress *p, bool last)
{
    struct line l = {0};
    char text[PROGRESS_LINE];
    if (p->unit)
        fill_count(&l, p, last);
    else
        fill_step(&l, p, last);
    render(p, &l, text);
    if (p->terminal)
        put(p, "\r", 1);
    put(p, text, strlen(text));
    if (p->terminal)
        put(p, "\033[K", 3);
    if (!p->terminal || last)
        put(p, "\n", 1);
    p->shown = p->clock();
    p->drawn = !last;
    p->lines++;
}

/* Whether it is time for a line. */
static bool due(struct progress *p)
{
    const double now = p->clock(), since = now - p->shown;
    if (now - p->began < p->delay)
        return false;
    if (p->terminal)
        return !p->lines || since >= 0.1;
    const double share = p->total > 0 ? p->done / p->total : 0;
    const bool slow = since >= p->interval;
    if (!slow && !(share - p->share >= 0.05 && since >= 2))
        return false;
    if (slow)
        p->interval = fmin(p->interval * 2, 300);
    p->share = share;
    return true;
}

/*
 * Seconds per unit: an exponential mean over about 20 s. One interval ten times as long as expected
 * is left out: the process was stopped, or evaluated in between. A second one in a row counts: the
 * work has become slower. The first update only sets the origin: a resumed run does not start at 0.
 */
static void sample(struct progress *p)
{
    const double now = p->clock(), dt = now - p->at, dn = p->done - p->sampled;
    const bool first = p->samples < 0;
    if (!first && dn >= 0 && (dn == 0 || dt < 0.1))
        return;
    p->at = now;
    p->sampled = p->done;
    if (first || dn < 0) {
        p->samples = 0;
        return;
    }
    const double pace = dt / dn;
    if (p->samples >= 3 && dt > 1 && pace > 10 * p->per_unit && !p->paused) {
        p->paused = true;
        return;
    }
    p->paused = false;
    p->samples++;
    const double weight = fmin(1 - exp(-dt / 20), 0.3);
    p->per_unit += fmax(weight, 1.0 / p->samples) * (pace - p->per_unit);
}

double progress_eta(const struct progress *p)
{
    if (p->samples <= 0 || !(p->total > 0))
        return NAN;
    double seconds = fmax(p->total - p->done, 0) * p->per_unit;
    for (int i = 0; i < PROGRESS_BETWEEN; i++)
        seconds += (double)p->step.left[i] * p->between[i].seconds;
    return seconds;
}

void progress_leave(struct progress *p)
{
    p->left_at = p->clock();
}

void progress_return(struct progress *p, enum progress_between what)
{
    enum { RECENT = 4 };
    const double took = p->clock() - p->left_at;
    const int n = ++p->between[what].n;
    p->between[what].seconds += (took - p->between[what].seconds) / (n < RECENT ? n : RECENT);
    p->at += took;
}

int64_t progress_left(int64_t every, int64_t step, int64_t steps)
{
    return every ? (steps - 1) / every - (step - 1) / every + 1 : 0;
}

void progress_update(struct progress *p, double done, double total, const char *unit)
{
    p->done = done;
    p->total = total;
    p->unit = unit;
    sample(p);
    if (due(p))
        show(p, false);
}

void progress_step(struct progress *p, const struct progress_step *s)
{
    p->step = *s;
    progress_update(p, (double)s->step, (double)s->steps, NULL);
}

void progress_close(struct progress *p)
{
    if (p->lines)
        show(p, true);
    for (struct progress **at = &current; *at; at = &(*at)->outer)
        if (*at == p) {
            *at = p->outer;
            break;
        }
}
