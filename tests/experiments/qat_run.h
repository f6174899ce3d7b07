/* What the tests of the stage `qat` share: a run of a small model whose second stage it is. */
#ifndef ATTAR_TESTS_EXPERIMENTS_QAT_RUN_H
#define ATTAR_TESTS_EXPERIMENTS_QAT_RUN_H

#include <stddef.h>
#include <stdint.h>

/* t.yaml: `pretrain`, `qat` of 9 steps in Q2_K with checkpoints, `evaluate`. */
extern const char qat_run_config[];

/* A scratch folder with t.yaml and its text; *folder its path. For setup functions: 0 or -1. */
int qat_run_setup(void **state, const char **folder);

/* A path in the scratch folder, static until the fourth call from now. */
const char *qat_run_at(const char *name);

/* Writes a config of that name with other stages. */
void qat_run_stages(void *scratch, const char *name, const char *stages);

/* Writes a config NAME.yaml of stages that start from files, with the same text and this
   tokenizer's file. */
void qat_run_next(void *scratch, const char *name, const char *tokenizer, const char *stages);

/* Steps behind `step` of a stage's folder never were. */
void qat_run_turn_back(const char *stage, int step);

/* Bytes of a dataset in a stage's last checkpoint, to be freed; NULL: there is none. */
void *qat_run_dataset(const char *stage, const char *name, size_t *bytes);

/* Blocks of the matrix ffn_up there. */
uint8_t *qat_run_blocks(const char *stage, size_t *bytes);

/* `check t.yaml ARGS` is refused, and says this. */
void qat_run_refused(const char *args, const char *says);

/* Divergence from the teacher in a stage ("t/02-qat"): of the first step, and the sum from step
   `from` on; NAN: there is none. */
struct qat_course {
    int64_t from;
    double first, last;
};
struct qat_course qat_run_course(const char *stage, int64_t from);

#endif
