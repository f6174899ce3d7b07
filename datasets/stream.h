/*
 * The bytes of a text, one after another: a plain file, an .xz file (decompressed), or what a
 * program prints. Nothing is converted: line ends, byte order marks and invalid UTF-8 stay.
 */
#ifndef ATTAR_DATASETS_STREAM_H
#define ATTAR_DATASETS_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    STREAM_XZ_MEMORY = 256 << 20, /* bytes that decompression may take; xz -9 needs 65 MiB */
    STREAM_XZ_RATIO = 1000,       /* more text than this (+ 64 MiB) per byte of .xz is an error */
};

enum { STREAM_HEX = 65 }; /* a SHA-256 as hexadecimal text with its NUL */

struct stream;

/* Opens a file; `sha256` (64 hex digits) or NULL is what its own bytes, or its text after
   decompression, must have. -1 with err() set (path and reason). */
int stream_open(struct stream **out, const char *path, bool xz, const char *sha256);

/* Opens a file that a command was given: - is standard input; .xz by its name. -1 with err(). */
int stream_open_argument(struct stream **out, const char *path);

/* Opens what a program prints; see child_start(). */
int stream_open_program(struct stream **out, const char *const *argv, const char *package);

/* Reads up to n > 0 bytes; *got is 0 at the end only. The end is reached without error only if the
   file is complete and undamaged, has the hash that was asked for, and the program succeeded.
   -1 with err() set (name, place and reason). */
int stream_read(struct stream *s, void *p, size_t n, size_t *got);

/* Bytes of the file read so far, and its size (0: not known). */
int64_t stream_done(const struct stream *s);
int64_t stream_total(const struct stream *s);

/* The SHA-256 of the text, after its end was reached. */
void stream_sha256(const struct stream *s, char hex[STREAM_HEX]);

void stream_close(struct stream *s); /* NULL is fine */

#endif
