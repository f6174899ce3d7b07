/* Whole small files: configs, tokenizers, reports. Large ones are mapped or streamed. */
#ifndef ATTAR_AUTOGRAD_BASE_FILE_H
#define ATTAR_AUTOGRAD_BASE_FILE_H

#include <stddef.h>

#include "autograd/base/buf.h"

/* Appends the file's bytes ("-": standard input) to b; refuses more than `most` of them.
   0, or -1 with err() naming the path. */
int file_read(const char *path, size_t most, struct buf *b);

/* Makes path hold exactly these n bytes, or leaves it as it was: written aside in the same
   directory, flushed to the disk, renamed, the directory flushed. 0, or -1 with err(). */
int file_write(const char *path, const void *bytes, size_t n);

#endif
