/* The lines that llama-quantize prints: one a tensor, and the sums. */
#ifndef ATTAR_EXPERIMENTS_MIX_LINES_H
#define ATTAR_EXPERIMENTS_MIX_LINES_H

#include <stddef.h>
#include <stdint.h>

#include "compress/recipe.h"

struct mix_lines_tensor {
    const char *name; /* [name_n] */
    int name_n;
    const uint64_t *dim; /* [4], the contiguous one first */
    const char *type;    /* its name */
    double bytes;
};

/* "[  12/ 291] blk.0.ffn_down.weight - [14336, 4096, 1, 1], type = f16, " */
void mix_lines_head(size_t i, size_t n, const struct mix_lines_tensor *t);

/* The rest of a line, of what stays; of what is converted (a pause in between: start, end); of what
   would be. */
void mix_lines_kept(double bytes);
void mix_lines_start(const struct dtype *to);
void mix_lines_end(double old_bytes, double new_bytes, const char *note);
void mix_lines_planned(double old_bytes, double new_bytes, const struct dtype *to);

/* On stderr: rows that are no whole blocks of what was wanted. */
void mix_lines_fallback(const char *name, int name_n, int64_t cols, const struct recipe_choice *c);

struct mix_lines_sums {
    double old_bytes, new_bytes, elements;
    int matrices, fallbacks;
};
void mix_lines_sums(const struct mix_lines_sums *s);

/* Of the whole file, metadata and padding included. */
void mix_lines_file(uint64_t bytes);

#endif
