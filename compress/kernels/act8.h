/*
 * Rows of activations in 8 bits, what block formats are multiplied with: groups of 256, x = d q.
 * A private format: never in a file. There are two encodings, with d = max|x| / 127
 *
 *   act8_dtype      of 256 elements, for formats whose blocks are of 256 (llama.cpp's q8_K)
 *   act8_32_dtype   of 32 elements, for formats whose blocks are of 32 (llama.cpp's q8_0, q8_1):
 *                   an outlier coarsens the steps of its 31 neighbours, not of 255
 *
 * A group holds q twice, signed and with 128 added (the units of x86 multiply unsigned by signed),
 * and sums of it, with which mins and offsets of weights are multiplied.
 */
#ifndef ATTAR_COMPRESS_KERNELS_ACT8_H
#define ATTAR_COMPRESS_KERNELS_ACT8_H

#include "autograd/autograd.h"

enum { ACT8 = 256, ACT8_RUN = 32, ACT8_RUNS = ACT8 / ACT8_RUN };

struct act8 {
    int8_t q[ACT8];  /* in [-127, 127]; behind the row's end 0 */
    uint8_t u[ACT8]; /* q + 128 */
    union {
        int16_t sum[16];      /* act8: of 16 q each */
        float d32[ACT8_RUNS]; /* act8_32: of 32 elements each; NaN, and their q 0, if an x is not
                                 finite; behind the row's end 0 */
    };
    int16_t sum32[ACT8_RUNS]; /* of 32 q each */
    float d;                  /* act8: NaN, and all q 0, if an x is not finite; act8_32: 0 */
    uint8_t unused[12];       /* groups start at multiples of 64 */
};

_Static_assert(sizeof(struct act8) == 576, "act8");

/* encode() and decode(): of any number of columns. */
extern const struct dtype act8_dtype, act8_32_dtype;

/* Groups of a row of so many columns. */
static inline int64_t act8_groups(int64_t cols)
{
    return (cols + ACT8 - 1) / ACT8;
}

#endif
