/* One line of a .jsonl file: a text, or a prompt with its completion. */
#ifndef ATTAR_DATASETS_JSONL_H
#define ATTAR_DATASETS_JSONL_H

#include <stdbool.h>
#include <stddef.h>

#include "autograd/base/buf.h"

struct jsonl_keys {
    const char *text, *prompt, *completion; /* NULL: "text", "prompt", "completion" */
};

/* What a line holds. */
struct jsonl_line {
    size_t prompt; /* bytes of it, in front of the completion; 0 of a text */
    bool pair;     /* a prompt, perhaps an empty one, and its completion */
    bool both;     /* it is a pair, and has the key for text as well */
};

/* Parses s [n], a JSON object with the key for text, or those for prompt and completion. If it has
   all three it is a text, unless `keys` names those of pairs. The values are strings, other keys
   are ignored. `out` becomes the text, or the prompt and the completion one after the other. -1
   with err() set (reason only, with its column). */
int jsonl_parse(const struct jsonl_keys *keys, const char *s, size_t n, struct buf *out,
                struct jsonl_line *is);

#endif
