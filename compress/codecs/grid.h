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

#include <stdbool.h>

#include "autograd/autograd.h"

enum { GRID_SUBS = 16, GRID_BLOCK = 256, GRID_LEVELS = 16 };

/* All scales of a block, unpacked. */
struct grid_scales {
    float d, dmin;
    int16_t scale[GRID_SUBS], min[GRID_SUBS]; /* [grid.subs] */
};

enum grid_kind {
    GRID_LARGEST, /* no search: the largest element has the highest level */
    GRID_BLOCKS,  /* every block by itself */
    GRID_SUPER,   /* sub-blocks together */
    GRID_TERNARY,
};

/* How an encoder looks for scales (struct fit), in so many passes that improve d and dmin. full:
   without mins, the first d lets the highest code be the largest scale that just reaches all
   elements of a sub-block, times this. The figures are the fewest tries of those measured that
   keep the errors of trained weights below llama-quantize's with a margin. */
struct grid_search {
    enum grid_kind kind;
    float start, start_step;
    int starts, turns, around, mins, passes, others;
    float full;
    float beyond, unbiased; /* grid_encode.c's weigh_outliers(); settle.h */
};

struct grid {
    bool wide;              /* d is an f32, else an f16 */
    int d_at;               /* where it lies in a block that has nothing else, and no f32 */
    int subs, size;         /* sub-blocks of a block, elements of a sub-block */
    int scale_lo, scale_hi; /* codes of scales; both 1: the block has d alone */
    int min_hi;             /* codes of mins: 0 ... min_hi; 0: there is no min */
    int lo, hi;             /* codes of elements */
    const int8_t *level;    /* [GRID_LEVELS] code -> level, rising, for codes of 0 ... hi =
                               GRID_LEVELS - 1 and no min; NULL: a code is its level */
    struct grid_search search;
    void (*get)(const void *block, struct grid_scales *s);
    void (*set)(void *block, const struct grid_scales *s); /* elements' codes stay */
    void (*unpack)(const void *block, int8_t *q);          /* codes q [block] */
    void (*pack)(void *block, const int8_t *q);            /* scales stay */
};

#define CODEC(stem, name, id, block, bytes) extern const struct grid stem##_grid;
#include "compress/codecs/codecs.def"
#undef CODEC

extern const int8_t iq4_nl_levels[GRID_LEVELS];

/* Of one of the formats of codecs.def; NULL: of none. */
const struct grid *codecs_grid(const struct dtype *dt);

/* dtype.decode, round and encode of all of them. */
void grid_decode(const struct tensor *t, int64_t row, float *x);
void grid_round(struct tensor *t, int64_t row, const float *x);

/* grid_round(), and y [cols], if it is not NULL, <- what grid_decode() then reads. False: an x is
   not finite. */
bool grid_project(struct tensor *t, int64_t row, const float *x, float *y);

/* Straight-through gradients of a row, g [cols] those of its values: g <- 0 where x lies outside of
   what its sub-block's grid spans; and ds, lost [cols / size] as in fit.h's pull, lost |s| times,
   both 0 where the step s is 0. lost NULL: it is not wanted. */
void grid_clip(const struct tensor *t, int64_t row, const float *x, float *g);
void grid_pull(const struct tensor *t, int64_t row, const float *x, const float *g, float *ds,
               float *lost);

/* All codes of a row's blocks are constants: dd, dmin [cols / block] <- the gradients of log d and
   of log dmin. dmin NULL: there are none. */
void grid_pull_super(const struct tensor *t, int64_t row, const float *g, float *dd, float *dmin);

/* The largest magnitude of a level. */
static inline int grid_top(const struct grid *g)
{
    const int lo = g->level ? g->level[g->lo] : g->lo, hi = g->level ? g->level[g->hi] : g->hi;
    return -lo > hi ? -lo : hi;
}

/* Does a block have d alone? */
static inline bool grid_flat(const struct grid *g)
{
    return g->scale_lo == g->scale_hi;
}

void grid_encode(struct tensor *t, int64_t row, const float *x, const float *importance);

/* x [block] <- the values of codes q. */
void grid_values(const struct grid *g, const struct grid_scales *s, const int8_t *q, float *x);

/* q [block] <- the codes nearest to x. */
void grid_nearest(const struct grid *g, const struct grid_scales *s, const float *x, int8_t *q);

#endif
