#include "optim/schedule.h"

#include <math.h>

static double cosine(double t)
{
    return 0.5 * (1 + cos(3.14159265358979323846 * t));
}

static double line(double t)
{
    return 1 - t;
}

static double flat(double t)
{
    (void)t;
    return 1;
}

/* What is left of lr - min at t in [0, 1] of the part of the run that falls. */
static double (*const falls[])(double t) = {
    [SCHEDULE_COSINE] = cosine,
    [SCHEDULE_LINEAR] = line,
    [SCHEDULE_CONSTANT] = flat,
    [SCHEDULE_WSD] = line,
};

double schedule_lr(const struct schedule *sc, int64_t s)
{
    if (s < sc->warmup)
        return sc->lr * (double)(s + 1) / (double)sc->warmup;
    const int64_t start = sc->kind == SCHEDULE_WSD && sc->steps - sc->decay > sc->warmup
                              ? sc->steps - sc->decay
                              : sc->warmup;
    const int64_t length = sc->steps - start;
    if (s < start || length < 1)
        return sc->lr;
    const double t = (double)(s - start) / (double)length;
    return sc->min + (sc->lr - sc->min) * pow(falls[sc->kind](t < 1 ? t : 1), sc->power);
}
