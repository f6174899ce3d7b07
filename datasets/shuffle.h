/* A permutation of 0 .. n-1 that needs no memory: a Feistel network over the next power of four,
   followed until it lands below n (Black and Rogaway, "Ciphers with Arbitrary Finite Domains",
   CT-RSA 2002), with Philox as its round function. */
#ifndef ATTAR_DATASETS_SHUFFLE_H
#define ATTAR_DATASETS_SHUFFLE_H

#include <stdint.h>

/* The i-th element of the permutation number `which` of those under `key`. i < n. */
uint64_t shuffle_at(uint64_t key, uint64_t which, uint64_t n, uint64_t i);

#endif
