/* Speed of a model in use: what `attar bench -m` prints, as llama-bench does. */
#ifndef ATTAR_EXPERIMENTS_SPEED_MODEL_H
#define ATTAR_EXPERIMENTS_SPEED_MODEL_H

#include "autograd/base/buf.h"
#include "autograd/base/field.h"

enum speed_model_form { SPEED_MD, SPEED_CSV, SPEED_JSON, SPEED_JSONL };

struct speed_model_args {
    const char *model; /* as for -m of the other commands */
    const struct ints *prompt, *gen, *threads;
    int64_t repetitions;
    bool repack; /* store_copy() first */
    enum speed_model_form form;
};

/* For each number of threads: each length of a prompt, read in one piece, with the logits behind
   its end; and each number of single tokens, from an empty cache on. Once to warm up, then
   `repetitions` times. 0, or -1 with err() set. */
int speed_model(const struct speed_model_args *a, struct buf *out);

#endif
