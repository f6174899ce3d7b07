/*
 * YAML as a small tree in which every key and value knows its place. What a config does not need is
 * refused with a message: anchors, aliases, tags, several documents, keys that are not plain text.
 * Sizes are bounded: 1 MiB of text, 16 levels, 65536 nodes, 1024 keys in a map.
 */
#ifndef ATTAR_EXPERIMENTS_YAML_H
#define ATTAR_EXPERIMENTS_YAML_H

#include <stdbool.h>
#include <stddef.h>

#include "autograd/base/pool.h"
#include "experiments/mistake.h"

enum { YAML_BYTES_MAX = 1 << 20 };

enum yaml_kind { YAML_TEXT, YAML_LIST, YAML_TREE };

struct yaml {
    enum yaml_kind kind;
    struct place at;
    const char *text; /* TEXT: n bytes of UTF-8 without a NUL, and a NUL behind them */
    size_t n;
    bool quoted;     /* TEXT: in quotes or as a block, so never a number, a bool or nothing */
    bool bad;        /* a mistake was reported here: rules that build on the value are silent */
    const char *key; /* what the parent, a TREE, calls it */
    struct place key_at;
    struct yaml *first, *last; /* LIST, TREE: children in the order of the text */
    struct yaml *next;
    int n_children;
};

/* The tree of text [n], in the pool; NULL if there is none (mistakes tell why). Keys given twice
   are reported and the first one kept. `override` (see struct place) is where the text comes from.
 */
struct yaml *yaml_parse(const char *text, size_t n, int override, struct pool *pool,
                        struct mistakes *bad);

/* The child of that name; NULL if there is none, or tree is NULL or no TREE. */
struct yaml *yaml_get(const struct yaml *tree, const char *key);

/* Nothing was written after the key (or `null` or ~). */
bool yaml_empty(const struct yaml *node);

/* A new child of a TREE, without a value; NULL with err() set if memory is short. */
struct yaml *yaml_put(struct yaml *tree, const char *key, struct place at, struct pool *pool);

void yaml_remove(struct yaml *tree, const struct yaml *child);

/* "text", "a list", "a map": for messages. */
const char *yaml_kind_name(const struct yaml *node);

#endif
