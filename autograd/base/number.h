/*
 * Numbers as users write them: 12, -3, 600K, 8Ki, 1.5M, 3e-4, 5%. K M G T are powers of 1000, Ki Mi
 * Gi Ti of 1024. The whole text must be a number; whatever is not is an error with its reason,
 * never half a number: no nan, inf, hexadecimal, leading zeros, blanks or separators.
 */
#ifndef ATTAR_AUTOGRAD_BASE_NUMBER_H
#define ATTAR_AUTOGRAD_BASE_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "autograd/base/buf.h"

/* A whole number, exactly: 1.5K and 1e3 are whole, 1.5 is not. 0, or -1 with err() set. */
int number_int(const char *s, size_t n, int64_t *out);

/* The double nearest to what is written, never infinite, and 0 only if it says 0. With `percent`
   non-NULL a % at the end is taken: *percent tells, and *out is the fraction (0.05 for 5%).
   0, or -1 with err() set. */
int number_float(const char *s, size_t n, double *out, bool *percent);

/* What the text [n] (UTF-8) probably means, if it is not a number by slips of the pen: units in
   small letters or with a B, separators of thousands, zeros in front, a point at the end. True, and
   the number's text in `out` (which is empty), if there is such a number; both readers take it, or
   refuse it for another reason. */
bool number_near(const char *s, size_t n, struct buf *out);

/* With separators of thousands, for people to read: 1,048,576. */
void number_print_count(int64_t n, struct buf *out);

/* The shortest text that number_float() reads as exactly x (finite). */
void number_print(double x, struct buf *out);

/* The same with a percent sign: 5% for 0.05. */
void number_print_percent(double x, struct buf *out);

#endif
