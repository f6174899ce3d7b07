/* The characters that tokens are made of, each with the symbol it starts as: a table by code
   point. Zero-initialize, then charset_init(). */
#ifndef ATTAR_DATASETS_CHARSET_H
#define ATTAR_DATASETS_CHARSET_H

#include <stddef.h>
#include <stdint.h>

struct charset {
    int32_t ascii[128];        /* symbols; -1: none */
    struct charset_slot *slot; /* hash table of the others */
    size_t n, n_slots;
    uint32_t *code; /* [n_code] of the symbols from `first` on, which are no tokens themselves */
    size_t n_code, cap_code;
    int32_t first;
};

/* Without characters; `first`: the number of tokens. 0 or -1. */
int charset_init(struct charset *c, int32_t first);
void charset_free(struct charset *c);

/* Gives a character without a symbol this one; -1: a new one behind the tokens. 0 or -1. */
int charset_add(struct charset *c, uint32_t code, int32_t symbol);

/* The symbol of a character, or -1. */
int32_t charset_find(const struct charset *c, uint32_t code);

#endif
