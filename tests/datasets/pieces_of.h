/* Small SentencePiece vocabularies, made of a seed. */
#ifndef ATTAR_TESTS_DATASETS_PIECES_OF_H
#define ATTAR_TESTS_DATASETS_PIECES_OF_H

#include "datasets/tokenizer.h"

enum { PIECES_OF_MOST = 1200 };

struct pieces_of {
    struct tokenizer_parts parts;
    struct tokenizer_text token[PIECES_OF_MOST];
    float score[PIECES_OF_MOST];
    int32_t type[PIECES_OF_MOST];
    char text[PIECES_OF_MOST][32];
};

/* <unk>, <s>, </s>, a user's "\n", the 256 bytes, characters, and merged pieces of a random text,
   with spaces as U+2581; many have the score of another, some hold characters that are no pieces,
   and some, if `across`, a space behind a letter. */
void pieces_of(struct pieces_of *p, uint64_t seed, bool across);

/* Adds one. */
void pieces_of_add(struct pieces_of *p, const char *text, size_t n, float score, int32_t type);

#endif
