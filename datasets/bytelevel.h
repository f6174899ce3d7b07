/* GPT-2's byte alphabet: one printable character for each byte, so that tokens of any bytes can be
   written as text: bytes that print stand for themselves, the others for U+0100 and up, in order
   (Radford et al. 2019). */
#ifndef ATTAR_DATASETS_BYTELEVEL_H
#define ATTAR_DATASETS_BYTELEVEL_H

#include <stddef.h>
#include <stdint.h>

#include "autograd/base/buf.h"

/* The code point that stands for the byte. */
uint32_t bytelevel_code(uint8_t byte);

/* Appends s [n] written in the alphabet, as UTF-8. */
void bytelevel_encode(struct buf *out, const char *s, size_t n);

/* Writes the bytes that text [n] stands for to out [n]; their number, or -1 (no err) if a
   character is not of the alphabet. */
long bytelevel_decode(const char *text, size_t n, char *out);

#endif
