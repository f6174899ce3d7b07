#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "autograd/base/rng.h"
#include "tests/autograd/rows_check.h"

// the address sanitizer guards the end of an allocation by itself, for reads too
#if defined __SANITIZE_ADDRESS__
enum { GUARD = 0 };
#else
enum { GUARD = 24 };
#endif
static const float CANARY = -7654321;

struct vec vec_nan(int64_t n, int shift)
{
    float *base = aligned_alloc(64, ((size_t)(n + shift + GUARD) * sizeof *base + 64) / 64 * 64);
#if defined __SANITIZE_ADDRESS__
    free(base);
    base = malloc((size_t)(n + shift) * sizeof *base);
#endif
    for (int64_t i = 0; i < n + shift + GUARD; i++)
        base[i] = i < shift || i >= n + shift ? CANARY : NAN;
    return (struct vec){base + shift, n, shift};
}

struct vec vec_copy(struct vec from)
{
    struct vec v = vec_nan(from.n, from.shift);
    for (int64_t i = 0; i < v.n; i++)
        v.p[i] = from.p[i];
    return v;
}

struct vec vec_new(uint64_t key, int64_t n, int shift)
{
    struct vec v = vec_nan(n, shift);
    rng_normal(key, 1, v.p, (size_t)n);
    return v;
}

void vec_free(struct vec v)
{
    float *base = v.p - v.shift;
    for (int64_t i = 0; i < v.n + v.shift + GUARD; i++)
        if ((i < v.shift || i >= v.n + v.shift) && base[i] != CANARY)
            fail_msg("element %d of %d was written", (int)i - v.shift, (int)v.n);
    free(base);
}

void near(const char *what, int64_t i, double got, double want, double most)
{
    if (!(fabs(got - want) <= most))
        fail_msg("%s[%d]: %.9g instead of %.9g +- %.2g", what, (int)i, got, want, most);
}
