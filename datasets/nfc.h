/* Unicode normalization form C (UAX 15), which Qwen's tokenizers ask for. */
#ifndef ATTAR_DATASETS_NFC_H
#define ATTAR_DATASETS_NFC_H

#include <stdbool.h>
#include <stddef.h>

#include "autograd/base/buf.h"

/* True if s [n] is in form C for sure: quick, sometimes false although it is. */
bool nfc_quick(const char *s, size_t n);

/* Appends form C of s [n] to out; bytes that are not UTF-8 stay as they are, and part the text. 0,
   or -1 with err(). */
int nfc_text(const char *s, size_t n, struct buf *out);

#endif
