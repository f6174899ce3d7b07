#include "experiments/ticks.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* mantissa * 10^power, as the decimal that is written so; pow(10, -4) is not always 1e-4 */
static double decimal(double mantissa, int power)
{
    char text[40];
    snprintf(text, sizeof text, "%.0fe%d", mantissa, power);
    return strtod(text, NULL);
}

struct ticks ticks_linear(double lo, double hi, int max)
{
    static const double nice[] = {1, 2, 5};
    struct ticks t = {0};
    max = max < 2 ? 2 : max > TICKS_MAX ? TICKS_MAX : max;
    const double span = hi - lo;
    if (!isfinite(span))
        return t;
    // below that, neighbouring multiples are no longer told apart by a double
    if (!(span > 1e-12 * fmax(fabs(lo), fabs(hi))) || span < 1e-300) {
        t.n = 1;
        t.at[0] = lo;
        return t;
    }
    const int power = (int)floor(log10(span / max));
    for (int i = 0;; i++) {
        const int p = power + i / 3;
        const double step = decimal(nice[i % 3], p), slack = 1e-9;
        const double first = ceil(lo / step - slack), last = floor(hi / step + slack);
        if (last - first + 1 > max)
            continue;
        t.step = step;
        for (double k = first; k <= last; k++)
            t.at[t.n++] = k == 0 ? 0 : decimal(k * nice[i % 3], p);
        return t;
    }
}

struct ticks ticks_log(double lo, double hi, int max)
{
    static const int per_decade[] = {3, 1};
    struct ticks t = {0};
    max = max < 2 ? 2 : max > TICKS_MAX ? TICKS_MAX : max;
    if (!(lo > 0) || !isfinite(hi) || !(hi > lo))
        return ticks_linear(lo, hi, max);
    const int from = (int)floor(log10(lo)) - 1, to = (int)ceil(log10(hi)) + 1;
    for (int i = 0;; i++) {
        const int n = i < 2 ? per_decade[i] : 1, stride = i < 2 ? 1 : i;
        int count = 0;
        for (int p = from; p <= to; p++)
            for (int k = 0; k < n; k++) {
                const double x = decimal(k == 0 ? 1 : k == 1 ? 2 : 5, p);
                if (((p % stride) + stride) % stride || x < lo * (1 - 1e-9) || x > hi * (1 + 1e-9))
                    continue;
                if (count < max)
                    t.at[count] = x;
                count++;
            }
        if (count > max)
            continue;
        t.n = count;
        return count < 2 ? ticks_linear(lo, hi, max) : t;
    }
}

/* d.ddde-x without what is not needed: 5e-4, 1.5e-3 */
static void small_text(double x, int decimals, char out[TICKS_TEXT])
{
    snprintf(out, TICKS_TEXT, "%.*e", decimals > 0 ? decimals : 0, x);
    char *e = strchr(out, 'e');
    if (!e)
        return;
    const int power = atoi(e + 1);
    char *end = e;
    if (decimals > 0) {
        while (end[-1] == '0')
            end--;
        if (end[-1] == '.')
            end--;
    }
    snprintf(end, TICKS_TEXT - (size_t)(end - out), "e%d", power);
}

void ticks_text(const struct ticks *t, int i, char out[TICKS_TEXT])
{
    static const struct {
        double unit;
        const char *name;
    } units[] = {{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}, {1, ""}};
    const double x = t->at[i], size = fabs(x);
    const double step = t->step != 0 ? t->step : size; // neighbours on a logarithmic axis
    if (t->n == 1) {
        snprintf(out, TICKS_TEXT, "%.6g", x);
        return;
    }
    if (x == 0) {
        snprintf(out, TICKS_TEXT, "0");
        return;
    }
    const int power = (int)floor(log10(step) + 1e-9);
    if (step < 0.99e-3 || size >= 1e15) {
        small_text(x, (int)floor(log10(size) + 1e-9) - power, out);
        return;
    }
    // 1000, 1500 stay as they are; 10000 and multiples of 1000 become 10k, 1k
    int u = 0;
    while (units[u].unit > 1 &&
           size < units[u].unit * (units[u].unit == 1e3 && step < 1e3 ? 10 : 1))
        u++;
    const int decimals = (int)floor(log10(units[u].unit) + 0.5) - power;
    snprintf(out, TICKS_TEXT, "%.*f", decimals > 0 ? decimals : 0, x / units[u].unit);
    if (decimals > 0 && u < 4) {
        char *end = out + strlen(out);
        while (end[-1] == '0')
            *--end = 0;
        if (end[-1] == '.')
            *--end = 0;
    }
    strcat(out, units[u].name);
}
