/*
 * Reads tests/golden/<name>.h5, what tests/oracle computed with PyTorch. Names are paths in the
 * file. Whatever is missing or of another kind fails the test.
 */
#ifndef ATTAR_TESTS_GOLDEN_H
#define ATTAR_TESTS_GOLDEN_H

#include <stdbool.h>
#include <stdint.h>

enum { GOLDEN_DIMS = 4 };

struct golden_array {
    int nd;
    int64_t dim[GOLDEN_DIMS];
    int64_t n;    /* elements in all */
    float *f;     /* [n] of a dataset of reals */
    int32_t *i;   /* [n] of one of integers */
    double noise; /* how far PyTorch's own f32 is from its f64, at most; 0: not known */
};

struct golden;

/* Open until golden_close(), as are the arrays that were read. */
struct golden *golden_open(const char *name);
void golden_close(struct golden *g);

/* Groups and datasets right below a group. */
int golden_children(const struct golden *g, const char *path);
bool golden_has(const struct golden *g, const char *path);
const struct golden_array *golden_read(struct golden *g, const char *path);

/* Attributes of a group or dataset ("/" is the file): one number, a list (returns how many), a
   text [size]. */
double golden_number(const struct golden *g, const char *at, const char *name);
int golden_ints(const struct golden *g, const char *at, const char *name, int most, int *x);
void golden_text(const struct golden *g, const char *at, const char *name, char *text, int size);
bool golden_has_text(const struct golden *g, const char *at, const char *name);

/* Fails unless got [n] is the dataset up to `part` of its norm (1e-6 if that is 0) and four times
   its noise. */
void golden_compare(struct golden *g, const char *path, const float *got, int64_t n, double part);

#endif
