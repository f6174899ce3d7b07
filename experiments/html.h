/* Text inside HTML and SVG. What is written is well-formed XML as well. */
#ifndef ATTAR_EXPERIMENTS_HTML_H
#define ATTAR_EXPERIMENTS_HTML_H

#include <stddef.h>

#include "autograd/base/buf.h"

/* s [n] as text or as the value of a quoted attribute: markup escaped; what is not UTF-8, and
   control characters but tab and newline, become U+FFFD. */
void html_text(struct buf *b, const char *s, size_t n);

/* The same for a text that ends in NUL; nothing for NULL. */
void html_string(struct buf *b, const char *s);

#endif
