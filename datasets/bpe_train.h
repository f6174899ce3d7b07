/*
 * Learning a byte-level BPE vocabulary from text (Sennrich et al. 2016): again and again the most
 * frequent pair of neighbouring tokens becomes a token. Ties go to the pair whose left, then right
 * token is the older one; bytes are older than all merges and are ordered as their characters in
 * the byte alphabet (bytelevel.h). So the result depends on the text alone, not on the order of
 * documents, and is the one of Hugging Face's trainer with that alphabet and min_frequency 2.
 *
 * Memory grows with the number of distinct pieces of the text, not with its length.
 */
#ifndef ATTAR_DATASETS_BPE_TRAIN_H
#define ATTAR_DATASETS_BPE_TRAIN_H

#include <stddef.h>

#include "datasets/tokenizer.h"

struct bpe_train;

/* Ids will be: 0..255 the bytes, then the merges, the specials last. `specials` ends with NULL;
   NULL itself stands for {"<|endoftext|>", NULL}. NULL with err() if pre is unknown or vocab_size
   has no room for bytes and specials. */
struct bpe_train *bpe_train_new(const char *pre, int vocab_size, const char *const *specials);

/* Counts the pieces of one document; no piece crosses its ends. A piece of more than 4096 bytes
   is counted in parts of that size. 0 or -1. */
int bpe_train_add(struct bpe_train *b, const char *text, size_t n);

/* Learns the merges and frees b, also on failure. The vocabulary is smaller than asked for where
   no pair occurs twice any more. NULL with err() if memory is short. */
struct tokenizer *bpe_train_finish(struct bpe_train *b);

void bpe_train_free(struct bpe_train *b);

#endif
