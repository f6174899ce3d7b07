#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "experiments/svg.h"
#include "tests/experiments/synthetic_run.h"
#include "tests/experiments/xml.h"

enum { MANY = 100000, WIDTH = 400, HEIGHT = 250 };

static double many_x[MANY], many_y[MANY];

static struct svg_chart chart_of(const struct svg_series *s, int n)
{
    return (struct svg_chart){
        .title = "t", .x_label = "step", .width = WIDTH, .height = HEIGHT, .series = s, .n = n};
}

/* Draws, checks that it is well-formed and free of NaN; free() the result. */
static char *draw(const struct svg_chart *c)
{
    struct buf b = {0};
    svg_draw(&b, c);
    assert_false(b.failed);
    const char *fault = xml_check(b.p, b.n);
    if (fault)
        fail_msg("%s", fault);
    if (!strcmp(c->title, "t")) { // the labels may contain them
        assert_null(strstr(b.p, "nan"));
        assert_null(strstr(b.p, "inf"));
    }
    return b.p;
}

/* Points of the first curve; each M or L is one. Its extremes go to box[x0, x1, y0, y1]. */
static int points(const char *svg, int *pieces, double box[4])
{
    const char *p = strstr(svg, " c0\" d=\"");
    int n = 0;
    *pieces = 0;
    box[0] = box[2] = INFINITY;
    box[1] = box[3] = -INFINITY;
    assert_non_null(p);
    for (p += 8; *p != '"'; n++) {
        double x, y;
        int used;
        *pieces += *p == 'M';
        assert_int_equal(sscanf(p + 1, "%lf %lf%n", &x, &y, &used), 2);
        box[0] = fmin(box[0], x);
        box[1] = fmax(box[1], x);
        box[2] = fmin(box[2], y);
        box[3] = fmax(box[3], y);
        p += 1 + used;
    }
    return n;
}

static void spikes_survive_decimation(void **state)
{
    (void)state;
    const size_t spikes[] = {0, 1, 49999, 77777, MANY - 1};
    for (size_t i = 0; i < MANY; i++) {
        many_x[i] = (double)i;
        many_y[i] = sin((double)i / 1000);
    }
    for (size_t k = 0; k < 5; k++) {
        for (int sign = -1; sign <= 1; sign += 2) {
            const double before = many_y[spikes[k]];
            int pieces;
            double box[4];
            many_y[spikes[k]] = sign * 50.0;
            const struct svg_series s = {"a", many_x, many_y, MANY, 0, SVG_LINE};
            const struct svg_chart c = chart_of(&s, 1);
            char *svg = draw(&c);
            assert_in_range(points(svg, &pieces, box), 500, SVG_POINTS_MAX);
            assert_int_equal(pieces, 1);
            // the spike is the extreme that sets the axis: 5 % of the span from the frame
            const double span = (box[3] - box[2]);
            assert_true(span > 0.9 * (HEIGHT - 26 - 40) - 1);
            free(svg);
            many_y[spikes[k]] = before;
        }
    }
}

static void all_points_are_drawn_while_few(void **state)
{
    (void)state;
    for (size_t i = 0; i < SVG_POINTS_MAX; i++) {
        many_x[i] = (double)i;
        many_y[i] = (double)(i % 7);
    }
    const struct svg_series s = {"a", many_x, many_y, SVG_POINTS_MAX, 0, SVG_LINE};
    const struct svg_chart c = chart_of(&s, 1);
    int pieces;
    double box[4];
    char *svg = draw(&c);
    assert_int_equal(points(svg, &pieces, box), SVG_POINTS_MAX);
    assert_true(box[0] == 56 && box[1] == WIDTH - 16);
    assert_true(box[2] >= 26 && box[3] <= HEIGHT - 40);
    free(svg);
}

static void gaps_break_the_line(void **state)
{
    (void)state;
    const double x[] = {1, 2, 3, 4, 5, 6, 7}, y[] = {1, 2, NAN, 3, INFINITY, -INFINITY, 4};
    const double z[] = {1, 10, 0, -5, 100, 5, NAN};
    struct svg_series s = {"a", x, y, 7, 0, SVG_LINE};
    struct svg_chart c = chart_of(&s, 1);
    int pieces;
    double box[4];
    char *svg = draw(&c);
    assert_int_equal(points(svg, &pieces, box), 4);
    assert_int_equal(pieces, 3);
    free(svg);
    s.y = z;
    c.log_y = true; // what is not positive has no place on this axis
    svg = draw(&c);
    assert_int_equal(points(svg, &pieces, box), 4);
    assert_int_equal(pieces, 2);
    free(svg);
}

static void odd_data_is_drawn(void **state)
{
    (void)state;
    const double x[] = {5, 5, 5}, big[] = {0x1p60, 0x1p60, 0x1p60};
    const double ys[][3] = {{1, 1, 1},
                            {0, 0, 0},
                            {NAN, NAN, NAN},
                            {-1e299, 0, 1e299},
                            {1e-300, 1e-300, 1e-300},
                            {-3, -3, -3},
                            {1e15, 1e15 + 1, 1e15},
                            {1e-8, 2e-8, 3e-8},
                            {1e308, 1, 2}};
    for (size_t i = 0; i < sizeof ys / sizeof ys[0]; i++)
        for (int k = 0; k < 16; k++) {
            const struct svg_series s[] = {{"a", k & 1 ? x : big, ys[i], k & 2 ? 3 : 1, 0,
                                            SVG_DOTS},
                                           {"b", x, ys[i], 0, 1, SVG_THIN}};
            struct svg_chart c = chart_of(s, 2);
            c.log_y = k & 4;
            c.zero_y = k & 8;
            char *svg = draw(&c);
            free(svg);
        }
    const struct svg_chart none = chart_of(NULL, 0);
    char *svg = draw(&none);
    assert_non_null(strstr(svg, "no data"));
    free(svg);
}

static void labels_are_escaped(void **state)
{
    (void)state;
    const double x[] = {1, 2}, y[] = {1, 2};
    const struct svg_series s = {synthetic_hostile, x, y, 2, 0, SVG_DOTS};
    struct svg_chart c = chart_of(&s, 1);
    c.title = c.x_label = c.y_label = synthetic_hostile;
    char *svg = draw(&c);
    assert_null(strstr(svg, "<script"));
    free(svg);
    struct buf b = {0};
    svg_legend(&b, &c);
    assert_null(xml_check(b.p, b.n));
    assert_null(strstr(b.p, "<script"));
    buf_free(&b);
}

static void log_axis_spreads_decades_evenly(void **state)
{
    (void)state;
    const double x[] = {1, 2, 3}, y[] = {0.01, 1, 100};
    const struct svg_series s = {"a", x, y, 3, 0, SVG_LINE};
    struct svg_chart c = chart_of(&s, 1);
    double py[3];
    c.log_y = true;
    char *svg = draw(&c);
    assert_int_equal(sscanf(strstr(svg, " c0\" d=\"") + 8, "M%*f %lfL%*f %lfL%*f %lf", &py[0],
                            &py[1], &py[2]),
                     3);
    assert_true(fabs((py[0] - py[1]) - (py[1] - py[2])) < 0.25 && py[0] > py[1]);
    assert_non_null(strstr(svg, ">0.01<"));
    assert_non_null(strstr(svg, ">100<"));
    free(svg);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spikes_survive_decimation),
        cmocka_unit_test(all_points_are_drawn_while_few),
        cmocka_unit_test(gaps_break_the_line),
        cmocka_unit_test(odd_data_is_drawn),
        cmocka_unit_test(labels_are_escaped),
        cmocka_unit_test(log_axis_spreads_decades_evenly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
