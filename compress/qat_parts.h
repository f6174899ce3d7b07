/* What the files of qat share. */
#ifndef ATTAR_COMPRESS_QAT_PARTS_H
#define ATTAR_COMPRESS_QAT_PARTS_H

#include "compress/qat.h"

/* The first fault by weight and row is kept, whichever thread comes first. */
void qat_note(struct qat *q, const struct qat_weight *w, int64_t row, enum qat_fault fault);

/* Learned scales of a weight (qat_scales.c). Declares what the optimizer moves. 0 or -1. */
int qat_scales_add(struct qat *q, struct qat_weight *w);

/* Memory for all of them. 0 or -1. */
int qat_scales_ready(struct qat *q);

/* Takes them from the blocks of a row. room: d and dmin, and so the codes of scales, change so that
   these can grow. */
void qat_scales_take(struct qat_weight *w, int64_t row, bool room);

/* Moves a row's by what the optimizer left, which is 0 then, and writes them into the blocks. */
void qat_scales_move(struct qat_weight *w, int64_t row);

/* Their gradients from g [cols], of used, and the latents x [cols]. */
void qat_scales_pull(const struct qat_weight *w, int64_t row, const float *x, const float *g);

#endif
