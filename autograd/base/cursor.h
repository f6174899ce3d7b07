/*
 * Reading a file's bytes that nobody vouches for: a bounded cursor. Reads that would leave the
 * bytes fail, sticky: later ones return zeros. A count is checked against the bytes that are left
 * before anything is allocated for it. Numbers are little-endian.
 */
#ifndef ATTAR_AUTOGRAD_BASE_CURSOR_H
#define ATTAR_AUTOGRAD_BASE_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "autograd/base/err.h"

struct cursor {
    const unsigned char *base; /* not owned */
    size_t size, at;           /* at <= size */
    bool failed;               /* err() says where and why */
};

/* The next n bytes, stepping over them; NULL if there are fewer. */
const void *cursor_bytes(struct cursor *c, uint64_t n);

uint8_t cursor_u8(struct cursor *c);
uint16_t cursor_u16(struct cursor *c);
uint32_t cursor_u32(struct cursor *c);
uint64_t cursor_u64(struct cursor *c);

size_t cursor_left(const struct cursor *c);

/* A u64 that counts things of at least `each` bytes which follow, at most `most`: 0 after failing
   if that many cannot be there. `what` names them for the message. */
uint64_t cursor_count(struct cursor *c, size_t each, uint64_t most, const char *what);

/* Fails, with the place in front of the message. -1. */
int cursor_fail(struct cursor *c, const char *fmt, ...) ERR_PRINTF(2, 3);

#endif
