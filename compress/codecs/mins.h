/*
 * Mins that can be found again from values alone (regrid.h): a sub-block's min is 0, or one of its
 * codes is. Where the search ended on other codes, which is rare, the best admissible ones are
 * looked for among all scales.
 */
#ifndef ATTAR_COMPRESS_CODECS_MINS_H
#define ATTAR_COMPRESS_CODECS_MINS_H

#include "compress/codecs/grid.h"

/* Of codes q [size]: true if min is one that can stay. */
bool mins_admissible(const struct grid *g, int min, const int8_t *q);

/* scale[j], min[j] of s and q [size] <- those of the least error of sub-block j, x [size], weighted
   by w [size]; d and dmin stay. */
void mins_settle(const struct grid *g, int j, const float *x, const float *w, struct grid_scales *s,
                 int8_t *q);

#endif
