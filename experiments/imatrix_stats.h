/* What an importance matrix looks like: llama-imatrix's --show-statistics. */
#ifndef ATTAR_EXPERIMENTS_IMATRIX_STATS_H
#define ATTAR_EXPERIMENTS_IMATRIX_STATS_H

#include "compress/imatrix.h"

/* Of the means x [n] of one weight. */
struct imatrix_stats {
    double sum, min, max, mean, std;
    double active;  /* share of columns above 1e-5 */
    double entropy; /* of x / sum, bits; log2(n) if all are equal */
    double above;   /* share of columns more than one deviation above the mean */
};
struct imatrix_stats imatrix_stats_of(const float *x, int64_t n);

/* A line for each weight; the last column is the cosine to the same weight one layer before. 0, or
   -1 with err() set. */
int imatrix_stats_print(const struct imatrix *m);

#endif
