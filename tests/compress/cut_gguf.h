/* A model's GGUF file in parts, as llama.cpp's gguf-split makes them, right or with a thing wrong.
 */
#ifndef ATTAR_TESTS_COMPRESS_CUT_GGUF_H
#define ATTAR_TESTS_COMPRESS_CUT_GGUF_H

#include <stdbool.h>
#include <stddef.h>

struct cut_gguf {
    int parts;
    bool bare_first;     /* the first part has metadata alone */
    int64_t no, tensors; /* of the last part; 0: the right ones */
    const char *name;    /* general.name of the last part; NULL: none */
    bool twice, less;    /* the last part has the first part's last tensor too, or one too few */
    const char *leave;   /* a key of the split that all parts lack */
};

/* Writes STEM-00001-of-0000N.gguf and so on from the file `whole`: equal numbers of tensors each.
   Fails the test if it cannot. */
void cut_gguf(const char *whole, const char *stem, const struct cut_gguf *c);

/* The name of part i, from 0; valid until the next call. */
const char *cut_gguf_path(const char *stem, int i, int parts);

#endif
