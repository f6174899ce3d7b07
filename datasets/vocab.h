/* The tokens of a tokenizer: the bytes and the type of each id, and the way back. */
#ifndef ATTAR_DATASETS_VOCAB_H
#define ATTAR_DATASETS_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Numbered as in GGUF's tokenizer.ggml.token_type. */
enum vocab_type {
    VOCAB_HOLE = 0, /* no token has this id                                           */
    VOCAB_NORMAL = 1,
    VOCAB_UNKNOWN = 2, /* stands for what is no token; in text it is found as VOCAB_CONTROL is */
    VOCAB_CONTROL = 3, /* a special token: found in text only when that is asked for     */
    VOCAB_USER = 4,    /* an added token: always found in text, before pre-tokenization  */
    VOCAB_UNUSED = 5,  /* not written in the byte alphabet, so that no text becomes it   */
    VOCAB_BYTE = 6,    /* one byte of a character that is no token: SentencePiece's      */
};

struct vocab_token {
    size_t at; /* of its bytes in `bytes` */
    uint32_t len;
    enum vocab_type type;
    bool normalized; /* an added token that is found in text behind its normalization */
};

struct vocab {
    struct vocab_token *token; /* n of them, by id */
    size_t n, cap;
    char *bytes; /* of all tokens */
    size_t n_bytes, cap_bytes;
    int32_t *slot; /* hash table of ids of normal tokens, -1: empty; NULL before vocab_index */
    size_t n_slots;
};

/* Sets token id, growing the vocabulary to it. 0, or -1 with err(): memory, or the id is taken. */
int vocab_set(struct vocab *v, int32_t id, const char *bytes, size_t n, enum vocab_type type);

/* Builds what vocab_find needs. 0 or -1. */
int vocab_index(struct vocab *v);

/* The id of the normal token of exactly these bytes (the lowest, if several), or -1. */
int32_t vocab_find(const struct vocab *v, const char *bytes, size_t n);

void vocab_free(struct vocab *v);

#endif
