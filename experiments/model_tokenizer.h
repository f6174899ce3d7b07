/* Tokenizers, wherever one lies. */
#ifndef ATTAR_EXPERIMENTS_MODEL_TOKENIZER_H
#define ATTAR_EXPERIMENTS_MODEL_TOKENIZER_H

#include "datasets/tokenizer.h"

/* That of a tokenizer.json, a tokenizer.model, a GGUF file, an .h5 of attar's (checkpoint, corpus)
   or a folder of Hugging Face's. NULL with err() set. */
struct tokenizer *model_tokenizer(const char *path);

#endif
