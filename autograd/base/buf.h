/* A growing run of bytes: text, JSON, HTML. Zero-initialize; errors are sticky. */
#ifndef ATTAR_AUTOGRAD_BASE_BUF_H
#define ATTAR_AUTOGRAD_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>

#include "autograd/base/err.h"

struct buf {
    char *p;     /* n bytes and a NUL behind them; NULL while nothing was added */
    size_t n;    /* bytes in use, the NUL not counted */
    size_t cap;  /* bytes allocated */
    bool failed; /* memory ran out once: err() was set, later additions do nothing */
};

void buf_add(struct buf *b, const void *bytes, size_t n);
void buf_text(struct buf *b, const char *s);
void buf_printf(struct buf *b, const char *fmt, ...) ERR_PRINTF(2, 3);

/* s [n] as a JSON string with its quotes; bytes that are not UTF-8 become U+FFFD. */
void buf_json(struct buf *b, const char *s, size_t n);

/* Keeps the memory, forgets the content. */
void buf_clear(struct buf *b);
void buf_free(struct buf *b);

#endif
