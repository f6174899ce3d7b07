/* What the readers of the parts of a tokenizer.json share; only for tokenizer_parse*.c and
   tokenizer_files*.c. */
#ifndef ATTAR_DATASETS_TOKENIZER_PARSE_H
#define ATTAR_DATASETS_TOKENIZER_PARSE_H

#include <jansson.h>

#include "datasets/tokenizer.h"

struct tokenizer_reading {
    struct tokenizer *t;
    json_t *vocab; /* text -> id, of added tokens too */
    size_t id_end; /* ids lie below: room for all tokens of the file, and for gaps */
    int32_t unk;   /* stands for bytes without a token; -1: they are dropped */
    bool fuse_unk;
    bool normalizes; /* there is a normalizer */
    bool spaces;     /* spm: a step writes spaces as U+2581, as the vocabulary does */
};

/* Of a whole tokenizer.json, read; its vocabulary is added to. NULL with err() set. */
struct tokenizer *tokenizer_parse_root(const json_t *root);

/* The member "type" of a step, "(none)" if it has none. */
const char *tokenizer_parse_type(const json_t *step);

/* True if o has the key with anything but null, false, 0 or "". */
bool tokenizer_parse_set(const json_t *o, const char *key);

/* The steps around the model, behind vocabulary and added tokens. 0, or -1 with err() set. */
int tokenizer_parse_steps(struct tokenizer_reading *r, const json_t *root);

/* What tokenizer.json has no place for, in an object of our own: scores, roles, chat template. */
int tokenizer_parse_extras(struct tokenizer_reading *r, const json_t *extras);

#endif
