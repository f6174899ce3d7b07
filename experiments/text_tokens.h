/* A text file as llama.cpp's tools read it for measuring. */
#ifndef ATTAR_EXPERIMENTS_TEXT_TOKENS_H
#define ATTAR_EXPERIMENTS_TEXT_TOKENS_H

#include "datasets/tokenizer.h"

/* Appends the tokens of the whole file (also .xz; - is standard input), the newline at its end left
   out, BOS in front where the tokenizer puts one. Special tokens that are spelt out in it are text,
   with a warning that counts them, unless they are to be parsed. At most 1 GiB of text. 0, or -1
   with err() set. */
int text_tokens(const char *path, const struct tokenizer *t, bool parse_special,
                struct tokens *out);

#endif
