/*
 * Rows of activations as f16 and bf16 weights are multiplied with: groups of 256, as they are, and
 * in runs of 32 as 14-bit integers with a scale, x = d q, for products of many. A private format.
 */
#ifndef ATTAR_AUTOGRAD_KERNELS_ACT16_H
#define ATTAR_AUTOGRAD_KERNELS_ACT16_H

#include "autograd/autograd.h"

enum { ACT16 = 256, ACT16_RUN = 32, ACT16_TOP = 8191 }; /* 32 products of 13 bits fit 31 */

struct act16 {
    float x[ACT16]; /* behind the row's end 0 */
    int16_t q[ACT16];
    float d[ACT16 / ACT16_RUN]; /* NaN, and q 0, where an x is not finite */
    uint8_t unused[32];         /* groups start at multiples of 64 */
};

_Static_assert(sizeof(struct act16) == 1600, "act16");

/* encode() alone: of any number of columns. */
extern const struct dtype act16_dtype;

static inline int64_t act16_groups(int64_t cols)
{
    return (cols + ACT16 - 1) / ACT16;
}

#endif
