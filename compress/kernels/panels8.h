/*
 * Products of many activations with weights in blocks: blocks of several rows are opened, packed
 * into a panel of bytes and multiplied with all activations. The results are dots.h's.
 */
#ifndef ATTAR_COMPRESS_KERNELS_PANELS8_H
#define ATTAR_COMPRESS_KERNELS_PANELS8_H

#include "compress/kernels/dots.h"

/* Activations from which on the panels are faster than dots. */
enum { PANELS8_MIN = 8 };

#if defined __x86_64__
dots_fn panels8_q2_k, panels8_q3_k, panels8_q4_k, panels8_q5_k, panels8_q6_k, panels8_iq4_xs,
    panels8_tq1_0, panels8_tq2_0, panels8_q4_0, panels8_q4_1, panels8_q5_0, panels8_q5_1,
    panels8_q8_0, panels8_iq4_nl;
#endif

#endif
