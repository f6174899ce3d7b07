/*
 * GGUF files as models: metadata to dims and tokenizer, tensors to parameters. Everything is
 * checked against the tensors' shapes before it is used; what this program does not compute
 * (experts, windows of attention, other scalings, tensors without a place) is refused by name.
 */
#ifndef ATTAR_EXPERIMENTS_MODEL_GGUF_H
#define ATTAR_EXPERIMENTS_MODEL_GGUF_H

#include <stdbool.h>

#include "compress/gguf.h"
#include "datasets/tokenizer.h"
#include "layers/transformer.h"

/* Does the file start as GGUF does? 1; 0, also of what is no file or not there; -1 with err() set:
   it cannot be read. */
int model_gguf_is(const char *path);

/* By general.type, is it a model? -1 with err() set: it is an adapter or the like. */
int model_gguf_kind(const struct gguf *g);

/* general.architecture, one of those in layers/arch.def, and which that is. NULL with err() set. */
const char *model_gguf_arch(const struct gguf *g, enum arch *arch);

/* 0, or -1 with err() set. */
int model_gguf_dims(const struct gguf *g, struct transformer_dims *dims);

/* Are all tensors but biases of a model there that is computed here? Of others nothing is known: 0.
   -1 with err() set: one is missing. */
int model_gguf_check(const struct gguf *g);

/* NULL with err() set. */
struct tokenizer *model_gguf_tokenizer(const struct gguf *g);

/* Opens a file for use without training: weights stay in the file's map, in its types, and are
   read as they are needed. 0 or -1 with err() set; after 0 the caller frees both. */
int model_gguf_use(const char *path, struct transformer *m, struct tokenizer **tok);

/* The same with all weights decoded to f32 (m->store.latent): to import, to train. */
int model_gguf_load(const char *path, struct transformer *m, struct tokenizer **tok);

#endif
