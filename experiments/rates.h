/*
 * What this machine does in a second, measured when it is first asked for and remembered: products
 * by the ops that training runs them with, one op a shape, everything else by row kernels. All with
 * the threads and kernels in use.
 */
#ifndef ATTAR_EXPERIMENTS_RATES_H
#define ATTAR_EXPERIMENTS_RATES_H

#include "autograd/profile.h"

enum { RATES_SIZES = 4 }; /* of passes: 128 KiB, 1, 8, 64 MiB */

struct rate {
    struct product shape; /* as asked for */
    int threads;
    double flops; /* a second */
};

struct rates {
    struct rate *known; /* of products */
    size_t n, cap;
    double bytes[RATES_SIZES], exps, draws; /* 0: not measured yet */
    double region;                          /* seconds that a parallel region costs by itself */
    double seconds;                         /* that measuring took so far */
    double most; /* seconds it may take; then the nearest known shape answers. 0: any */
};

/* Zero-initialize, but for `most`. */
void rates_free(struct rates *r);

/* FLOP/s of this kind and shape of product. Large ones are measured on a part. 0 with err() set if
   memory is short. */
double rates_product(struct rates *r, const struct product *p);

/* FLOP/s of the fastest product asked for so far, with the threads in use. */
double rates_peak(const struct rates *r);

/* Bytes/s of a pass over rows that reads and writes `footprint` bytes in all: what was there fits
   in a cache, or does not. 0 with err() set. */
double rates_bytes(struct rates *r, double footprint);

/* Exponentials, random numbers a second; seconds of an empty parallel region. */
double rates_exps(struct rates *r);
double rates_draws(struct rates *r);
double rates_region(struct rates *r);

/* Seconds that all of a profile's row should take at these rates, whatever it was measured to; -1
   with err() set. */
double rates_row(struct rates *r, const struct profile *p, int row);

#endif
