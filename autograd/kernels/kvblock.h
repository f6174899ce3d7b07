/*
 * Blocks of a KV cache: keys and values of KVBLOCK tokens and one kv head, and what attention does
 * with them. One scalar reference (kvblock_scalar.c), one vector source (kvblock_vec.h) compiled
 * once per instruction set, one table; a test compares every entry with the scalar one.
 *
 *   keys    [D][KVBLOCK]   the tokens of one dimension side by side: scores of KVBLOCK keys are a
 *                          sum over D of vectors, and nothing is added across lanes
 *   values  [KVBLOCK][W]   W = kvblock_wide(D): rows end in zeros, so that no kernel has a rest
 *
 * Types: f32; f16, rounded to nearest; q8_0, GGUF's block of 32 along D: bytes times an f16 scale,
 * max / 127 (D must be a multiple of 32).
 *
 * A score is a sum over ascending d and a result one over ascending tokens, a chain of its own for
 * each row, from zero: a row's bits depend neither on the rows beside it nor on how many they are.
 */
#ifndef ATTAR_AUTOGRAD_KERNELS_KVBLOCK_H
#define ATTAR_AUTOGRAD_KERNELS_KVBLOCK_H

#include <stddef.h>
#include <stdint.h>

enum { KVBLOCK = 16 };

enum kvblock_type { KVBLOCK_F32, KVBLOCK_F16, KVBLOCK_Q8_0, KVBLOCK_TYPES };

struct kvblock {
    const char *name;
    /* Stores token `slot` of a block: k [D], v [D]. The same bits in every table (NaN may differ
       in its payload). */
    void (*put)(int64_t D, void *block, int slot, const float *k, const float *v);
    /* s [R, n KVBLOCK], ld floats apart, = q [R,D] times the keys of n blocks. */
    void (*scores)(int64_t D, int64_t R, const float *q, int64_t n, const void *const *block,
                   float *s, int64_t ld);
    /* y [R,W] += p [R,n], ld floats apart, times the values of the first n tokens of the blocks. */
    void (*values)(int64_t D, int64_t R, const float *p, int64_t ld, int64_t n,
                   const void *const *block, float *y);
};

/* [KVBLOCK_TYPES]: the table for cpu_level(), chosen before main, and again by kvblock_init(). */
extern const struct kvblock *kvblock;
void kvblock_init(void);

extern const struct kvblock kvblock_scalar[KVBLOCK_TYPES];
#if defined __x86_64__
extern const struct kvblock kvblock_avx2[KVBLOCK_TYPES], kvblock_avx512[KVBLOCK_TYPES];
#elif defined __aarch64__
extern const struct kvblock kvblock_neon[KVBLOCK_TYPES];
#endif

/* Names of the types in their order, NULL at the end: "f32", "f16", "q8_0". */
extern const char *const kvblock_names[KVBLOCK_TYPES + 1];

/* Elements of a row of values: D up to a whole number of KVBLOCKs. */
static inline int64_t kvblock_wide(int64_t D)
{
    return (D + KVBLOCK - 1) / KVBLOCK * KVBLOCK;
}

/* Bytes of a block, a multiple of 64, and where its values begin; 0: D does not fit the type. */
size_t kvblock_bytes(enum kvblock_type type, int64_t D);
size_t kvblock_values_at(enum kvblock_type type, int64_t D);

enum { KVBLOCK_GROUP = 32 }; /* q8_0: elements of a scale */

/* x [D] becomes bytes and a scale (f16) for each group. */
void kvblock_to_q8_0(int64_t D, const float *x, int8_t *to, uint16_t *scale);

#endif
