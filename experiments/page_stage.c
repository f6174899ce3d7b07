#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/mem.h"
#include "experiments/html.h"
#include "experiments/page_parts.h"
#include "experiments/svg.h"

enum { SMALL_WIDTH = 360, SMALL_HEIGHT = 230, WIDE_WIDTH = 1050, WIDE_HEIGHT = 350 };

/* ---- charts ---- */

/* Centred means over page_window() points, near ones weighing more; what is not finite is left out.
   NULL: out of memory. */
static double *smooth(const struct report_curve *c)
{
    const size_t half = page_window(c->n) / 2;
    double *y = mem_new(c->n, sizeof *y);
    for (size_t i = 0; y && i < c->n; i++) {
        const size_t from = i > half ? i - half : 0, to = i + half < c->n ? i + half + 1 : c->n;
        double sum = 0, weights = 0;
        for (size_t j = from; j < to; j++) {
            const double weight = (double)(half + 1 - (j > i ? j - i : i - j));
            if (!isfinite(c->y[j]))
                continue;
            sum += weight * c->y[j];
            weights += weight;
        }
        y[i] = weights > 0 ? sum / weights : NAN;
    }
    return y;
}

/* A big chart is drawn twice, for wide and for narrow pages; the style shows one of them. of: the
   stage, whose resumptions are marked. */
static void add_figure(struct buf *b, struct svg_chart *c, const struct report_stage *of, bool big)
{
    c->marks = of->resumed.x;
    c->n_marks = of->resumed.n;
    c->mark_label = "resumed";
    buf_text(b, "<figure class=\"card\"><figcaption>");
    html_string(b, c->title);
    svg_legend(b, c);
    buf_text(b, "</figcaption>\n");
    if (big) {
        c->width = WIDE_WIDTH;
        c->height = WIDE_HEIGHT;
        buf_text(b, "<div class=\"wide\">");
        svg_draw(b, c);
        buf_text(b, "</div><div class=\"slim\">");
    }
    c->width = SMALL_WIDTH;
    c->height = SMALL_HEIGHT;
    svg_draw(b, c);
    buf_text(b, big ? "</div></figure>\n" : "</figure>\n");
}

static struct svg_series series(const struct report_curve *c, const char *label, int color,
                                enum svg_mark mark)
{
    return (struct svg_series){label, c->x, c->y, c->n, color, mark};
}

/* A curve and, where there are enough points, its means over it; in a big chart the validations of
   the stage as well. */
static void add_smoothed(struct buf *b, const struct report_curve *c, struct svg_chart *chart,
                         const struct report_stage *of, bool big)
{
    struct svg_series s[4];
    char label[48];
    const size_t window = page_window(c->n);
    double *y = NULL;
    chart->series = s;
    chart->n = 0;
    s[chart->n++] =
        series(c, big ? "training, each step" : "each step", 0, window > 1 ? SVG_THIN : SVG_LINE);
    if (window > 1) {
        y = smooth(c);
        b->failed |= !y;
        snprintf(label, sizeof label, "smoothed over %zu steps", window);
        s[chart->n++] = (struct svg_series){label, c->x, y, y ? c->n : 0, 0, SVG_LINE};
    }
    if (big && of->unaveraged.n)
        s[chart->n++] = series(&of->unaveraged, "validation, as trained", 2, SVG_DOTS);
    if (big && of->valid.n)
        s[chart->n++] = series(&of->valid, of->unaveraged.n ? "validation, averaged" : "validation",
                               1, SVG_DOTS);
    add_figure(b, chart, of, big);
    free(y);
}

/* Curves that span more than this factor are drawn on a logarithmic axis. */
static bool spans(const struct report_curve *c, double factor)
{
    double lo = INFINITY, hi = 0;
    for (size_t i = 0; i < c->n; i++)
        if (isfinite(c->y[i])) {
            lo = fmin(lo, c->y[i]);
            hi = fmax(hi, c->y[i]);
        }
    return lo > 0 && hi > factor * lo;
}

static void add_terms(struct buf *b, const struct report_stage *s)
{
    struct svg_series v[REPORT_TERMS];
    double *y[REPORT_TERMS];
    char title[64];
    const size_t window = page_window(s->term[0].n);
    snprintf(title, sizeof title,
             window > 1 ? "Terms of the loss, smoothed over %zu steps" : "Terms of the loss",
             window);
    for (int i = 0; i < s->n_terms; i++) {
        const bool kl = !strcmp(s->term[i].name, "kl");
        v[i] = series(&s->term[i], kl ? "divergence from the teacher (kl)" : s->term[i].name, i,
                      SVG_LINE);
        v[i].y = y[i] = smooth(&s->term[i]);
        b->failed |= !y[i];
        v[i].n = y[i] ? v[i].n : 0;
    }
    struct svg_chart c = {.title = title,
                          .x_label = "step",
                          .y_label = "nats per token",
                          .series = v,
                          .n = s->n_terms};
    add_figure(b, &c, s, true);
    for (int i = 0; i < s->n_terms; i++)
        free(y[i]);
}

static void add_charts(struct buf *b, const struct report_stage *s)
{
    if (s->loss.n || s->valid.n) {
        struct svg_chart c = {.title = "Loss",
                              .x_label = "step",
                              .y_label = "nats per token",
                              .log_y = spans(&s->loss, 50)};
        add_smoothed(b, &s->loss, &c, s, true);
    }
    if (s->n_terms)
        add_terms(b, s);
    buf_text(b, "<div class=\"charts\">\n");
    if (s->lr.n) {
        const struct svg_series v = series(&s->lr, "learning rate", 0, SVG_LINE);
        struct svg_chart c = {.title = "Learning rate",
                              .x_label = "step",
                              .y_label = "per step",
                              .zero_y = true,
                              .series = &v,
                              .n = 1};
        add_figure(b, &c, s, false);
    }
    if (s->grad.n) {
        struct svg_chart c = {.title = "Gradient norm",
                              .x_label = "step",
                              .y_label = "L2 norm, before clipping",
                              .log_y = true};
        add_smoothed(b, &s->grad, &c, s, false);
    }
    if (s->speed.n) {
        struct svg_chart c = {.title = "Speed",
                              .x_label = "step",
                              .y_label = "tokens per second",
                              .zero_y = true};
        add_smoothed(b, &s->speed, &c, s, false);
    }
    buf_text(b, "</div>\n");
}

/* ---- tables ---- */

static void add_row(struct buf *b, const struct summary_row *row, const struct summary_row *first,
                    bool trained)
{
    buf_text(b, "<tr><td class=\"l\">");
    html_string(b, row->name);
    buf_text(b, "</td><td>");
    page_count(b, row->size);
    buf_text(b, "</td><td>");
    page_number(b, row->loss, 4);
    buf_text(b, "</td><td>");
    page_number(b, row->perplexity, 3);
    buf_text(b, "</td><td>");
    const double change = 100 * (row->perplexity / first->perplexity - 1);
    if (row != first && isfinite(change))
        buf_printf(b, "%+.2f %%", change);
    else
        page_number(b, NAN, 0);
    buf_text(b, "</td><td>");
    page_number(b, row->bits_per_byte, 4);
    buf_text(b, "</td><td>");
    page_number(b, row->kld, 5);
    if (trained) {
        buf_text(b, "</td><td>");
        page_number(b, row->trained_loss - row->loss, 5);
    }
    buf_text(b, "</td><td>");
    page_count(b, row->tokens);
    buf_text(b, "</td></tr>\n");
}

static void add_rows(struct buf *b, const struct summary *u)
{
    bool trained = false;
    if (!u->n_rows)
        return;
    for (int64_t i = 0; i < u->n_rows; i++)
        trained |= isfinite(u->row[i].trained_loss);
    buf_text(b, "<div class=\"card scroll\"><table><thead><tr><th class=\"l\">Model</th>"
                "<th>Size<small>bytes</small></th><th>Loss<small>nats/token</small></th>"
                "<th>Perplexity<small>of tokens</small></th><th>to the first<small>%</small></th>"
                "<th>Compression<small>bits/byte</small></th>"
                "<th>KL divergence<small>nats/token</small></th>");
    if (trained)
        buf_text(b, "<th>Training forward minus it<small>nats/token</small></th>");
    buf_text(b, "<th>Measured on<small>tokens</small></th></tr></thead>\n<tbody>\n");
    for (int64_t i = 0; i < u->n_rows; i++)
        add_row(b, &u->row[i], &u->row[0], trained);
    buf_text(b, "</tbody></table></div>\n");
}

/* Facts are numbers as programs want them: here with unit and separators, by how their names say
   what they are. */
static void add_fact(struct buf *b, const struct summary_fact *f)
{
    static const struct {
        const char *end, *unit;
    } kinds[] = {{"bytes", "B"}, {"FLOPs a step", "FLOP"}};
    const size_t n = strlen(f->name);
    char *end;
    const double x = strtod(f->value, &end);
    const bool number = *f->value && !*end && isfinite(x);
    size_t k = 0;
    for (; k < 2; k++) {
        const size_t m = strlen(kinds[k].end);
        if (number && n >= m && !strcmp(f->name + n - m, kinds[k].end))
            break;
    }
    const bool seconds = number && !strncmp(f->name, "seconds", 7);
    if ((k < 2 || seconds) && x == 0)
        return; // no blocks, no scales; or it never came to that
    buf_text(b, "<div><dt>");
    buf_text(b, seconds ? "time" : "");
    html_text(b, f->name + (seconds ? 7 : 0), n - (seconds ? 7 : k == 0 && n > 6 ? 6 : 0));
    buf_printf(b, "</dt><dd%s>", strlen(f->value) > 16 && !number ? " class=\"long\"" : "");
    if (k < 2) {
        page_short(b, x, kinds[k].unit);
        buf_text(b, "<small>");
        page_count(b, llround(x));
        buf_text(b, "</small>");
    } else if (seconds) {
        page_time(b, x);
    } else if (number && x == floor(x) && fabs(x) < 1e15) {
        page_count(b, llround(x));
    } else {
        html_string(b, f->value);
    }
    buf_text(b, "</dd></div>\n");
}

static void add_facts(struct buf *b, const struct summary *u)
{
    if (!u->n_facts)
        return;
    buf_text(b, "<dl class=\"tiles facts\">");
    for (int64_t i = 0; i < u->n_facts; i++)
        add_fact(b, &u->fact[i]);
    buf_text(b, "</dl>\n");
}

/* ---- texts ---- */

static void add_sample(struct buf *b, const struct report_text *t)
{
    buf_printf(b, "<div class=\"sample\"><h4>step %lld</h4><pre>", (long long)t->step);
    if (t->kind) {
        buf_text(b, "<span class=\"prompt\">");
        html_string(b, t->kind);
        buf_text(b, "</span>");
    }
    html_text(b, t->text, t->n);
    buf_text(b, "</pre></div>\n");
}

/* The last sample in the open, those before it folded away. */
static void add_samples(struct buf *b, const struct report_stage *s)
{
    if (!s->n_samples)
        return;
    buf_text(b, "<h3>Sample</h3>\n<div class=\"card\">");
    add_sample(b, &s->sample[s->n_samples - 1]);
    buf_text(b, "</div>\n");
    if (s->n_samples == 1)
        return;
    buf_printf(b, "<details class=\"card\"><summary>Earlier samples <span class=\"note\">%d",
               s->n_samples - 1);
    if (s->samples > s->n_samples)
        buf_printf(b, " of %lld", (long long)s->samples - 1);
    buf_text(b, "</span></summary><div class=\"body\">");
    for (int i = 0; i < s->n_samples - 1; i++)
        add_sample(b, &s->sample[i]);
    buf_text(b, "</div></details>\n");
}

static void add_event(struct buf *b, const struct report_text *t)
{
    buf_printf(b, "<tr><td>%lld</td><td class=\"l\">", (long long)t->step);
    html_string(b, t->kind);
    buf_text(b, "</td><td class=\"l w\">");
    html_text(b, t->text, t->n);
    buf_text(b, "</td><td class=\"l\">");
    page_moment(b, t->at);
    buf_text(b, "</td></tr>\n");
}

static void add_events(struct buf *b, const struct report_stage *s)
{
    if (s->saves)
        buf_printf(b, "<p class=\"note\">%lld checkpoint%s, the last at step %lld.</p>\n",
                   (long long)s->saves, s->saves == 1 ? "" : "s", (long long)s->last_save);
    if (!s->n_events)
        return;
    const bool alarming = s->events > s->resumes;
    buf_printf(b, "<details class=\"card\"%s><summary>Events <span class=\"note\">%lld",
               alarming ? " open=\"open\"" : "", (long long)s->events);
    if (s->events > s->n_events)
        buf_printf(b, ", the first %d shown", s->n_events);
    buf_text(b, "</span></summary><div class=\"body scroll\"><table><thead><tr><th>Step</th>"
                "<th class=\"l\">Event</th><th class=\"l\">Message</th><th class=\"l\">At</th></tr>"
                "</thead>\n<tbody>\n");
    for (int i = 0; i < s->n_events; i++)
        add_event(b, &s->event[i]);
    buf_text(b, "</tbody></table></div></details>\n");
}

static void add_files(struct buf *b, const struct report_stage *s)
{
    buf_text(b, "<p class=\"note\">");
    for (int i = 0; i < s->n_files; i++) {
        buf_text(b, i ? " \xc2\xb7 " : "");
        html_string(b, s->file[i].name);
        buf_text(b, " ");
        page_short(b, (double)s->file[i].size, "B");
    }
    buf_text(b, "</p>\n");
}

static void add_title(struct buf *b, const struct report_stage *s, size_t index)
{
    const struct summary *u = &s->summary;
    buf_printf(b, "<section id=\"stage-%zu\"><h2>", index);
    html_string(b, s->name);
    buf_printf(b, "<span class=\"chip%s\">%s</span>", s->finished ? "" : " warn",
               s->finished ? "finished" : "not finished");
    if (u->kind && u->stage && strcmp(u->kind, u->stage)) {
        buf_text(b, "<span class=\"kind\">");
        html_string(b, u->kind);
        buf_text(b, "</span>");
    }
    buf_text(b, "</h2>\n");
    if (u->trained) {
        buf_text(b, "<p class=\"about\"><b>Trained</b> ");
        html_string(b, u->trained);
        buf_text(b, "</p>\n");
    }
    if (s->problem.n) {
        buf_text(b, "<p class=\"warn\">Not all of this stage could be read.\n");
        html_text(b, s->problem.p, s->problem.n - 1);
        buf_text(b, "</p>\n");
    }
}

void page_stage(struct buf *b, const struct report_stage *s, size_t index)
{
    add_title(b, s, index);
    add_rows(b, &s->summary);
    add_facts(b, &s->summary);
    add_charts(b, s);
    add_samples(b, s);
    add_events(b, s);
    if (s->config.n) {
        buf_text(b,
                 "<details class=\"card\"><summary>config.yaml</summary><div class=\"body\"><pre>");
        html_text(b, s->config.p, s->config.n);
        buf_text(b, "</pre></div></details>\n");
    }
    add_files(b, s);
    buf_text(b, "</section>\n");
}
