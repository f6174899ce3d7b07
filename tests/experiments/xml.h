/* A checker for what the report writes: XML without a DTD. */
#ifndef ATTAR_TESTS_EXPERIMENTS_XML_H
#define ATTAR_TESTS_EXPERIMENTS_XML_H

#include <stddef.h>

/* NULL if s [n] is well-formed: elements nest, attributes are quoted and unique, entities are known
   or numeric, all is UTF-8 without control characters; else what is wrong and where. The text
   lives until the next call. */
const char *xml_check(const char *s, size_t n);

#endif
