/*
 * Byte pair encoding (Sennrich et al. 2016) of one piece of text: its bytes are tokens, and while
 * two neighbours have a merge, the pair of lowest rank, leftmost first, becomes one token.
 * SentencePiece's starts from characters, and falls back to bytes where one is no token.
 */
#ifndef ATTAR_DATASETS_BPE_H
#define ATTAR_DATASETS_BPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "datasets/charset.h"
#include "datasets/tokens.h"
#include "datasets/vocab.h"

struct bpe_merge {
    int32_t left, right, into;
    int32_t rank; /* set by bpe_add() */
};

struct bpe {
    int32_t byte_id[256];    /* the token of each byte; -1: none, the byte is dropped      */
    struct bpe_merge *merge; /* n_merges of them, by rank                                  */
    size_t n_merges, cap_merges;
    struct bpe_slot *slot; /* hash table of the pairs; NULL before bpe_index             */
    size_t n_slots;
    const struct vocab *whole;   /* a piece that is a token of it is that token, without any
                                    merging ("ignore_merges"); NULL: no such exception       */
    const struct charset *chars; /* what characters start as; NULL: text starts as bytes    */
    int32_t unk; /* with chars: stands for a run of characters whose bytes are no tokens,
                    -1: they are dropped                                                    */
};

/* What encoding needs beside the merges, one for each thread: working memory, and the tokens of
   pieces met before. */
struct bpe_work;

/* Appends the merge of the next rank; tied: of the last one's rank. 0 or -1. */
int bpe_add(struct bpe *b, struct bpe_merge m);
int bpe_add_tied(struct bpe *b, struct bpe_merge m);

/* Builds what bpe_encode needs; of merges of one pair the last counts. 0 or -1. */
int bpe_index(struct bpe *b);

void bpe_free(struct bpe *b);

struct bpe_work *bpe_work_new(void); /* NULL with err() */
void bpe_work_free(struct bpe_work *w);

/* Appends the tokens of piece s [n]. w has been used with this b only. 0 or -1. */
int bpe_encode(const struct bpe *b, struct bpe_work *w, const char *s, size_t n,
               struct tokens *out);

#endif
