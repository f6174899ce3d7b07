/* What is in a file, as text of at most INSPECT_WIDTH columns. */
#ifndef ATTAR_EXPERIMENTS_INSPECT_H
#define ATTAR_EXPERIMENTS_INSPECT_H

#include <stdbool.h>
#include <stddef.h>

#include "autograd/base/buf.h"
#include "compress/safetensors.h"
#include "datasets/tokenizer.h"
#include "layers/transformer.h"

enum { INSPECT_WIDTH = 100 };

/* One kind of file. All append to out; 0, or -1 with err() set. */
struct inspect_kind {
    const char *name;
    bool (*is)(const char *head, size_t n, size_t size); /* by its first bytes [n] */
    int (*print)(const char *path, struct buf *out);
};

int inspect_gguf(const char *path, struct buf *out);
int inspect_safetensors(const char *path, struct buf *out);
int inspect_tokenizer(const char *path, struct buf *out);
int inspect_h5(const char *path, struct buf *out); /* a checkpoint or a corpus */
int inspect_hf(const char *folder, struct buf *out);

/* Statistics of a checkpoint's parameters. */
int inspect_parameters(const char *path, struct buf *out);

/* s [n] for a terminal: control characters and what is no UTF-8 as escapes; what is longer than
   `most` columns (at least 3) ends in "...". */
void inspect_text(struct buf *out, const char *s, size_t n, size_t most);

/* A line "label     text", the text as printf does and not escaped. */
void inspect_line(struct buf *out, const char *label, const char *fmt, ...) ERR_PRINTF(3, 4);

/* "12.3 MB" */
void inspect_bytes(struct buf *out, double bytes);

/* The same of a whole file, with the number: "11.6 MB (11580416 bytes)". */
void inspect_file_bytes(struct buf *out, double bytes);

/* Lines about a model and a tokenizer. */
void inspect_dims(struct buf *out, const struct transformer_dims *d);
void inspect_tokenizer_of(struct buf *out, const struct tokenizer *t);

/* A table of tensors: name, shape, type, bytes. A row's name is escaped and cut as need be. */
struct inspect_tensor {
    const char *name; /* [name_n] */
    size_t name_n;
    char shape[96], type[24];
    double bytes; /* NAN: unknown */
};
void inspect_tensors(struct buf *out, const struct inspect_tensor *row, size_t n);
void inspect_safetensors_row(struct inspect_tensor *row, const struct safetensors_tensor *t);

#endif
