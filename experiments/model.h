/* From a config to a model's dims. */
#ifndef ATTAR_EXPERIMENTS_MODEL_H
#define ATTAR_EXPERIMENTS_MODEL_H

#include "datasets/tokenizer.h"
#include "experiments/config.h"
#include "layers/transformer.h"

/* 0, or -1 with err() set. */
int model_dims(const struct config_model *c, int vocab, struct transformer_dims *dims);

/* Tokens of the vocabulary, without building the corpus. -1 with err() set. */
int model_vocabulary(const struct config *c);

/* The tokenizer that is known before there is a corpus: of bytes, or a file's. NULL with err()
   set, also for one that is yet to be trained. */
struct tokenizer *model_known_tokenizer(const struct config *c);

/* The dims a stage trains: its checkpoint's, or, through its parents, the config's. 0, or -1 with
   err() set. */
int model_stage_dims(const struct config *c, int stage, int vocab, struct transformer_dims *dims);

/* The dims of a stage `qat`'s teacher. 1; 0: it has none; -1 with err() set. */
int model_teacher_dims(const struct config *c, int stage, int vocab, struct transformer_dims *dims);

#endif
