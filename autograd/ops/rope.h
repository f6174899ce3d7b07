/* Rotary position embedding: the table of angles. Su et al., "RoFormer", 2021. */
#ifndef ATTAR_AUTOGRAD_OPS_ROPE_H
#define ATTAR_AUTOGRAD_OPS_ROPE_H

#include <stdint.h>

enum rope_style {
    ROPE_ADJACENT, /* pairs (2i, 2i+1): GGUF's llama */
    ROPE_HALF,     /* pairs (i, i + D/2): qwen2, qwen3 */
};

enum rope_scaling {
    ROPE_SCALING_NONE,
    ROPE_SCALING_LINEAR, /* positions divided by factor; Chen et al. 2023 */
    ROPE_SCALING_LLAMA3, /* low frequencies divided by factor, high ones kept, a ramp between */
    ROPE_SCALING_TABLE,  /* each frequency by a divisor of its own: GGUF's rope_freqs.weight */
};

enum { ROPE_TABLE = 256 };

struct rope_args {
    enum rope_style style;
    enum rope_scaling scaling;
    int head_dim;  /* D, even */
    int64_t n_pos; /* positions 0 .. n_pos - 1 */
    double base;   /* angle of pair i at position p: p * base^(-2i/D) */
    double factor; /* linear, llama3 */
    double low_freq, high_freq, original_context; /* llama3 */
    float divisor[ROPE_TABLE];                    /* table: [D/2] */
};

struct rope {
    enum rope_style style;
    int head_dim;
    int64_t n_pos;
    int64_t covered;  /* positions that the table has: a context may be long and never be filled */
    float *cos, *sin; /* [covered, D/2], owned */
    struct rope_args args;
};

/* Covers the first positions: all that fit into some hundred kB. 0, or -1 with err() set. */
int rope_init(struct rope *r, const struct rope_args *args);

/* Rows that the table will have once it covers position n - 1, n <= n_pos. */
int64_t rope_rows(const struct rope *r, int64_t n);

/* Makes the table cover positions 0 .. n - 1, n <= n_pos; between steps, for it may move. 0, or -1
   with err() set. */
int rope_cover(struct rope *r, int64_t n);
void rope_free(struct rope *r);

/* Frequency of pair i after scaling. */
double rope_frequency(const struct rope_args *args, int i);

#endif
