/*
 * Values that lie on a grid already. What encoders write is exact: every element is an integral
 * multiple of one power of two, at most 2^24 times it, so that its grid can be found again from the
 * values by integers alone, whatever the importance was. That is why encoding is idempotent.
 */
#ifndef ATTAR_COMPRESS_CODECS_REGRID_H
#define ATTAR_COMPRESS_CODECS_REGRID_H

#include "compress/codecs/grid.h"

/* s, q [block] <- a grid and codes whose values are x [block], bit for bit; false: there is none,
   or none that an encoder would have written. */
bool regrid_find(const struct grid *g, const float *x, struct grid_scales *s, int8_t *q);

/* The largest f16 that is at most v; the end of their range, where there is none. A block of one
   value with a min of its own is that f16 and the highest code times a d: what lies between two
   halves can be found again, too. */
float regrid_floor(float v);

/* A quick look at the first sub-block: false if regrid_find() will find nothing. base: what its
   elements have in common (0; with a min: its smallest, at most 0); top: of all |x|. */
bool regrid_could(const struct grid *g, const float *x, float base, float top);

#endif
