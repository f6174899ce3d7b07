/* What the parts of `attar generate` share. */
#ifndef ATTAR_EXPERIMENTS_CMD_GENERATE_H
#define ATTAR_EXPERIMENTS_CMD_GENERATE_H

#include "autograd/base/field.h"
#include "experiments/adapter.h"
#include "layers/sampler.h"
#include "layers/transformer.h"

struct tokenizer;

struct generate_args {
    const char *model, *prompt, *file, *prompts;
    int64_t n_predict, ctx_size, seed, threads;
    int cache_type;
    struct adapter_args adapter;
    bool repack;
    struct sampler_args sampler;
    struct texts reverse_prompt;
    /* with --prompts */
    int64_t parallel, samples, batch_size, cache_blocks, cache_memory;
};

/* All prompts of a file, the results as JSON lines to stdout. 0, -1 or CMD_USAGE, with err(). */
int cmd_generate_many(const struct generate_args *a, struct transformer *m,
                      const struct tokenizer *t);

#endif
