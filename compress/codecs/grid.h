/*
 * A block as a grid: every element of a sub-block is one of the values
 *
 *     s v - m      s = d * scale, m = dmin * min (both products rounded to f32; exact, for halves)
 *
 * where v is a level of the format (small integers), d and dmin are the block's, and scale and min
 * are the sub-block's integer codes. Formats without sub-blocks have one of scale 1; formats
 * without a min have none; that of Q4_1 and Q5_1 is dmin itself, with either sign.
 */
#ifndef ATTAR_COMPRESS_CODECS_GRID_H
#define ATTAR_COMPRESS_CODECS_GRID_H

#include "autograd/autograd.h"

enum { GRID_SUBS = 16, GRID_BLOCK = 256 };

/* All scales of a block, unpacked. */
struct grid_scales {
    float d, dmin;
    int16_t scale[GRID_SUBS], min[GRID_SUBS]; /* [grid.subs] */
};

struct grid {
    int subs, size;         /* sub-blocks of a block, elements of a sub-block */
    int scale_lo, scale_hi; /* codes of scales; both 1: the block has d alone */
    int min_hi;             /* codes of mins: 0 ... min_hi; 0: there is no min */
    int lo, hi;             /* codes of elements */
    const int8_t *level;    /* [hi + 1] code -> level; NULL: a code is its level */
    void (*get)(const void *block, struct grid_scales *s);
    void (*set)(void *block, const struct grid_scales *s); /* elements' codes stay */
    void (*unpack)(const void *block, int8_t *q);          /* codes q [block] */
    void (*pack)(void *block, const int8_t *q);            /* scales stay */
};

#define CODEC(stem, name, id, block, bytes) extern const struct grid stem##_grid;
#include "compress/codecs/codecs.def"
#undef CODEC

extern const int8_t iq4_nl_levels[16];

/* Of one of the formats of codecs.def; NULL: of none. */
const struct grid *codecs_grid(const struct dtype *dt);

/* dtype.decode of all of them. */
void grid_decode(const struct tensor *t, int64_t row, float *x);

#endif
