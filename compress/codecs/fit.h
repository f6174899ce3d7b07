/*
 * The search for scales: kernels over FIT_LANES sub-blocks side by side, element i of lane l at
 * x[i][l]. Every lane is computed in one order by vectors of any width, without fused multiply-add:
 * all instruction sets give the same bits. One scalar table, one vector source (fit_vec.h)
 * compiled once per instruction set.
 *
 * What is minimized is the sum over elements of w (x - y)^2, where y = s v - m is the element's
 * value on the grid (grid.h) and w its importance. `affine` formats have a min; the others' levels
 * are signed, and so are their scales.
 */
#ifndef ATTAR_COMPRESS_CODECS_FIT_H
#define ATTAR_COMPRESS_CODECS_FIT_H

#include <stdbool.h>
#include <stdint.h>

enum {
    FIT_LANES = 16,
    FIT_SIZE = 32,  /* elements of a sub-block, at most */
    FIT_TRIES = 32, /* pairs of codes, at most: 2 starts, and (2 around + 1) mins */
};

typedef float fit_lanes[FIT_LANES];

struct fit {
    int size, lanes;      /* elements of a sub-block; lanes in use: 8 or FIT_LANES */
    bool affine, clamped; /* there is a min; it is a code of 0 ... min_hi */
    bool weighted;        /* w counts; or it is 1 everywhere, and not filled */
    const int8_t *level;  /* of codes, as grid.level; NULL: the levels are all integers lo ... hi */
    float lo, hi;
    float scale_lo, scale_hi, min_hi;

    /* Where to search: `starts` steps, from `start` on by start_step, times the one that just
       reaches all elements (affine: inverse steps, that one's and so many levels more), each
       improved in so many turns of rounding and least squares; codes up to `around` the best, with
       each scale so many mins. Signed codes are tried at so many `starts` of the sign that needs
       the smaller step, and so many of the other. */
    int starts, others, turns, around, mins;
    float start, start_step;
    float unbiased;   /* so much of the way (settle.h), by start(), of signed scales */
    bool first, more; /* codes() has not run on these lanes; will run again */

    _Alignas(64) fit_lanes x[FIT_SIZE];
    fit_lanes w[FIT_SIZE];
    fit_lanes low, high; /* the smallest and the largest x */
    fit_lanes odd;       /* not 0: an x is not finite */
    fit_lanes base;      /* affine: has been subtracted from x */
    fit_lanes sw, sx;    /* sums of w; of w x, less base */
    fit_lanes reach[2];  /* signed: |s| that just reaches all, for s > 0 and s < 0 */

    /* The best grid with free scales: s v - m, m = -(base + c); slope: how c falls as s grows. */
    fit_lanes s, c, slope;

    /* The best codes for the d and dmin of each lane, the error, and sums over elements with v the
       element's level: of w v, w v^2, w v x (less base). */
    fit_lanes d, dmin, scale, min, err, sv, svv, svx;
};

/* Learned scales on their way: so many sub-blocks, 0 in the lanes behind them. */
struct fit_moves {
    bool coded; /* scales and mins are codes; else only s and m are wanted */
    float d, dmin, scale_lo, scale_hi, min_hi;
    float collapsed; /* of d: |s| below this is lost */
    fit_lanes s, m, unit, ds, dm;
    int8_t scale[FIT_LANES], min[FIT_LANES];
};

enum fit_moved { FIT_MOVED, FIT_MOVED_ODD, FIT_MOVED_LOST };

struct fits {
    const char *name;
    int width;                 /* lanes of its vectors */
    const struct fits *narrow; /* the better table for 8 lanes */
    /* the largest |x| [n]; NaN counts as 0 */
    float (*peak)(int n, const float *x);
    /* The sum of x y [n], n a multiple of 16. */
    float (*dot)(int n, const float *x, const float *y);
    /* x, w, low, high, odd, sw <- lanes [lanes] of x [size], and of w, if weighted */
    void (*load)(struct fit *f, const float *x, const float *w);
    /* w <- w * gain + floor, by lane, floor where gain is 0; base, sx, sw, reach */
    void (*ready)(struct fit *f, const float *gain, const float *floor);
    /* s, c, slope */
    void (*start)(struct fit *f);
    /* scale, min, err <- d, dmin; and, if there is more to come, sv, svv, svx */
    void (*codes)(struct fit *f);
    /* y [n] <- v s[i / size] - m[i / size], v the level of code q; level as grid.level */
    void (*spread)(int n, int size, const int8_t *level, const int8_t *q, const float *s,
                   const float *m, float *y);
    /* q [n] <- the code of lo ... hi whose level is nearest to (x + m) / s; NaN counts as 0. False:
       an x is not finite */
    bool (*snap)(int n, int size, const int8_t *level, int lo, int hi, const float *x,
                 const float *s, const float *m, int8_t *q);
    /* g [n] <- 0 where x is not in [low, high] [n / size] */
    void (*clip)(int n, int size, const float *low, const float *high, const float *x, float *g);
    /* Straight-through gradients of sub-blocks of `size` elements, n in all. u = (x + m) / s, v [n]
       the levels of their codes q [n], g [n] the gradient of their values:
         ds [n / size] <- sum of g (v - u where u is in [lo, hi], else v)
         lost [n / size] <- sum of g where it is not; both all outside where s is 0 */
    void (*pull)(int n, int size, const int8_t *level, float lo, float hi, const float *x,
                 const float *g, const int8_t *q, const float *s, const float *m, float *ds,
                 float *lost);
    /* The same where all codes are constants: sg [n / size] <- sum of g, sgv <- sum of g v. */
    void (*tally)(int n, int size, const int8_t *level, const float *g, const int8_t *q, float *sg,
                  float *sgv);
    /* s <- s exp(ds), |ds| below 1/8; m <- m + unit dm; and, where they are codes, scale <- s / d
       and min <- m / dmin, rounded, a scale never to 0. s and m stay where codes can follow. */
    enum fit_moved (*move)(struct fit_moves *f);
};

/* The table for cpu_level(): chosen before main, and again by fit_init() after cpu_set_level(). */
extern const struct fits *fit;
void fit_init(void);

extern const struct fits fit_scalar;
#if defined __x86_64__
extern const struct fits fit_avx2, fit_avx512;
#elif defined __aarch64__
extern const struct fits fit_neon;
#endif

#endif
