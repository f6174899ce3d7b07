#include "experiments/svg.h"

#include <math.h>

#include "experiments/html.h"
#include "experiments/ticks.h"

enum { LEFT = 56, RIGHT = 16, TOP = 26, BOTTOM = 40, DOTS_MAX = 80 };

/* From values to places. */
struct scale {
    const struct svg_chart *c;
    double x0, x1, y0, y1; /* ranges; y after log10 on a logarithmic axis */
};

static double place_x(const struct scale *s, double x)
{
    return LEFT + (x - s->x0) / (s->x1 - s->x0) * (s->c->width - LEFT - RIGHT);
}

static double place_y(const struct scale *s, double y)
{
    const double v = s->c->log_y ? log10(y) : y;
    return s->c->height - BOTTOM - (v - s->y0) / (s->y1 - s->y0) * (s->c->height - TOP - BOTTOM);
}

static bool drawable(const struct svg_chart *c, double y)
{
    return isfinite(y) && fabs(y) < 1e300 && (!c->log_y || y > 0);
}

static void include(double v, double *lo, double *hi)
{
    *lo = fmin(*lo, v);
    *hi = fmax(*hi, v);
}

/* Ranges over all series; false if there is nothing to draw. */
static bool scale_init(struct scale *s, const struct svg_chart *c)
{
    *s = (struct scale){c, INFINITY, -INFINITY, INFINITY, -INFINITY};
    for (int i = 0; i < c->n; i++)
        for (size_t j = 0; j < c->series[i].n; j++) {
            const double y = c->series[i].y[j];
            if (!drawable(c, y))
                continue;
            include(c->series[i].x[j], &s->x0, &s->x1);
            include(c->log_y ? log10(y) : y, &s->y0, &s->y1);
        }
    if (!(s->x1 >= s->x0))
        return false;
    if (c->zero_y && !c->log_y)
        include(0, &s->y0, &s->y1);
    if (s->x1 == s->x0) {
        const double pad = fmax(0.5, 1e-6 * fabs(s->x0));
        s->x0 -= pad;
        s->x1 += pad;
    }
    double pad = 0.05 * (s->y1 - s->y0);
    if (!(pad > 1e-9 * fabs(s->y1))) // a flat curve: stands in the middle
        pad = c->log_y ? 0.3 : s->y1 != 0 ? 0.1 * fabs(s->y1) : 1;
    if (!c->zero_y || s->y0 < 0)
        s->y0 -= pad;
    s->y1 += pad;
    return true;
}

static void add_y_axis(struct buf *b, const struct scale *s)
{
    const struct svg_chart *c = s->c;
    const int max = c->height > 330 ? 8 : 6;
    const struct ticks t =
        c->log_y ? ticks_log(pow(10, s->y0), pow(10, s->y1), max) : ticks_linear(s->y0, s->y1, max);
    for (int i = 0; i < t.n; i++) {
        char text[TICKS_TEXT];
        const double y = place_y(s, t.at[i]);
        ticks_text(&t, i, text);
        buf_printf(b, "<path class=\"grid\" d=\"M%d %.1fH%d\"/>", LEFT, y, c->width - RIGHT);
        buf_printf(b, "<text class=\"tick\" x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n",
                   LEFT - 8, y + 4, text);
    }
    buf_printf(b, "<text class=\"unit\" x=\"2\" y=\"13\">");
    html_string(b, c->y_label);
    buf_text(b, "</text>\n");
}

static void add_x_axis(struct buf *b, const struct scale *s)
{
    const struct svg_chart *c = s->c;
    const struct ticks t = ticks_linear(s->x0, s->x1, c->width > 700 ? 11 : 6);
    const int bottom = c->height - BOTTOM;
    buf_printf(b, "<path class=\"axis\" d=\"M%d %dH%d\"/>\n", LEFT, bottom, c->width - RIGHT);
    for (int i = 0; i < t.n; i++) {
        char text[TICKS_TEXT];
        const double x = place_x(s, t.at[i]);
        ticks_text(&t, i, text);
        buf_printf(b, "<path class=\"axis\" d=\"M%.1f %dv5\"/>", x, bottom);
        buf_printf(b, "<text class=\"tick\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n",
                   x, bottom + 19, text);
    }
    buf_printf(b, "<text class=\"unit\" x=\"%d\" y=\"%d\" text-anchor=\"end\">", c->width - RIGHT,
               c->height - 4);
    html_string(b, c->x_label);
    buf_text(b, "</text>\n");
}

/* A path under way: the next point starts a new piece after a gap. */
struct pen {
    struct buf *b;
    const struct scale *s;
    bool down;
};

static void pen_to(struct pen *p, double x, double y)
{
    buf_printf(p->b, "%c%.1f %.1f", p->down ? 'L' : 'M', place_x(p->s, x), place_y(p->s, y));
    p->down = true;
}

/* The points of one bucket that are drawn: indices of the smallest and the largest y. */
struct bucket {
    bool any;
    size_t lo, hi;
};

static void bucket_draw(struct pen *p, const struct svg_series *v, struct bucket *k)
{
    const size_t first = k->lo < k->hi ? k->lo : k->hi, second = k->lo < k->hi ? k->hi : k->lo;
    if (k->any) {
        pen_to(p, v->x[first], v->y[first]);
        if (second != first)
            pen_to(p, v->x[second], v->y[second]);
    } else {
        p->down = false; // a bucket of gaps only
    }
    k->any = false;
}

static void add_path(struct buf *b, const struct scale *s, const struct svg_series *v)
{
    const size_t per_bucket =
        v->n <= SVG_POINTS_MAX ? 1 : (v->n + SVG_POINTS_MAX / 2 - 1) / (SVG_POINTS_MAX / 2);
    struct pen p = {b, s, false};
    struct bucket k = {0};
    for (size_t i = 0; i < v->n; i++) {
        if (drawable(s->c, v->y[i])) {
            if (!k.any || v->y[i] < v->y[k.lo])
                k.lo = i;
            if (!k.any || v->y[i] > v->y[k.hi])
                k.hi = i;
            k.any = true;
        }
        if ((i + 1) % per_bucket == 0 || i + 1 == v->n)
            bucket_draw(&p, v, &k);
    }
}

static void add_series(struct buf *b, const struct scale *s, const struct svg_series *v)
{
    buf_printf(b, "<path class=\"%s c%d\" d=\"", v->mark == SVG_THIN ? "thin" : "line", v->color);
    add_path(b, s, v);
    buf_text(b, "\"/>\n");
    // a dot for what would be an invisible path of one point, too
    if (v->n > 1 && (v->mark != SVG_DOTS || v->n > DOTS_MAX))
        return;
    for (size_t i = 0; i < v->n; i++) {
        if (!drawable(s->c, v->y[i]))
            continue;
        buf_printf(b, "<circle class=\"dot c%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"><title>", v->color,
                   place_x(s, v->x[i]), place_y(s, v->y[i]));
        html_string(b, s->c->x_label);
        buf_printf(b, " %g: %.4g</title></circle>\n", v->x[i], v->y[i]);
    }
}

/* Upright lines, those within the ranges. */
static void add_marks(struct buf *b, const struct scale *s)
{
    const struct svg_chart *c = s->c;
    for (size_t i = 0; i < c->n_marks; i++) {
        if (!(c->marks[i] >= s->x0 && c->marks[i] <= s->x1))
            continue;
        buf_printf(b, "<path class=\"mark\" d=\"M%.1f %dV%d\"><title>", place_x(s, c->marks[i]),
                   TOP, c->height - BOTTOM);
        html_string(b, c->mark_label);
        buf_text(b, ", ");
        html_string(b, c->x_label);
        buf_printf(b, " %g</title></path>\n", c->marks[i]);
    }
}

void svg_draw(struct buf *b, const struct svg_chart *c)
{
    struct scale s;
    buf_printf(b, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", c->width, c->height);
    html_string(b, c->title);
    buf_text(b, "\">\n");
    if (scale_init(&s, c)) {
        add_y_axis(b, &s);
        add_x_axis(b, &s);
        add_marks(b, &s);
        for (int i = 0; i < c->n; i++)
            add_series(b, &s, &c->series[i]);
    } else {
        buf_printf(b,
                   "<text class=\"unit\" x=\"%d\" y=\"%d\" text-anchor=\"middle\">no data</text>\n",
                   c->width / 2, c->height / 2);
    }
    buf_text(b, "</svg>\n");
}

void svg_legend(struct buf *b, const struct svg_chart *c)
{
    buf_text(b, "<span class=\"legend\">");
    for (int i = 0; i < c->n; i++) {
        const struct svg_series *v = &c->series[i];
        buf_printf(b,
                   "<span><svg class=\"swatch\" viewBox=\"0 0 22 12\" aria-hidden=\"true\">"
                   "<path class=\"%s c%d\" d=\"M1 6H21\"/>",
                   v->mark == SVG_THIN ? "thin" : "line", v->color);
        if (v->mark == SVG_DOTS)
            buf_printf(b, "<circle class=\"dot c%d\" cx=\"11\" cy=\"6\" r=\"3\"/>", v->color);
        buf_text(b, "</svg>");
        html_string(b, v->label);
        buf_text(b, "</span>\n");
    }
    if (c->n_marks) {
        buf_text(b, "<span><svg class=\"swatch\" viewBox=\"0 0 22 12\" aria-hidden=\"true\">"
                    "<path class=\"mark\" d=\"M11 0V12\"/></svg>");
        html_string(b, c->mark_label);
        buf_text(b, "</span>\n");
    }
    buf_text(b, "</span>\n");
}
