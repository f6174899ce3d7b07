/*
 * Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel Random
 * Numbers: As Easy as 1, 2, 3", SC 2011). A draw is a pure function of (key, counter): nothing to
 * save in a checkpoint, and no draw depends on batch slots, threads or the order of calls.
 */
#ifndef ATTAR_AUTOGRAD_BASE_RNG_H
#define ATTAR_AUTOGRAD_BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

/* Four words from a 64-bit key and a 128-bit counter (hi, lo). */
void rng_block(uint64_t key, uint64_t hi, uint64_t lo, uint32_t out[4]);

/* A key of its own for each use: the seed mixed with a name ("init", "dropout", ...). */
uint64_t rng_key(uint64_t seed, const char *name);

/* Uniform in [0, 1): 24 bits, so that the f32 value is exact. */
float rng_uniform(uint64_t key, uint64_t hi, uint64_t lo);

/* Uniform in [0, n), without bias. n > 0. */
uint64_t rng_below(uint64_t key, uint64_t counter, uint64_t n);

/* x [n] = std * standard normal draws (Box-Muller), element i from counter i. */
void rng_normal(uint64_t key, float std, float *x, size_t n);

#endif
