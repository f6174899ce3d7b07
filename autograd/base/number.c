#include "autograd/base/number.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/utf8.h"

enum { TEXT_MAX = 64, SHOWN = 40, EXP_MAX = 9999 };

/* What the text is made of: sign, digits with at most one point, then an exponent or a unit. */
struct scan {
    bool negative, percent;
    const char *digits; /* digits and perhaps a point */
    size_t n_digits;    /* bytes of it */
    int exp10;          /* written exponent, unit and percent sign together */
    int exp2;           /* of a binary unit */
};

static int refused(const char *s, size_t n, const char *why)
{
    const size_t shown = utf8_valid(s, n < SHOWN ? n : SHOWN);
    return err("'%.*s%s' %s", (int)shown, s, shown < n ? "..." : "", why);
}

static const char NOT_A_NUMBER[] = "is not a number (such as 12, 3e-4, 600K or 8Ki)";

static bool digit(char c)
{
    return c >= '0' && c <= '9';
}

static size_t scan_unit(struct scan *x, const char *s, size_t n)
{
    static const char units[] = "KMGT";
    const char *u = n ? memchr(units, s[0], sizeof units - 1) : NULL;
    if (!u)
        return 0;
    const int power = (int)(u - units) + 1;
    if (n > 1 && s[1] == 'i') {
        x->exp2 = 10 * power;
        return 2;
    }
    x->exp10 += 3 * power;
    return 1;
}

static size_t scan_exponent(struct scan *x, const char *s, size_t n)
{
    if (n < 2 || (s[0] != 'e' && s[0] != 'E'))
        return 0;
    const bool sign = s[1] == '-' || s[1] == '+';
    size_t i = 1 + sign;
    int value = 0;
    if (i == n || !digit(s[i]))
        return 0;
    for (; i < n && digit(s[i]); i++)
        if (value < EXP_MAX)
            value = value * 10 + (s[i] - '0');
    x->exp10 += s[1] == '-' ? -value : value;
    return i;
}

static int scan_number(struct scan *x, const char *s, size_t n)
{
    *x = (struct scan){0};
    if (n > TEXT_MAX)
        return refused(s, n, "is too long for a number");
    size_t i = n && (s[0] == '-' || s[0] == '+');
    x->negative = i && s[0] == '-';
    x->digits = s + i;
    bool point = false;
    for (; i < n && (digit(s[i]) || (s[i] == '.' && !point)); i++)
        point |= s[i] == '.';
    x->n_digits = (size_t)(s + i - x->digits);
    if (!x->n_digits || !digit(x->digits[x->n_digits - 1]))
        return refused(s, n, NOT_A_NUMBER);
    if (x->n_digits > 1 && x->digits[0] == '0' && digit(x->digits[1]))
        return refused(s, n, "starts with a zero, which could mean octal: leave it out");
    const size_t exponent = scan_exponent(x, s + i, n - i);
    i += exponent;
    const size_t unit = scan_unit(x, s + i, n - i);
    i += unit;
    if (exponent && unit)
        return refused(s, n, "has both an exponent and a unit: give one of them");
    if (!unit && i < n && s[i] == '%') {
        x->percent = true;
        x->exp10 -= 2;
        i++;
    }
    return i == n ? 0 : refused(s, n, NOT_A_NUMBER);
}

/* Digits and a point of s [n], without zeros in front and separators of thousands; returns the
 * bytes read. */
static size_t near_digits(const char *s, size_t n, struct buf *out)
{
    size_t i = 0, points = 0;
    const size_t start = out->n;
    for (; i < n; i++) {
        const bool separates = s[i] == '_' || s[i] == ' ' || s[i] == '\'' || s[i] == ',';
        if (digit(s[i]) || s[i] == '.') {
            points += s[i] == '.';
            if (s[i] == '0' && out->n == start && i + 1 < n && digit(s[i + 1]))
                continue;
            buf_add(out, s + i, 1);
        } else if (!separates || i == 0 || i + 3 >= n || !digit(s[i + 1]) || !digit(s[i + 2]) ||
                   !digit(s[i + 3]) || (i + 4 < n && digit(s[i + 4])) || points) {
            break;
        }
    }
    if (!out->failed && out->n > start && out->p[out->n - 1] == '.')
        out->p[--out->n] = 0;
    return i;
}

/* "k", "KB", " kib", "b" -> "K", "K", "Ki", ""; what is neither stays */
static void near_unit(const char *s, size_t n, struct buf *out)
{
    while (n && *s == ' ')
        s++, n--;
    const char c = n ? (char)(*s & ~0x20) : 0;
    if (n && c && strchr("KMGT", c)) {
        buf_printf(out, "%c", c);
        s++, n--;
        if (n && (*s == 'i' || *s == 'I')) {
            buf_text(out, "i");
            s++, n--;
        }
    }
    if (n == 1 && (*s == 'b' || *s == 'B'))
        return;
    buf_add(out, s, n);
}

bool number_near(const char *s, size_t n, struct buf *out)
{
    struct scan x;
    if (!n || n > TEXT_MAX || !scan_number(&x, s, n))
        return false;
    size_t i = s[0] == '-' || s[0] == '+';
    buf_add(out, s, i);
    i += near_digits(s + i, n - i, out);
    near_unit(s + i, n - i, out);
    return !out->failed && !scan_number(&x, out->p, out->n);
}

/* Takes the factor p out of a or b. */
static bool divide(uint64_t *a, uint64_t *b, uint64_t p)
{
    uint64_t *from = *a % p == 0 ? a : b;
    if (*from % p)
        return false;
    *from /= p;
    return true;
}

int number_int(const char *s, size_t n, int64_t *out)
{
    struct scan x;
    if (scan_number(&x, s, n))
        return -1;
    if (x.percent)
        return refused(s, n, "is a share, and a whole number is needed");
    uint64_t m = 0, unit = (uint64_t)1 << x.exp2;
    bool point = false, big = false;
    int exp10 = x.exp10;
    for (size_t i = 0; i < x.n_digits; i++) {
        if (x.digits[i] == '.') {
            point = true;
            continue;
        }
        big |= __builtin_mul_overflow(m, 10, &m);
        big |= __builtin_add_overflow(m, (uint64_t)(x.digits[i] - '0'), &m);
        exp10 -= point;
    }
    for (; m && !big && exp10 < 0; exp10++)
        if (!divide(&m, &unit, 2) || !divide(&m, &unit, 5))
            return refused(s, n, "is not a whole number");
    for (; m && !big && exp10 > 0; exp10--)
        big |= __builtin_mul_overflow(m, 10, &m);
    big |= __builtin_mul_overflow(m, unit, &m);
    if (big || m > (uint64_t)INT64_MAX + x.negative)
        return refused(s, n, "is too large for a whole number");
    *out = x.negative ? (int64_t)(0 - m) : (int64_t)m;
    return 0;
}

int number_float(const char *s, size_t n, double *out, bool *percent)
{
    struct scan x;
    if (scan_number(&x, s, n))
        return -1;
    if (x.percent && !percent)
        return refused(s, n, "is a share, and a number is needed");
    char text[TEXT_MAX + 16]; // one decimal text, so that there is one rounding
    snprintf(text, sizeof text, "%.*se%d", (int)x.n_digits, x.digits, x.exp10);
    const double v = ldexp(strtod(text, NULL), x.exp2);
    if (!isfinite(v))
        return refused(s, n, "is too large");
    if (v == 0 && strcspn(text, "123456789") < x.n_digits)
        return refused(s, n, "is too small");
    *out = x.negative ? -v : v;
    if (percent)
        *percent = x.percent;
    return 0;
}

void number_print_count(int64_t n, struct buf *out)
{
    char digits[32];
    const int len = snprintf(digits, sizeof digits, "%lld", (long long)n);
    for (int i = 0; i < len; i++) {
        const bool comma = i && (len - i) % 3 == 0 && digits[i - 1] != '-';
        buf_printf(out, "%s%c", comma ? "," : "", digits[i]);
    }
}

void number_print(double x, struct buf *out)
{
    char text[40];
    if (x == floor(x) && fabs(x) < 1e15) {
        buf_printf(out, "%.0f", x == 0 ? 0.0 : x);
        return;
    }
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (strtod(text, NULL) == x)
            break;
    }
    buf_text(out, text);
}

static bool reads_as(const char *text, double x)
{
    double back;
    bool percent;
    return !number_float(text, strlen(text), &back, &percent) && back == x;
}

void number_print_percent(double x, struct buf *out)
{
    char text[64], own[40];
    for (int digits = 0; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*f%%", digits, x * 100);
        if (fabs(x) <= 1 && reads_as(text, x)) {
            buf_text(out, text);
            return;
        }
    }
    for (int digits = 0; digits <= 17; digits++) {
        // x * 100 was rounded: move the exponent of x itself instead
        snprintf(own, sizeof own, "%.*e", digits, x);
        const char *e = strchr(own, 'e');
        snprintf(text, sizeof text, "%.*se%d%%", (int)(e - own), own, atoi(e + 1) + 2);
        if (reads_as(text, x))
            break;
    }
    buf_text(out, text);
}
