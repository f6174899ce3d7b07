/*
 * Models as Hugging Face's libraries keep them: a folder with config.json, safetensors (one file,
 * or shards and an index), tokenizer.json or tokenizer.model, tokenizer_config.json. Llama 1 to 3,
 * Mistral, SmolLM2, Qwen2, Qwen3, GPT-2; what this program would compute otherwise than
 * transformers does is refused by name.
 */
#ifndef ATTAR_EXPERIMENTS_IMPORT_HF_H
#define ATTAR_EXPERIMENTS_IMPORT_HF_H

#include "compress/safetensors.h"
#include "datasets/tokenizer.h"
#include "layers/transformer.h"

enum { IMPORT_HF_PATH = 4096 };

/* Is it a folder with a config.json? 1, 0, or -1 with err() set: that cannot be known. */
int import_hf_is(const char *folder);

/* Reads a folder, weights decoded to f32, rows in GGUF's order. 0, or -1 with err() set; after 0
   the caller frees both. */
int import_hf(const char *folder, struct transformer *m, struct tokenizer **tok);

/* ---- parts of it ---- */

/* The path of a file in a folder. 0: it is there; 1: it is not; -1 with err() set: nobody knows. */
int import_hf_find(const char *folder, const char *name, char path[IMPORT_HF_PATH]);

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

/* The head is the embedding only if that is what the files hold: a head of other values is used
   (as transformers does), and dims->tied becomes false, with a warning. */
void import_hf_settle_head(const struct import_hf_shards *s, struct transformer_dims *dims);

/* Are all tensors of m there, once, of the right shapes and of types that are read, and no others?
   Reads no values. 0, or -1 with err() set: what is missing, by name. */
int import_hf_check(const struct import_hf_shards *s, const struct transformer *m);

/* All weights of m, whose store is frozen or trained, after import_hf_check(). 0, or -1 with err()
   set. */
int import_hf_weights(const struct import_hf_shards *s, struct transformer *m);

/* NULL with err() set. */
struct tokenizer *import_hf_tokenizer(const char *folder);

#endif
