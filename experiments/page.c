#include "experiments/page.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "autograd/base/number.h"
#include "experiments/html.h"
#include "experiments/page_parts.h"

#define DASH "<span class=\"note\">\xe2\x80\x93</span>"
#define DOT  " \xc2\xb7 "

/* ---- values ---- */

void page_count(struct buf *b, int64_t n)
{
    if (n)
        number_print_count(n, b);
    else
        buf_text(b, DASH);
}

void page_short(struct buf *b, double x, const char *unit)
{
    static const char *const prefix[] = {"", "k", "M", "G", "T", "P"};
    int p = 0;
    if (!isfinite(x) || x == 0) {
        buf_text(b, DASH);
        return;
    }
    for (; fabs(x) >= 999.5 && p < 5; p++)
        x /= 1000;
    const int decimals = fabs(x) >= 99.95 || (!p && x == floor(x)) ? 0 : fabs(x) >= 9.995 ? 1 : 2;
    buf_printf(b, "%.*f%s%s%s", decimals, x, *unit ? " " : "", prefix[p], unit);
}

void page_number(struct buf *b, double x, int decimals)
{
    if (isnan(x))
        buf_text(b, DASH);
    else
        buf_printf(b, fabs(x) < 1e7 ? "%.*f" : "%.*e", decimals, x);
}

void page_time(struct buf *b, double seconds)
{
    if (!(seconds > 0) || seconds > 1e12) {
        buf_text(b, DASH);
        return;
    }
    const long long s = llround(seconds);
    if (seconds < 59.5)
        buf_printf(b, "%.*f s", seconds < 9.95 ? 1 : 0, seconds);
    else if (s < 3600)
        buf_printf(b, "%lldm %02llds", s / 60, s % 60);
    else if (s < 86400)
        buf_printf(b, "%lldh %02lldm", s / 3600, s / 60 % 60);
    else
        buf_printf(b, "%lldd %02lldh", s / 86400, s / 3600 % 24);
}

void page_moment(struct buf *b, const char *at)
{
    const bool usual = at && strlen(at) == 20 && at[10] == 'T' && at[19] == 'Z';
    if (!usual) {
        html_string(b, at);
        return;
    }
    html_text(b, at, 10);
    buf_text(b, " ");
    html_text(b, at + 11, 5);
    buf_text(b, " UTC");
}

size_t page_window(size_t n)
{
    size_t w = n / 40;
    w = w > 500 ? 500 : w;
    return w < 2 ? 1 : w | 1; // odd: as many before as after
}

static double mean_of_last(const struct report_curve *c)
{
    size_t left = page_window(c->n), used = 0;
    double sum = 0;
    for (size_t i = c->n; i && left; i--, left--)
        if (isfinite(c->y[i - 1])) {
            sum += c->y[i - 1];
            used++;
        }
    return used ? sum / (double)used : NAN;
}

struct page_figures page_figures(const struct report_stage *s)
{
    const struct summary *u = &s->summary;
    struct page_figures f = {.steps = u->steps ? u->steps : s->step,
                             .tokens = u->tokens ? u->tokens : s->tokens,
                             .seconds = isnan(u->seconds) ? s->seconds : u->seconds,
                             .train_loss = u->train_loss,
                             .valid_loss = u->valid_loss,
                             .best_loss = u->best_valid_loss,
                             .best_step = u->best_step,
                             .bits_per_byte = u->bits_per_byte};
    if (isnan(f.train_loss))
        f.train_loss = mean_of_last(&s->loss);
    if (isnan(f.valid_loss) && s->valid.n)
        f.valid_loss = s->valid.y[s->valid.n - 1];
    if (isnan(f.bits_per_byte) && s->bits.n)
        f.bits_per_byte = s->bits.y[s->bits.n - 1];
    for (size_t i = 0; isnan(u->best_valid_loss) && i < s->valid.n; i++)
        if (isnan(f.best_loss) || s->valid.y[i] < f.best_loss) {
            f.best_loss = s->valid.y[i];
            f.best_step = (int64_t)s->valid.x[i];
        }
    return f;
}

/* ---- top of the page ---- */

/* The first known value over the stages; what a run's stages share. */
static const char *first_text(const struct report *r, size_t offset)
{
    for (size_t i = 0; i < r->n; i++) {
        const char *s = *(const char *const *)((const char *)&r->stage[i].summary + offset);
        if (s)
            return s;
    }
    return NULL;
}

#define FIRST(r, member) first_text(r, offsetof(struct summary, member))

static void add_header(struct buf *b, const struct report *r)
{
    const char *started = FIRST(r, started), *cpu = FIRST(r, cpu), *blas = FIRST(r, blas);
    const char *version = FIRST(r, version);
    const struct summary *first = &r->stage[0].summary, *last = &r->stage[r->n - 1].summary;
    buf_text(b, "<header><p class=\"kicker\">attar report</p>\n<h1>");
    html_string(b, r->name);
    buf_text(b, "</h1>\n<p class=\"meta\">");
    if (started) {
        buf_text(b, "Started ");
        page_moment(b, started);
        buf_text(b, DOT);
    }
    buf_text(b, last->finished ? "finished " : "last written ");
    page_moment(b, last->finished ? last->finished : r->written);
    buf_text(b, "</p>\n<p class=\"meta\">");
    html_string(b, cpu);
    if (cpu && first->threads)
        buf_printf(b, DOT "%lld thread%s", (long long)first->threads,
                   first->threads == 1 ? "" : "s");
    if (cpu && blas) {
        buf_text(b, DOT "products by ");
        html_string(b, blas);
    }
    if (version) {
        buf_text(b, cpu ? DOT "attar " : "attar ");
        html_string(b, version);
        buf_printf(b, DOT "seed %lld", (long long)first->seed);
    }
    buf_text(b, "</p></header>\n");
}

/* 4.20M, and below it 4,196,608 with the unit. */
static void add_exact(struct buf *b, int64_t n, const char *unit)
{
    page_short(b, (double)n, "");
    buf_text(b, "<small>");
    page_count(b, n);
    buf_printf(b, "%s</small>", unit);
}

/* Totals, and the result of the last stage that has one. */
static void add_tiles(struct buf *b, const struct report *r)
{
    int64_t tokens = 0, parameters = 0;
    double seconds = 0;
    struct page_figures result = {.valid_loss = NAN, .bits_per_byte = NAN};
    for (size_t i = 0; i < r->n; i++) {
        const struct page_figures f = page_figures(&r->stage[i]);
        tokens += f.tokens;
        seconds += f.seconds > 0 ? f.seconds : 0;
        if (r->stage[i].summary.parameters)
            parameters = r->stage[i].summary.parameters;
        if (!isnan(f.valid_loss))
            result = f;
    }
    buf_text(b, "<dl class=\"tiles\"><div><dt>Parameters</dt><dd>");
    add_exact(b, parameters, "");
    buf_text(b, "</dd></div>\n<div><dt>Trained</dt><dd>");
    add_exact(b, tokens, " tokens");
    buf_text(b, "</dd></div>\n<div><dt>Time at work</dt><dd>");
    page_time(b, seconds);
    buf_text(b, "<small>evaluations with it</small></dd></div>\n<div><dt>Validation loss</dt><dd>");
    page_number(b, result.valid_loss, 3);
    buf_text(b, "<small>nats per token</small></dd></div>\n<div><dt>Perplexity</dt><dd>");
    page_number(b, exp(result.valid_loss), 2);
    buf_text(b, "<small>of tokens</small></dd></div>\n<div><dt>Compression</dt><dd>");
    page_number(b, result.bits_per_byte, 3);
    buf_text(b, "<small>bits per byte of text</small></dd></div></dl>\n");
}

/* What a run is about: the last of the stages that say so count. */
static void add_about(struct buf *b, const struct report *r)
{
    const struct {
        const char *name;
        size_t offset;
    } each[] = {{"Model", offsetof(struct summary, model)},
                {"Text", offsetof(struct summary, corpus)}};
    for (size_t k = 0; k < sizeof each / sizeof *each; k++) {
        const char *text = first_text(r, each[k].offset);
        if (!text)
            continue;
        buf_printf(b, "<p class=\"about\"><b>%s</b> ", each[k].name);
        html_string(b, text);
        buf_text(b, "</p>\n");
    }
}

static void add_stage_row(struct buf *b, const struct report_stage *s, size_t index)
{
    const struct page_figures f = page_figures(s);
    buf_printf(b, "<tr><td class=\"l\"><a href=\"#stage-%zu\">", index);
    html_string(b, s->name);
    buf_text(b, "</a></td><td>");
    page_count(b, f.steps);
    buf_text(b, "</td><td>");
    page_count(b, f.tokens);
    buf_text(b, "</td><td>");
    page_time(b, f.seconds);
    buf_text(b, "</td><td>");
    page_count(b, f.seconds > 0 ? llround((double)f.tokens / f.seconds) : 0);
    buf_text(b, "</td><td>");
    page_number(b, f.train_loss, 4);
    buf_text(b, "</td><td>");
    page_number(b, f.valid_loss, 4);
    buf_text(b, "</td><td>");
    page_number(b, exp(f.valid_loss), 2);
    buf_text(b, "</td><td>");
    page_number(b, f.bits_per_byte, 4);
    buf_text(b, "</td><td>");
    page_count(b, f.best_step);
    buf_text(b, "</td></tr>\n");
}

static void add_stages(struct buf *b, const struct report *r)
{
    static const char *const head[][2] = {{"Steps", ""},
                                          {"Tokens", ""},
                                          {"Time", ""},
                                          {"Speed", "tokens/s"},
                                          {"Training loss", "nats/token"},
                                          {"Validation loss", "nats/token"},
                                          {"Perplexity", "of tokens"},
                                          {"Compression", "bits/byte"},
                                          {"Best at", "step"}};
    buf_text(b, "<section><h2>Stages</h2>\n<div class=\"card scroll\"><table><thead><tr>"
                "<th class=\"l\">Stage</th>");
    for (size_t i = 0; i < sizeof head / sizeof head[0]; i++)
        buf_printf(b, "<th>%s<small>%s</small></th>", head[i][0], head[i][1]);
    buf_text(b, "</tr></thead>\n<tbody>\n");
    for (size_t i = 0; i < r->n; i++)
        add_stage_row(b, &r->stage[i], i);
    buf_text(b, "</tbody></table></div></section>\n");
}

int page_write(struct buf *b, const struct report *r)
{
    buf_text(b, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\n"
                "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
                "<meta name=\"color-scheme\" content=\"light dark\"/>\n"
                // even if text escaped its escaping, nothing would run or be fetched
                "<meta http-equiv=\"Content-Security-Policy\" "
                "content=\"default-src 'none'; style-src 'unsafe-inline'\"/>\n<title>");
    html_string(b, r->name);
    buf_text(b, DOT "attar</title>\n<style>\n");
    buf_text(b, page_style);
    buf_text(b, "</style></head>\n<body><main>\n");
    add_header(b, r);
    add_about(b, r);
    add_tiles(b, r);
    add_stages(b, r);
    for (size_t i = 0; i < r->n; i++)
        page_stage(b, &r->stage[i], i);
    if (r->config.n) {
        buf_text(b, "<section><h2>Run</h2>\n<details class=\"card\"><summary>config.yaml</summary>"
                    "<div class=\"body\"><pre>");
        html_text(b, r->config.p, r->config.n);
        buf_text(b, "</pre></div></details></section>\n");
    }
    buf_text(b, "<footer>Losses are in nats per token. Perplexity is exp(loss). A smoothed curve "
                "shows the mean around each step. Time is time at work, pauses between a stop and "
                "its resumption "
                "apart; that of a stage that trains has its validations and "
                "samples.</footer>\n</main></body></html>\n");
    return b->failed ? -1 : 0;
}
