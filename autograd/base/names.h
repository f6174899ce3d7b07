/* A list of names for a message: "'a', 'b' and 3 more". Zero-initialize. */
#ifndef ATTAR_AUTOGRAD_BASE_NAMES_H
#define ATTAR_AUTOGRAD_BASE_NAMES_H

#include <stddef.h>

#include "autograd/base/buf.h"

enum { NAMES_SHOWN = 6, NAMES_LENGTH = 100 /* bytes of a name, a longer one is cut */ };

struct names {
    struct buf text;
    int n; /* that were added */
};

void names_add(struct names *l, const char *s, size_t n);

/* The whole; "" if there are none. After the last names_add(). */
const char *names_text(struct names *l);
void names_free(struct names *l);

#endif
