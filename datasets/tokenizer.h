/*
 * Text to token ids and back: byte-level BPE as GPT-2, Llama 3, Qwen and SmolLM have it, plain
 * bytes as its case without merges, and SentencePiece's BPE as Llama 2 and Mistral have it (spm.h).
 * Files are Hugging Face's tokenizer.json; ids and merges come out as Hugging Face `tokenizers`
 * gives them; tokenizer_make() takes what GGUF and tokenizer.model hold. Any bytes round-trip,
 * valid UTF-8 or not, as long as the vocabulary has all 256 byte tokens (those made here have) and
 * no normalization is asked for; for SentencePiece's, U+2581 comes back as a space.
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
#include "datasets/spm.h"
#include "datasets/tokens.h"
#include "datasets/vocab.h"

/* What tokens are for, as files name them. */
enum tokenizer_role {
    TOKENIZER_BOS,
    TOKENIZER_EOS,
    TOKENIZER_EOT, /* of a turn */
    TOKENIZER_EOM, /* of a message */
    TOKENIZER_UNK,
    TOKENIZER_SEP,
    TOKENIZER_PAD,
    TOKENIZER_ROLES
};

extern const char *const tokenizer_roles[TOKENIZER_ROLES]; /* "bos", "eos", ... */

/* Where SentencePiece's BPE puts a space in front of text. */
enum tokenizer_space {
    TOKENIZER_NO_SPACE,
    TOKENIZER_SPACE_EACH,  /* of every run of text between added tokens: GGUF's add_space_prefix */
    TOKENIZER_SPACE_FIRST, /* where text starts, unless it does so with a space */
    TOKENIZER_SPACE_UNLESS /* of every run that does not start with one */
};

/* Read only to all but tokenizer*.c and bpe_train.c. */
struct tokenizer {
    struct vocab vocab;
    struct bpe bpe;
    struct added added;
    struct vocab behind;       /* by id, as normalized: added tokens that are found behind the */
    struct added added_behind; /* normalization; none: both are empty                          */
    const struct pretok *pre;
    const char *pre_name; /* tokenizer.ggml.pre, where it is another name of the rule */
    bool nfc;             /* text is brought into normalization form C first                      */
    int32_t bos;          /* what the file puts in front of every text, -1: nothing               */
    int32_t eot;          /* what ends a document, -1: unknown                                    */
    bool spm;             /* SentencePiece's BPE; pre is NULL then                                */
    struct spm chars;
    enum tokenizer_space space;
    float *score;                  /* spm: [vocab.n], of which the merges are made,       */
    bool merges_given;             /* or which were made of the file's merges             */
    int32_t role[TOKENIZER_ROLES]; /* as the file says; -1: it does not                   */
    bool add_eos;                  /* the file says that texts end with EOS               */
    char *chat_template;           /* Jinja; NULL: none                                   */
    struct tokenizer_pool *pool;
};

/* 256 byte tokens, id = byte, and <|endoftext|> = 256. NULL with err() if memory is short. */
struct tokenizer *tokenizer_new_byte(void);

/* A tokenizer as lists by id: what GGUF's metadata and tokenizer.model hold. */
struct tokenizer_text {
    const char *s; /* [n], not terminated */
    size_t n;
};

struct tokenizer_parts {
    bool spm;                           /* otherwise byte-level BPE */
    size_t n;                           /* tokens */
    const struct tokenizer_text *token; /* [n] as GGUF writes them */
    const float *score;                 /* [n], spm */
    const int32_t *type;                /* [n] of enum vocab_type; NULL: all normal */
    const struct tokenizer_text *merge; /* [n_merges] "left right", by rank; not for spm */
    size_t n_merges;
    const struct pretok_name *pre; /* not for spm */
    int32_t role[TOKENIZER_ROLES];
    bool add_bos, add_eos;
    enum tokenizer_space space;
    struct tokenizer_text chat_template; /* s NULL: none */
};

/* Copies all of the parts. NULL with err(): what is malformed, with its id. */
struct tokenizer *tokenizer_make(const struct tokenizer_parts *parts);

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

/* Does a text end with this token: is it the document's end, or by role or name that of a text, a
   turn or a message? */
bool tokenizer_ends(const struct tokenizer *t, int32_t id);

/* "byte" (ids are bytes, 256 ends a document), "bpe" or "spm". */
const char *tokenizer_name(const struct tokenizer *t);

/* The pre-tokenizer as in GGUF's tokenizer.ggml.pre; spm: "default". */
const char *tokenizer_pre(const struct tokenizer *t);

/* spm: what GGUF's tokenizer.ggml.scores holds of a token. Where the file had merges alone, minus
   the rank of the first one that makes it. */
float tokenizer_score(const struct tokenizer *t, int32_t id);

/* The id of the added token of this content, or -1. */
int tokenizer_find(const struct tokenizer *t, const char *content);

/* Appends the ids of text [n] to out; BOS is the caller's. Added tokens that are no control tokens
   are always found in text, control tokens such as <|endoftext|> only if parse_special: leave it
   off for text from elsewhere. 0, or -1 with err() and out as it was. */
int tokenizer_encode(const struct tokenizer *t, const char *text, size_t n, bool parse_special,
                     struct tokens *out);

/* The same for text that goes on from the last of the ids in out, as a completion does from its
   prompt: in the middle of a run SentencePiece puts no space in front of it. */
int tokenizer_encode_on(const struct tokenizer *t, const char *text, size_t n, bool parse_special,
                        struct tokens *out);

/* What stands in front of a prompt of n bytes: BOS, if the tokenizer has one; of an empty prompt,
   else the end of a document. -1: nothing. */
int32_t tokenizer_start(const struct tokenizer *t, size_t n);

/* How often a control token, the first of them *id, is spelt out in text [n]: what parse_special
   decides about. *id stays where there is none. */
int64_t tokenizer_count_special(const struct tokenizer *t, const char *text, size_t n, int32_t *id);

/* Appends the bytes of n ids to out. 0, or -1 with err() for an id that is no token. */
int tokenizer_decode(const struct tokenizer *t, const int32_t *id, size_t n, struct buf *out);

/* The bytes of one token, *len of them, not terminated; NULL (no err) if id is no token. */
const char *tokenizer_bytes(const struct tokenizer *t, int32_t id, size_t *len);

/* Do ids mean the same bytes in both? */
bool tokenizer_same_ids(const struct tokenizer *a, const struct tokenizer *b);

/* Appends the token as tokenizer.json and GGUF write it: in the byte alphabet, or with U+2581 for
   spaces and <0x0A> for bytes; added tokens as they are. Nothing for an id that is no token. */
void tokenizer_text(const struct tokenizer *t, int32_t id, struct buf *out);

/* For those who make one: a tokenizer without tokens, and what has to be done to it when vocab,
   bpe, pre, nfc and bos are set: the indexes, and eot. NULL, or -1, with err(). */
struct tokenizer *tokenizer_new_empty(const struct pretok *pre);
int tokenizer_finish(struct tokenizer *t);

#endif
