/* Random text for property tests. */
#ifndef ATTAR_TESTS_DATASETS_GIBBERISH_H
#define ATTAR_TESTS_DATASETS_GIBBERISH_H

#include <stdint.h>

#include "autograd/base/buf.h"

/* A step of xorshift64*; *state is not 0. Below n. */
uint64_t gibberish_below(uint64_t *state, uint64_t n);

enum gibberish {
    GIBBERISH_WORDS,  /* few letters, many repeats, contractions, digits, blanks of all sorts  */
    GIBBERISH_SCRIPT, /* characters of many scripts, marks, numbers, spaces, emoji             */
    GIBBERISH_BYTES,  /* any bytes, valid UTF-8 or not                                         */
    GIBBERISH_KINDS,
};

/* Makes b a text of about n characters. */
void gibberish_text(uint64_t *state, enum gibberish kind, size_t n, struct buf *b);

#endif
