/*
 * Making a corpus out of text: one reading to count and verify, one to learn a tokenizer (bpe), one
 * to encode. Memory is bounded by the tokenizer's needs, whatever the size of the text. The file's
 * name is made from everything that its content depends on (files with size and time of change,
 * settings, tokenizer); if it is there already, it is verified and taken.
 */
#ifndef ATTAR_DATASETS_CORPUS_BUILD_H
#define ATTAR_DATASETS_CORPUS_BUILD_H

#include <stddef.h>
#include <stdint.h>

#include "autograd/base/buf.h"
#include "datasets/split.h"

enum {
    CORPUS_FEW_DOCUMENTS = 20,    /* with fewer, validation is the tail of the text */
    CORPUS_BPE_BYTES = 256 << 20, /* of text at most teach a tokenizer: an even sample */
};

enum corpus_tokenizer {
    CORPUS_BYTE, /* bytes, and an end of document */
    CORPUS_BPE,  /* learnt from the training documents */
    CORPUS_FILE, /* a tokenizer.json, or the one in an .h5 of attar's */
    CORPUS_JSON, /* the text of a tokenizer.json */
};

/* Where control tokens spelt out in text, such as <|im_start|>, are taken for what they name. */
enum corpus_special { CORPUS_SPECIAL_NONE, CORPUS_SPECIAL_ALL, CORPUS_SPECIAL_PAIRS };

struct corpus_spec {
    const char *const *source; /* [n_sources], see inputs.h */
    size_t n_sources;
    const char *sha256;                                 /* of the one file, or NULL */
    const char *split_on;                               /* see cutter.h; NULL: blank lines */
    const char *text_key, *prompt_key, *completion_key; /* of .jsonl, see jsonl.h; NULL: usual */
    enum corpus_special parse_special;
    enum split_mode valid;
    double valid_fraction; /* 0: no validation part */
    uint64_t seed;         /* chooses the documents for validation */
    enum corpus_tokenizer tokenizer;
    int vocab_size;             /* bpe */
    const char *pre;            /* bpe: see pretok.h */
    const char *tokenizer_path; /* file: relative to base_dir */
    const char *tokenizer_json; /* json */
    size_t n_tokenizer_json;    /* bytes of it */
    int64_t context;            /* each part without pairs needs this many tokens and one; 0: any */
    const char *base_dir;       /* what paths are relative to: the config's folder, "." */
    const char *cache_dir;      /* where corpora and fetched files are kept; made if need be */
};

/* Told of bytes done and in all (0: unknown) about once per MiB; if it returns non-zero, the
   corpus is abandoned. */
struct corpus_progress {
    int (*update)(void *arg, const char *what, int64_t done, int64_t total);
    void *arg;
    void (*say)(void *arg, const char *text); /* which files are read; NULL: nobody wants to know */
};

/* Appends the path of the finished corpus to `path`. `progress` may be NULL. -1 with err() set; no
   unfinished file is left. */
int corpus_build(const struct corpus_spec *spec, const struct corpus_progress *progress,
                 struct buf *path);

#endif
