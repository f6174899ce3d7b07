/* Where an axis has its marks, and what stands beside them. */
#ifndef ATTAR_EXPERIMENTS_TICKS_H
#define ATTAR_EXPERIMENTS_TICKS_H

enum { TICKS_MAX = 12, TICKS_TEXT = 32 };

struct ticks {
    int n;
    double at[TICKS_MAX]; /* ascending, within [lo, hi] */
    double step;          /* their distance; 0 on a logarithmic axis */
};

/* Multiples of 1, 2 or 5 times a power of ten in [lo, hi], at most `max` (2..TICKS_MAX), as many as
   fit. No mark but lo if hi <= lo; none if either is not finite. */
struct ticks ticks_linear(double lo, double hi, int max);

/* The same for a logarithmic axis, 0 < lo: powers of ten, every k-th where there are many, with
   their multiples by 2 and 5 where there are few; ticks_linear() below one octave or so. */
struct ticks ticks_log(double lo, double hi, int max);

/* at[i] with just the digits that tell it from its neighbours: 0.25, 12k, 1.5M, 5e-4. */
void ticks_text(const struct ticks *t, int i, char out[TICKS_TEXT]);

#endif
