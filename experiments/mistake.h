/* What is wrong with a config: all of it, collected, each with its place. */
#ifndef ATTAR_EXPERIMENTS_MISTAKE_H
#define ATTAR_EXPERIMENTS_MISTAKE_H

#include <stdbool.h>
#include <stddef.h>

#include "autograd/base/buf.h"

/* Where something was written: in the file, or in the k-th override of the command line. */
struct place {
    int override;     /* 1 for the first; 0: in the file          */
    int line, column; /* in the file, from 1, column in characters */
};

struct mistake {
    struct place at;
    int order; /* of addition */
    char *text;
};

/* Zero-initialize, but for `file`. */
struct mistakes {
    const char *file; /* name for the messages; must outlive this */
    struct mistake *list;
    size_t n, cap;
    size_t dropped; /* beyond the first 1000 */
    bool failed;    /* memory ran out: the list is not complete, n is at least 1 in effect */
};

void mistake_add(struct mistakes *m, struct place at, const char *fmt, ...) ERR_PRINTF(3, 4);

bool mistake_any(const struct mistakes *m);

/* Sorts by line (those of overrides last) and prints one a line: `file.yaml:3:7: message` or
   `override 2: message`; past `max` bytes only how many more there are. */
void mistake_print(struct mistakes *m, size_t max, struct buf *out);

void mistake_free(struct mistakes *m);

#endif
