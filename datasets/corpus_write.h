/*
 * The token streams of a corpus while it is made.
 *
 * A pair is what `generate` makes of its prompt (BOS, if the tokenizer has one; of an empty prompt,
 * else <|endoftext|>), the completion's tokens, and <|endoftext|>, unless the completion itself
 * ends with a token that ends texts. No merge crosses from the prompt to the completion.
 */
#ifndef ATTAR_DATASETS_CORPUS_WRITE_H
#define ATTAR_DATASETS_CORPUS_WRITE_H

#include "datasets/corpus.h"
#include "datasets/corpus_build.h"
#include "datasets/source.h"

struct corpus_write_side {
    struct corpus_part part;
    bool open;      /* the last document lacks its <|endoftext|> */
    int32_t *token; /* not written yet, n of them, with their mask */
    uint8_t *mask;
    size_t n, cap, cap_mask;
    int64_t *start; /* of documents, not written yet */
    size_t n_starts, cap_starts;
    char *narrow; /* room for the file's type */
    size_t cap_narrow;
};

struct corpus_write {
    struct h5file *file;
    const struct tokenizer *tokenizer;
    bool masked; /* some documents are pairs */
    enum corpus_special parse_special;
    struct corpus_write_side side[2];
    /* found */
    bool parsed;       /* control tokens were taken for what they name                   */
    bool started;      /* there is a token in front of some prompt                       */
    int64_t plain;     /* control tokens spelt out in text, which were taken as plain text */
    int32_t plain_one; /* the first of them */
};

/* A piece to be encoded, with a copy of its text. */
struct corpus_job {
    struct document doc;
    size_t at; /* of its text in the batch */
    enum corpus_side side;
    size_t prompt_tokens;
    struct tokens tokens;
    bool started, ended; /* a token was put in front; the completion ends a text by itself */
    int64_t special;     /* control tokens spelt out in it */
    int32_t one;         /* the first of them */
    char *error;         /* what its encoding said, or NULL */
};

struct corpus_batch {
    struct corpus_job *job; /* [n] */
    size_t n, cap;
    struct buf text;
};

/* Tokens of a pair's prompt, with the one in front. -1 with err() set. */
int64_t corpus_prompt_tokens(const struct tokenizer *t, enum corpus_special parse,
                             const struct document *doc);

/* Adds a piece; true once there is enough for corpus_write_batch(). -1 with err() set. */
int corpus_batch_add(struct corpus_batch *b, const struct document *doc, bool valid);

/* Encodes the pieces of the batch, on all threads, and writes them in their order. The batch is
   empty then. 0 or -1. */
int corpus_write_batch(struct corpus_write *w, struct corpus_batch *b);

/* Writes what is left, and the attributes of both parts. 0 or -1. */
int corpus_write_finish(struct corpus_write *w);

void corpus_write_free(struct corpus_write *w);
void corpus_batch_free(struct corpus_batch *b);

#endif
