/* One line of a .jsonl file: a text, or a prompt with its completion. */
#ifndef ATTAR_DATASETS_JSONL_H
#define ATTAR_DATASETS_JSONL_H

#include <stdbool.h>
#include <stddef.h>

#include "autograd/base/buf.h"

struct jsonl_keys {
    const char *text, *prompt, *completion; /* NULL: "text", "prompt", "completion" */
};

/* Parses s [n], a JSON object with the key for text, or else those for prompt and completion;
   their values are strings, other keys are ignored. `out` becomes the prompt and the text one
   after the other, *prompt the bytes of the former; *pair: whether there was a prompt. -1 with
   err() set (reason only, with its column). */
int jsonl_parse(const struct jsonl_keys *keys, const char *s, size_t n, struct buf *out,
                size_t *prompt, bool *pair);

#endif
