/*
 * Prompts from a .jsonl file (-: standard input), one object a line:
 *
 *     {"prompt": "In the", "id": "a7", "n_predict": 20, "temp": 0, "stop": ["\n", "."]}
 *
 * `prompt` is required; id (a text or a number) is given back with the result; n_predict, seed,
 * samples, temp, top_k, top_p, min_p, repeat_penalty and repeat_last_n replace the command's flags
 * of that name, `stop` its texts to stop at. Empty lines are left out.
 */
#ifndef ATTAR_EXPERIMENTS_PROMPTS_H
#define ATTAR_EXPERIMENTS_PROMPTS_H

#include "autograd/base/field.h"
#include "datasets/tokenizer.h"
#include "layers/sampler.h"

/* What a line may say, beside the prompt. */
struct prompt_options {
    int64_t n_predict, seed, samples;
    struct sampler_args sampler; /* its seed: not used */
    struct texts stop;
};

struct prompt {
    const char *id; /* as JSON; NULL: none */
    struct tokens tokens;
    struct prompt_options o;
    bool seeded; /* the line has a seed of its own */
};

struct prompts {
    struct prompt *p; /* n of them */
    size_t n, cap;
    struct pool pool;
};

/* All lines of a file, `defaults` where they say nothing; a prompt has at most `context` tokens.
   0, or -1 with err() set: file, line and reason. */
int prompts_load(struct prompts *out, const char *path, const struct prompt_options *defaults,
                 const struct tokenizer *t, int64_t context);
void prompts_free(struct prompts *p);

#endif
