/* Warnings about what a program meets again and again: the same tokenizer, the same file. */
#ifndef ATTAR_AUTOGRAD_BASE_ONCE_H
#define ATTAR_AUTOGRAD_BASE_ONCE_H

#include "autograd/base/err.h"

/* err_warn(), but silent for a text that this process has warned of already (the first 64 are
   known). Not from threads at the same time. */
void once_warn(const char *fmt, ...) ERR_PRINTF(1, 2);

#endif
