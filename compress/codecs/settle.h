/*
 * A block after the search: its codes, and its scales in the form that is written.
 *
 *   unbiased     The best y by least squares is shorter than x: |y|^2 = <x, y> = |x|^2 - |x - y|^2,
 *                at 2 bits by 7 %. That part of the error is the same for all rows and adds up over
 *                what a layer reads, the rest averages out. Scales grow by |x|^2 / <x, y>, which
 *                makes x - y orthogonal to x, at an error larger by the square of that part.
 *   found again  A min is 0, or one of its sub-block's codes is; a block of one value has one form
 *                (regrid.h).
 */
#ifndef ATTAR_COMPRESS_CODECS_SETTLE_H
#define ATTAR_COMPRESS_CODECS_SETTLE_H

#include "compress/codecs/fit.h"
#include "compress/codecs/grid.h"

struct settle {
    const struct grid *g;
    const struct fit *f; /* the block's sub-blocks are its lanes from `lane` on */
    int lane, exp;       /* x is the row's times 2^exp, and so are s.d and s.dmin */
    const float *x;      /* [block] */
    const float *w;      /* [block] importance; NULL: none */
    struct grid_scales s;
    int8_t q[GRID_BLOCK];
};

/* s of a search -> s, q. */
void settle_block(struct settle *e);

/* The f16 nearest to d 2^-e; not 0 for what is not, not infinity. */
float settle_half(float d, int e);

/* s->d, dmin <- d, dmin, which are scaled by 2^e, as halves, and so coarse that all values of the
   block are exact (regrid.h). */
void settle_halves(const struct grid *g, int e, float d, float dmin, struct grid_scales *s);

#endif
