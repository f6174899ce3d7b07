/*
 * The dtypes of GGUF's block formats: codecs.def is their list, <stem>.c their bytes (grid.h). A
 * name is the stem: "q4_k".
 */
#ifndef ATTAR_COMPRESS_CODECS_CODECS_H
#define ATTAR_COMPRESS_CODECS_CODECS_H

#include "autograd/autograd.h"

#define CODEC(stem, name, id, block, bytes) extern const struct dtype codecs_##stem;
#include "compress/codecs/codecs.def"
#undef CODEC

/* By name in any case, f32, f16, bf16 and i32 included; NULL: there is none. */
const struct dtype *codecs_find(const char *name);

/* By GGUF's number, the same ones. */
const struct dtype *codecs_by_id(uint32_t gguf_id);

/* The i-th, in the order of codecs.def; NULL behind the last. */
const struct dtype *codecs_at(int i);

#endif
