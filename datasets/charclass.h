/* What pre-tokenization asks of a character. Classes follow the regular expressions of Hugging
   Face tokenizers: \p{L}, \p{N}, \s, and [\r\n] apart from the other spaces. */
#ifndef ATTAR_DATASETS_CHARCLASS_H
#define ATTAR_DATASETS_CHARCLASS_H

#include <stddef.h>
#include <stdint.h>

enum charclass {
    CHARCLASS_OTHER,
    CHARCLASS_LETTER,
    CHARCLASS_NUMBER,
    CHARCLASS_SPACE,
    CHARCLASS_NEWLINE,
};

/* ASCII by table; from 0x80 on a code point has to be decoded. */
extern const uint8_t charclass_ascii[128];

enum charclass charclass_of(uint32_t code);

/* The class of the first character of s [n], n > 0, and its length in bytes. A byte that starts no
   valid UTF-8 is a character by itself, of class OTHER. */
enum charclass charclass_next(const char *s, size_t n, size_t *len);

#endif
