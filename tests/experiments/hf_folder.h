/* Models that transformers saved (tests/golden/import), in folders of a test's own. */
#ifndef ATTAR_TESTS_EXPERIMENTS_HF_FOLDER_H
#define ATTAR_TESTS_EXPERIMENTS_HF_FOLDER_H

#include "layers/transformer.h"

/* The path of a file of one of them; of a file in a folder. Both until the next call. */
const char *hf_golden(const char *model, const char *file);
const char *hf_in(const char *folder, const char *file);

void hf_copy(const char *from, const char *to);

/* The model's files in the scratch folder of `state`, with a tokenizer of bytes. */
const char *hf_copied(void *state, const char *model);

/* Relative distance of the logits of m from those that transformers computes of the model. */
double hf_distance(struct transformer *m, const char *model);

/* Writes the file with its first `what` replaced. */
void hf_replace(const char *path, const char *what, const char *by);

#endif
