/*
 * A line chart as an <svg> element. Colours and type come from the style of the page around it:
 * classes c0..c5 (series), grid, axis, tick, unit, thin, line, dot, mark.
 */
#ifndef ATTAR_EXPERIMENTS_SVG_H
#define ATTAR_EXPERIMENTS_SVG_H

#include <stdbool.h>
#include <stddef.h>

#include "autograd/base/buf.h"

enum { SVG_POINTS_MAX = 1500, SVG_COLORS = 6 };

enum svg_mark {
    SVG_THIN, /* a faint line behind the others */
    SVG_LINE,
    SVG_DOTS, /* a line with a dot at each point, while there are few */
};

struct svg_series {
    const char *label;
    const double *x, *y; /* [n], x ascending; a y that is not finite is a gap */
    size_t n;
    int color; /* 0..SVG_COLORS-1 */
    enum svg_mark mark;
};

struct svg_chart {
    const char *title; /* for those who hear the page */
    const char *x_label, *y_label;
    int width, height;               /* units, about a pixel each */
    bool log_y;                      /* what is not positive is then a gap */
    bool zero_y;                     /* the axis starts at 0 */
    const struct svg_series *series; /* [n] */
    int n;
    const double *marks; /* [n_marks] of x at which something happened, of the name mark_label */
    size_t n_marks;
    const char *mark_label;
};

/* Appends the chart. A series of more than SVG_POINTS_MAX points is drawn as the smallest and the
   largest of each of SVG_POINTS_MAX / 2 buckets: spikes stay. */
void svg_draw(struct buf *b, const struct svg_chart *c);

/* Appends its legend, a row of HTML spans. */
void svg_legend(struct buf *b, const struct svg_chart *c);

#endif
