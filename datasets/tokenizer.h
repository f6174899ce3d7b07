/*
 * Text to token ids and back: byte-level BPE as GPT-2, Llama 3, Qwen and SmolLM have it, and plain
 * bytes as its case without merges. Files are Hugging Face's tokenizer.json; ids and merges come
 * out as Hugging Face `tokenizers` gives them. Any bytes round-trip, valid UTF-8 or not, as long as
 * the vocabulary has all 256 byte tokens (those made here have) and no normalization is asked for.
 *
 * A tokenizer does not change after it was made; any number of threads may encode with it.
 */
#ifndef ATTAR_DATASETS_TOKENIZER_H
#define ATTAR_DATASETS_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "autograd/base/buf.h"
#include "datasets/added.h"
#include "datasets/bpe.h"
#include "datasets/pretok.h"
#include "datasets/tokens.h"
#include "datasets/vocab.h"

/* Read only to all but tokenizer*.c and bpe_train.c. */
struct tokenizer {
    struct vocab vocab;
    struct bpe bpe;
    struct added added;
    const struct pretok *pre;
    bool nfc;    /* text is brought into normalization form C first                      */
    int32_t bos; /* what the file puts in front of every text, -1: nothing               */
    int32_t eot; /* what ends a document, -1: unknown                                    */
    struct tokenizer_pool *pool;
};

/* 256 byte tokens, id = byte, and <|endoftext|> = 256. NULL with err() if memory is short. */
struct tokenizer *tokenizer_new_byte(void);

/* Reads a tokenizer.json. NULL with err(): what is malformed or not supported, and the remedy. */
struct tokenizer *tokenizer_load(const char *path);
struct tokenizer *tokenizer_parse(const char *json, size_t n);

/* The tokenizer as a tokenizer.json that tokenizer_parse and Hugging Face's `tokenizers` read:
   appended to json, or made the content of path. 0 or -1. */
int tokenizer_write(const struct tokenizer *t, struct buf *json);
int tokenizer_save(const struct tokenizer *t, const char *path);

void tokenizer_free(struct tokenizer *t);

/* Highest id + 1. */
int tokenizer_vocab_size(const struct tokenizer *t);
int tokenizer_eot(const struct tokenizer *t);
int tokenizer_bos(const struct tokenizer *t);

/* "byte" (ids are bytes, 256 ends a document) or "bpe". */
const char *tokenizer_name(const struct tokenizer *t);

/* The pre-tokenizer as in GGUF's tokenizer.ggml.pre: a name of pretok_rules. */
const char *tokenizer_pre(const struct tokenizer *t);

/* The id of the added token of this content, or -1. */
int tokenizer_find(const struct tokenizer *t, const char *content);

/* Appends the ids of text [n] to out; BOS is the caller's. Added tokens that are no control tokens
   are always found in text, control tokens such as <|endoftext|> only if parse_special: leave it
   off for text from elsewhere. 0, or -1 with err() and out as it was. */
int tokenizer_encode(const struct tokenizer *t, const char *text, size_t n, bool parse_special,
                     struct tokens *out);

/* Appends the bytes of n ids to out. 0, or -1 with err() for an id that is no token. */
int tokenizer_decode(const struct tokenizer *t, const int32_t *id, size_t n, struct buf *out);

/* The bytes of one token, *len of them, not terminated; NULL (no err) if id is no token. */
const char *tokenizer_bytes(const struct tokenizer *t, int32_t id, size_t *len);

/* Appends the token as tokenizer.json and GGUF write it: in the byte alphabet, added tokens as they
   are. Nothing for an id that is no token. */
void tokenizer_text(const struct tokenizer *t, int32_t id, struct buf *out);

/* For those who make one: a tokenizer without tokens, and what has to be done to it when vocab,
   bpe, pre, nfc and bos are set: the indexes, and eot. NULL, or -1, with err(). */
struct tokenizer *tokenizer_new_empty(const struct pretok *pre);
int tokenizer_finish(struct tokenizer *t);

#endif
