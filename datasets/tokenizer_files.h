/* What lies beside a tokenizer.json, or in place of one, in a model's folder of Hugging Face's. */
#ifndef ATTAR_DATASETS_TOKENIZER_FILES_H
#define ATTAR_DATASETS_TOKENIZER_FILES_H

#include "datasets/tokenizer.h"

/* tokenizer_config.json with what older files say in its place, special_tokens_map.json and
   added_tokens.json (s NULL: it is not there), where it has no added_tokens_decoder; appended to
   out. 0, or -1 with err(). */
int tokenizer_files_settle(const struct tokenizer_text *config, const struct tokenizer_text *map,
                           const struct tokenizer_text *added, struct buf *out);

/* A tokenizer.json with the tokens that tokenizer_config.json adds to it; those that it only names
   have ids below `vocab`, or stay out. NULL with err(). */
struct tokenizer *tokenizer_files_json(const struct tokenizer_text *json,
                                       const struct tokenizer_text *config, int vocab);

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

/* generation_config.json's or config.json's eos_token_id, a number or a list: what ends a text. An
   id that tokenizer_ends() does not know gets a role that is free. 0, or -1 with err(). */
int tokenizer_files_ends(struct tokenizer *t, const char *json, size_t n);

/* Another chat template, as chat_template.jinja holds it. 0 or -1. */
int tokenizer_files_chat(struct tokenizer *t, const char *text, size_t n);

#endif
