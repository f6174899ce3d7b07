/*
 * Models as Hugging Face's libraries keep them: a folder with config.json, safetensors (one file,
 * or shards and an index), tokenizer.json or tokenizer.model, tokenizer_config.json. Llama 1 to 3,
 * Mistral, SmolLM2, Qwen2, Qwen3, GPT-2; what this program would compute otherwise than
 * transformers does is refused by name.
 */
#ifndef ATTAR_EXPERIMENTS_IMPORT_HF_H
#define ATTAR_EXPERIMENTS_IMPORT_HF_H

#include <stdbool.h>

#include "compress/safetensors.h"
#include "datasets/tokenizer.h"
#include "layers/transformer.h"

/* Is it a folder with a config.json? */
bool import_hf_is(const char *folder);

/* Reads a folder, weights decoded to f32, rows in GGUF's order. 0, or -1 with err() set; after 0
   the caller frees both. */
int import_hf(const char *folder, struct transformer *m, struct tokenizer **tok);

/* ---- parts of it ---- */

/* The text of a config.json. 0, or -1 with err() set. */
int import_hf_dims(const char *json, size_t n, struct transformer_dims *dims);

/* Of the folder's config.json. */
int import_hf_read_dims(const char *folder, struct transformer_dims *dims);

/* The files with the tensors. */
struct import_hf_shards {
    struct safetensors *file; /* [n] */
    size_t n, cap;
    void *index; /* of the names, or NULL: there is one file */
};

/* 0, or -1 with err() set; import_hf_close() after both. */
int import_hf_open(struct import_hf_shards *s, const char *folder);
void import_hf_close(struct import_hf_shards *s);

/* All weights of m, whose store is frozen or trained; a tensor that has no place is an error. */
int import_hf_weights(const struct import_hf_shards *s, struct transformer *m);

/* NULL with err() set. */
struct tokenizer *import_hf_tokenizer(const char *folder);

#endif
