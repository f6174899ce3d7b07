/*
 * SentencePiece's BPE (Kudo, Richardson, "SentencePiece", 2018), the kind that GGUF calls `llama`:
 * text starts as characters, and of all neighbours that together are a token the pair with the
 * highest score is merged first, the leftmost of equal ones. Spaces are written as U+2581, so that
 * character in text is a space too. Here tokens hold the space itself.
 *
 * All pairs of symbols that make a token are listed once, as merges ranked by score. Text is cut,
 * where no token reaches across, into pieces that are merged by themselves: words, at most.
 */
#ifndef ATTAR_DATASETS_SPM_H
#define ATTAR_DATASETS_SPM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "autograd/base/buf.h"
#include "datasets/bpe.h"
#include "datasets/charset.h"

enum { SPM_TOKEN = 512 /* bytes of a token at most that text may become */ };

struct spm {
    struct charset chars;
    uint64_t inside[256][4]; /* bit y of row x: bytes x y are neighbours inside a token */
};

/* What encoding needs, from the normal tokens of v, which is indexed: characters, places to cut,
   and in b, whose merges are not indexed yet, the merges by score [v->n]; without scores b has its
   own. 0, or -1 with err() set. */
int spm_init(struct spm *s, const struct vocab *v, const float *score, struct bpe *b);
void spm_free(struct spm *s);

/* Bytes of text [n] up to the first cut, 1..n; n > 0. */
size_t spm_next(const struct spm *s, const char *text, size_t n);

/* Appends text [n] with U+2581 as spaces; 0 or -1. */
int spm_spaces(const char *text, size_t n, struct buf *out);

/* Does text [n] have a U+2581? */
bool spm_has_mark(const char *text, size_t n);

/* Appends a token [n] as files have it: spaces as U+2581. */
void spm_mark(const char *token, size_t n, struct buf *out);

/* "<0x0A>" for a byte, and back: -1 if text [n] is none. */
void spm_byte_name(uint8_t byte, char name[8]);
int spm_byte(const char *text, size_t n);

#endif
