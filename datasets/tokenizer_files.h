/* What lies beside a tokenizer.json, or in place of one, in a model's folder of Hugging Face's. */
#ifndef ATTAR_DATASETS_TOKENIZER_FILES_H
#define ATTAR_DATASETS_TOKENIZER_FILES_H

#include "datasets/tokenizer.h"

/* A tokenizer.model: SentencePiece's ModelProto, type BPE. Tokens that tokenizer_config.json adds
   behind its pieces (config [n_config], or NULL) become tokens. NULL with err(): what is malformed
   or not supported. */
struct tokenizer *tokenizer_files_model(const void *bytes, size_t n, const char *config,
                                        size_t n_config);

/* Does the file begin as a ModelProto does, with a piece? */
bool tokenizer_files_is_model(const void *bytes, size_t n);

/* tokenizer_config.json: which tokens are BOS, EOS, UNK, SEP and PAD, whether texts begin and end
   with them, the chat template. 0, or -1 with err(). */
int tokenizer_files_config(struct tokenizer *t, const char *json, size_t n);

/* Another chat template, as chat_template.jinja holds it. 0 or -1. */
int tokenizer_files_chat(struct tokenizer *t, const char *text, size_t n);

#endif
