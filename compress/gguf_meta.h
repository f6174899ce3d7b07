/*
 * Values of a GGUF file's metadata, of the kind that is asked for: a value of another kind, out of
 * its range, or a list of another length is an error with the key and the place, never a guess.
 */
#ifndef ATTAR_COMPRESS_GGUF_META_H
#define ATTAR_COMPRESS_GGUF_META_H

#include "compress/gguf.h"

/* The results of these: 0 with *value set; 1 and *value untouched: there is no such key; -1 with
   err() set. */
int gguf_meta_int(const struct gguf *g, const char *key, int64_t min, int64_t max, int64_t *value);
int gguf_meta_real(const struct gguf *g, const char *key, double *value); /* finite */
int gguf_meta_bool(const struct gguf *g, const char *key, bool *value);
int gguf_meta_text(const struct gguf *g, const char *key, struct gguf_string *value);

/* list [n]: the elements of a list of n whole numbers, or one number n times. */
int gguf_meta_ints(const struct gguf *g, const char *key, int64_t min, int64_t max, size_t n,
                   int *list);

/* A list of elements of this kind, `n` of them (0: any number). */
int gguf_meta_list(const struct gguf *g, const char *key, enum gguf_kind kind, uint64_t n,
                   const struct gguf_pair **list);

#endif
