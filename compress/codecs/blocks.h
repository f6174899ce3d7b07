/*
 * The blocks of GGUF's formats, byte for byte (ggml-common.h of the ggml project). Halves are the
 * bits of an f16. "Low nibbles first": element i < n / 2 of a group of n is the low nibble of byte
 * i, element i + n / 2 its high one.
 */
#ifndef ATTAR_COMPRESS_CODECS_BLOCKS_H
#define ATTAR_COMPRESS_CODECS_BLOCKS_H

#include <assert.h>
#include <stdint.h>

struct q4_0 {
    uint16_t d;
    uint8_t qs[16]; /* low nibbles first; value d (q - 8) */
};
static_assert(sizeof(struct q4_0) == 18, "q4_0");

struct q4_1 {
    uint16_t d, m;
    uint8_t qs[16]; /* low nibbles first; value d q + m */
};
static_assert(sizeof(struct q4_1) == 20, "q4_1");

struct q5_0 {
    uint16_t d;
    uint8_t qh[4];  /* bit i: the fifth bit of element i */
    uint8_t qs[16]; /* low nibbles first; value d (q - 16) */
};
static_assert(sizeof(struct q5_0) == 22, "q5_0");

struct q5_1 {
    uint16_t d, m;
    uint8_t qh[4];
    uint8_t qs[16]; /* as q5_0; value d q + m */
};
static_assert(sizeof(struct q5_1) == 24, "q5_1");

struct q8_0 {
    uint16_t d;
    int8_t qs[32]; /* value d q */
};
static_assert(sizeof(struct q8_0) == 34, "q8_0");

struct q2_k {
    uint8_t scales[16]; /* of 16 elements each: low nibble the scale, high nibble the min */
    uint8_t qs[64];     /* halves of 128 elements: bits 2k, 2k + 1 of byte l: element 32k + l */
    uint16_t d, dmin;   /* value d scale q - dmin min */
};
static_assert(sizeof(struct q2_k) == 84, "q2_k");

struct q3_k {
    uint8_t hmask[32];  /* bit b of byte l: element 32b + l has no 4 subtracted */
    uint8_t qs[64];     /* as q2_k */
    uint8_t scales[12]; /* of 16 elements each, 6 bits, less 32: nibbles of 8 bytes, then pairs */
    uint16_t d;         /* value d scale q */
};
static_assert(sizeof(struct q3_k) == 110, "q3_k");

struct q4_k {
    uint16_t d, dmin;   /* value d scale q - dmin min */
    uint8_t scales[12]; /* of 32 elements each: 6 bits of scale, 6 of min (bits_scales6()) */
    uint8_t qs[128];    /* groups of 64 elements, low nibbles first */
};
static_assert(sizeof(struct q4_k) == 144, "q4_k");

struct q5_k {
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t qh[32];  /* bit b of byte l: the fifth bit of element 32b + l */
    uint8_t qs[128]; /* as q4_k */
};
static_assert(sizeof(struct q5_k) == 176, "q5_k");

struct q6_k {
    uint8_t ql[128];   /* groups of 128 elements, low nibbles first */
    uint8_t qh[64];    /* bits 4 and 5, as q2_k's qs */
    int8_t scales[16]; /* of 16 elements each */
    uint16_t d;        /* value d scale (q - 32) */
};
static_assert(sizeof(struct q6_k) == 210, "q6_k");

struct q8_k {
    float d;
    int8_t qs[256];
    int16_t bsums[16]; /* sums of 16 qs each; value d q */
};
static_assert(sizeof(struct q8_k) == 292, "q8_k");

struct iq4_nl {
    uint16_t d;
    uint8_t qs[16]; /* low nibbles first; value d iq4_nl_levels[q] */
};
static_assert(sizeof(struct iq4_nl) == 18, "iq4_nl");

struct iq4_xs {
    uint16_t d;
    uint16_t scales_h; /* of 32 elements each, 6 bits, less 32: bits 2j, 2j + 1 are the high ones */
    uint8_t scales_l[4]; /* nibbles, the low one first */
    uint8_t qs[128];     /* groups of 32 elements, low nibbles first */
};
static_assert(sizeof(struct iq4_xs) == 136, "iq4_xs");

struct tq1_0 {
    uint8_t
        qs[48]; /* 5 ternary digits a byte: of 32 bytes, then of 16; the first digit is highest */
    uint8_t qh[4]; /* 4 digits a byte */
    uint16_t d;    /* value d (digit - 1) */
};
static_assert(sizeof(struct tq1_0) == 54, "tq1_0");

struct tq2_0 {
    uint8_t qs[64]; /* as q2_k; value d (q - 1) */
    uint16_t d;
};
static_assert(sizeof(struct tq2_0) == 66, "tq2_0");

#endif
