/* What the tests of the stage `qat` share: a run of a small model whose second stage it is. */
#ifndef ATTAR_TESTS_EXPERIMENTS_QAT_RUN_H
#define ATTAR_TESTS_EXPERIMENTS_QAT_RUN_H

#include <stddef.h>
#include <stdint.h>

#define QAT_RUN_PRETRAIN "  - pretrain: {steps: 30, batch_tokens: 512, lr: 1e-2}\n"
#define QAT_RUN_STAGES                                                                             \
    QAT_RUN_PRETRAIN                                                                               \
    "  - qat: {type: q2_k, steps: 9, batch_tokens: 128, lr: 5e-4, save_every: 4, keep_last: 9}\n"

/* Setup and teardown of the group: trains QAT_RUN_PRETRAIN, once for all of its tests. */
int qat_run_pretrain(void **state);
int qat_run_clean(void **state);

/* A scratch folder with the text and t.yaml, of QAT_RUN_STAGES; *folder its path. For setup
   functions: 0 or -1. */
int qat_run_setup(void **state, const char **folder);

/* `attar run t.yaml name=NAME OPTIONS`, whose first stage is QAT_RUN_PRETRAIN: it counts as done.
 */
void qat_run(const char *name, const char *options);

/* A path in the scratch folder, static until the fourth call from now. */
const char *qat_run_at(const char *name);

/* Writes a config of that name with other stages. */
void qat_run_stages(void *scratch, const char *name, const char *stages);

/* Writes a config NAME.yaml of stages that start from files, with the same text and this
   tokenizer's file. */
void qat_run_next(void *scratch, const char *name, const char *tokenizer, const char *stages);

/* Steps behind `step` of a stage's folder never were. What same_run() compares is in the folder
   QAT_RUN_UNBROKEN, as it was. */
#define QAT_RUN_UNBROKEN "unbroken"
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
