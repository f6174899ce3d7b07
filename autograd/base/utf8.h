/* UTF-8, strictly (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF). */
#ifndef ATTAR_AUTOGRAD_BASE_UTF8_H
#define ATTAR_AUTOGRAD_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Reads one code point from s [n]: its length in bytes (1..4), or 0 if s does not start with a
   complete valid one (*code is then unset). */
size_t utf8_decode(const char *s, size_t n, uint32_t *code);

/* Writes code (a valid one) to out [4]; returns its length in bytes. */
size_t utf8_encode(uint32_t code, char out[4]);

/* Bytes of s [n] that are valid from the start; n if all are. */
size_t utf8_valid(const char *s, size_t n);

/* Bytes of s [n] without a code point at its end that further bytes could complete: what can be
   shown of a text that is still arriving. Bytes that are not valid anyway are counted. */
size_t utf8_whole(const char *s, size_t n);

#endif
