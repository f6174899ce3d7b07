/* Architectures: what tells them apart, in one table (arch.def). Names are those of GGUF's
   general.architecture, and tensors have GGUF's names, layouts and order of rotary pairs. */
#ifndef ATTAR_LAYERS_ARCH_H
#define ATTAR_LAYERS_ARCH_H

#include <stddef.h>

#define ARCH(tag, name, varied, traits) ARCH_##tag,
enum arch {
#include "layers/arch.def"
    ARCH_N
};
#undef ARCH

enum arch_traits {
    ARCH_GATED = 1,        /* feed-forward silu(gate) * up; otherwise gelu(up) */
    ARCH_ROPE_HALF = 2,    /* rotary pairs (i, i + D/2); otherwise (2i, 2i + 1) */
    ARCH_LEARNED = 4,      /* learned positions, added to the embedding; otherwise rotary ones */
    ARCH_LAYERNORM = 8,    /* layer norms, with biases; otherwise RMS norms */
    ARCH_FUSED = 16,       /* q, k and v are rows of one matrix, with one bias */
    ARCH_QKV_BIASES = 32,  /* q, k and v have biases */
    ARCH_BIASES = 64,      /* the other matrices of a block have biases */
    ARCH_HEAD_NORMS = 128, /* each head of q and k is RMS-normed, before it is rotated */
    ARCH_TIED = 256,       /* the head is the embedding, unless a config says otherwise */
};

struct arch_row {
    const char *name;
    const char *varied; /* GGUF's name where heads or feed-forward widths differ by layer; NULL:
                           llama.cpp reads one width for all layers (of the first) */
    unsigned traits;    /* of enum arch_traits */
};

extern const struct arch_row arch_rows[ARCH_N];
extern const char *const arch_names[]; /* of the same, NULL at the end */

/* By name; -1 if there is none. */
int arch_find(const char *name);

/* By one of the names that GGUF files have, [n] bytes; *name (NULL: not wanted) becomes that one.
   -1 if there is none. */
int arch_find_gguf(const char *text, size_t n, const char **name);

#endif
