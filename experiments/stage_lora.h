/* What a stage `qat` with `params: lora` starts from: blocks that stay, and factors over them. */
#ifndef ATTAR_EXPERIMENTS_STAGE_LORA_H
#define ATTAR_EXPERIMENTS_STAGE_LORA_H

#include "experiments/blocks.h"
#include "experiments/checkpoint.h"

struct lora_args stage_lora_args(const struct config_stage *s);

/* Freezes m, which was loaded from c without gradients, in the blocks of b, which are open: c's own
   where it has those of the mix, else fitted. Then gives it factors: fresh ones by the seed, or, to
   go on, c's. In bf16 the blocks themselves are the weights, in f32 what they decode to. 0, or -1
   with err() set. */
int stage_lora_begin(struct transformer *m, struct blocks *b, struct checkpoint *c,
                     const struct config_stage *s, uint64_t seed, bool resumed);

/* "41.0K of 5.83M parameters are trained, in factors of rank 8 over blocks of Q4_K_M". */
void stage_lora_describe(const struct transformer *m, const struct blocks *b,
                         const struct config_stage *s, struct buf *out);

#endif
