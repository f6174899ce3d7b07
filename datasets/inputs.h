/*
 * The files that a corpus is made of. An entry as the user writes it is one of
 *
 *     bible-kjv                the King James Bible, from Debian's package of that name
 *     http://..., https://...  fetched once into a folder; needs a SHA-256
 *     a file                   .txt, .md (which is text) or .jsonl, also with .xz
 *     a folder                 all such files in it and below, sorted by name, but for hidden ones;
 *                              what else is there is skipped
 *     a pattern                * ? [...] as in a shell, sorted by name; what it matches beside such
 *                              files is skipped
 *
 * relative to a base folder. ${ATTAR_DATA} is that environment variable, or ../shared/data, from
 * the current folder. "#sha256=<64 hex digits>" at the end of an entry names its file's hash.
 */
#ifndef ATTAR_DATASETS_INPUTS_H
#define ATTAR_DATASETS_INPUTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "autograd/base/buf.h"
#include "autograd/base/pool.h"

enum input_kind { INPUT_TXT, INPUT_JSONL, INPUT_BIBLE };

struct input {
    const char *path;   /* "bible-kjv" for INPUT_BIBLE */
    const char *sha256; /* or NULL */
    enum input_kind kind;
    bool xz;
    int64_t size, mtime; /* bytes and nanoseconds, of the program for INPUT_BIBLE; 0 if unknown */
};

/* What a folder or a pattern has beside text. */
struct input_skipped {
    const char *path, *why;
};

struct inputs {
    struct input *input; /* [n] */
    size_t n, cap;
    struct input_skipped *skipped; /* [n_skipped] */
    size_t n_skipped, cap_skipped;
    bool chosen; /* files came out of a folder or a pattern, not by their names */
    struct pool pool;
};

/* Finds the files of n entries. `sha256` (or NULL) is the hash of the one file there then must be;
   URLs are fetched into `cache_dir`, which exists. -1 with err() set: entry, reason, remedy. Ended
   by inputs_free() either way. */
int inputs_find(struct inputs *in, size_t n, const char *const *entry, const char *sha256,
                const char *base_dir, const char *cache_dir);
void inputs_free(struct inputs *in);

/* Appends which files are read and which are skipped, and why, if any were chosen; a long list is
   cut. */
void inputs_describe(const struct inputs *in, struct buf *out);

#endif
