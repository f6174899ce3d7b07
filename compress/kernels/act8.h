/*
 * Rows of activations in 8 bits, what block formats are multiplied with: groups of 256, each with
 * a scale of its own, x = d q, d = max|x| / 127. A private format: never in a file.
 *
 * A group holds q twice, signed and with 128 added (the units of x86 multiply unsigned by signed),
 * and sums of it, with which mins and offsets of weights are multiplied.
 */
#ifndef ATTAR_COMPRESS_KERNELS_ACT8_H
#define ATTAR_COMPRESS_KERNELS_ACT8_H

#include "autograd/autograd.h"

enum { ACT8 = 256 };

struct act8 {
    int8_t q[ACT8];     /* in [-127, 127]; behind the row's end 0 */
    uint8_t u[ACT8];    /* q + 128 */
    int16_t sum[16];    /* of 16 q each */
    int16_t sum32[8];   /* of 32 q each */
    float d;            /* NaN, and all q 0, if an x is not finite */
    uint8_t unused[12]; /* groups start at multiples of 64 */
};

_Static_assert(sizeof(struct act8) == 576, "act8");

/* encode() and decode(): of any number of columns. */
extern const struct dtype act8_dtype;

/* Groups of a row of so many columns. */
static inline int64_t act8_groups(int64_t cols)
{
    return (cols + ACT8 - 1) / ACT8;
}

#endif
