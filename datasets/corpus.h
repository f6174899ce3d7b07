/*
 * A corpus: text as tokens, in an HDF5 file (h5file.h) made by corpus_build.h.
 *
 *     /                    attributes: format "attar corpus", version, vocab_size, eot, content
 *     settings             text: what it was made from, and how
 *     sources              JSON: the files, their SHA-256
 *     tokenizer            JSON: tokenizer.json
 *     train/, valid/       attributes: tokens, documents, bytes, loss_bytes, masked
 *     train/tokens         u16 if vocab_size <= 65536, else i32
 *     train/documents      i64: where each document starts among the tokens
 *     train/mask           u8, only if masked: 1 where a token is to be predicted, 0 in prompts
 *
 * Documents are joined by <|endoftext|>: there is one between two of them, and none at the end of
 * a part; a completion always has its own, which is to be predicted.
 */
#ifndef ATTAR_DATASETS_CORPUS_H
#define ATTAR_DATASETS_CORPUS_H

#include <stdbool.h>
#include <stdint.h>

#include "autograd/base/buf.h"
#include "datasets/h5file.h"
#include "datasets/tokenizer.h"

enum corpus_side { CORPUS_TRAIN, CORPUS_VALID };

extern const char *const corpus_side_names[2];

struct corpus_part {
    int64_t tokens, documents;
    int64_t bytes;      /* of text, for bits per byte */
    int64_t loss_bytes; /* those whose tokens are to be predicted: bytes, without prompts */
    bool masked;
};

enum { CORPUS_HEX = 33 };

struct corpus {
    struct h5file *file;
    char content[CORPUS_HEX]; /* corpus_hash() */
    int vocab_size;
    int32_t eot; /* -1: none */
    struct corpus_part part[2];
};

/* Opens and verifies a corpus. -1 with err() set. Its functions may be called from any thread. */
int corpus_open(struct corpus *c, const char *path);
void corpus_close(struct corpus *c); /* harmless on a zeroed or closed one */

/* Reads n tokens from `start` on; every id is below vocab_size. 0 or -1. */
int corpus_read(const struct corpus *c, enum corpus_side side, int64_t start, int64_t n,
                int32_t *token);

/* Reads their mask: all 1 where the part has none. 0 or -1. */
int corpus_read_mask(const struct corpus *c, enum corpus_side side, int64_t start, int64_t n,
                     uint8_t *mask);

/* Where documents start, increasing [part.documents]; the caller frees it. NULL with err() set. */
int64_t *corpus_documents(const struct corpus *c, enum corpus_side side);

/* The tokenizer, to be freed by tokenizer_free(). NULL with err() set. */
struct tokenizer *corpus_tokenizer(const struct corpus *c);

/* What identifies the content, 32 hex digits: the same wherever the files are, whenever they were
   touched, and after making the corpus again. */
const char *corpus_hash(const struct corpus *c);

#endif
