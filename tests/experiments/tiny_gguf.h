/* The tiny model as a GGUF file, right or with one thing wrong. */
#ifndef ATTAR_TESTS_EXPERIMENTS_TINY_GGUF_H
#define ATTAR_TESTS_EXPERIMENTS_TINY_GGUF_H

#include "compress/gguf_write.h"
#include "layers/transformer.h"

struct tiny_gguf {
    const struct transformer *m;
    const struct dtype *matrices, *vectors; /* NULL: f32 */
    const char *skip; /* a key, or a tensor, that is left out; "blk.1.*": all of these */
    void (*more)(struct gguf_write *w, int arg); /* NULL, or writes metadata of its own */
    int arg;
    const char *extra; /* one more tensor, f32 [n_extra], of the values in extra_data */
    uint64_t n_extra;
    const float *extra_data;
};

/* Writes it, with the 256 bytes and <|endoftext|> as a gpt2 tokenizer. */
void tiny_gguf_save(const char *path, const struct tiny_gguf *g);

#endif
