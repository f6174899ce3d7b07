/*
 * A run: the stages of a config in order, in a folder of its own.
 *
 *     OUT/NAME/config.yaml                resolved config; a resumed run must agree with it
 *     OUT/NAME/lock                       held by the process that runs it
 *     OUT/NAME/01-pretrain/               a folder a stage
 *         metrics.jsonl  summary.json     what it measured; written at its end
 *         checkpoint-STEP.h5              the newest few and the best
 *         checkpoint.h5  best.h5          links to the newest and the best
 *         tensorboard/                    a copy of the metrics, if the config asks for it
 */
#ifndef ATTAR_EXPERIMENTS_RUN_H
#define ATTAR_EXPERIMENTS_RUN_H

#include "datasets/corpus.h"
#include "datasets/corpus_build.h"
#include "datasets/loader.h"
#include "datasets/tokenizer.h"
#include "experiments/config.h"
#include "experiments/summary.h"

enum { RUN_PATH = 4096 };

struct run {
    const struct config *config;
    char folder[RUN_PATH]; /* OUT/NAME */
    int lock;              /* held while the run goes on */
    struct buf yaml;       /* the resolved config */
    struct corpus corpus;  /* of config->data */
    struct tokenizer *tok;
    struct buf tokenizer_json;
};

enum run_end { RUN_DONE, RUN_STOPPED };

/* Runs what is left of the config's stages. fresh: a run that is there moves aside. RUN_DONE;
   RUN_STOPPED after a signal, with err() set to where it goes on; -1 with err() set. */
int run_all(const struct config *config, bool fresh);

/* ---- for the stages, stage_*.c ---- */

/* "OUT/NAME/01-pretrain", or a file in it. */
void run_stage_path(const struct run *r, int stage, const char *file, char path[RUN_PATH]);

/* The file that an export stage writes: OUT/NAME/02-export/NAME-Q4_K_M.gguf. */
void stage_export_path(const struct run *r, int stage, char path[RUN_PATH]);

/* The checkpoint that a stage's model is in at its end: OUT/NAME/01-pretrain/checkpoint.h5. */
void run_stage_model(const struct run *r, int stage, char path[RUN_PATH]);

/* summary.json with what all stages share filled in. 0 or -1. */
int run_summary(const struct run *r, int stage, struct summary *s);

/* Tokens of a batch of an evaluation, at most, unless a window has more. */
enum { STAGE_EVALUATE_TOKENS = 8192 };

/* Each runs stage i. RUN_DONE, RUN_STOPPED or -1. */
int stage_train(struct run *r, int stage);
int stage_evaluate(struct run *r, int stage);
int stage_export(struct run *r, int stage);

/* What the config's corpus is made from. */
void run_corpus_spec(const struct config *c, struct corpus_spec *spec);

/* What a stage trains on: the same, or finetune's own text, whose tokenizer is still the config's.
 */
void run_stage_spec(const struct config *c, int stage, struct corpus_spec *spec);

/* How the documents of such a text lie in windows, by the config's mask_documents. */
enum loader_documents run_documents(const struct config *c, bool has_pairs);

/* Builds it if need be, with progress, and opens it. 0, or -1 with err() set. */
int run_open_corpus(const struct corpus_spec *spec, struct corpus *c);

#endif
