/*
 * What would end a run after it has begun, found before it does: files that are not there or cannot
 * be read, texts that are too short, tokenizers and shapes that do not fit one another, types that
 * do not fit a model, an output that cannot be written, too little memory or room on the disk.
 * `attar check` and `attar run` refuse by the same list.
 */
#ifndef ATTAR_EXPERIMENTS_PREFLIGHT_H
#define ATTAR_EXPERIMENTS_PREFLIGHT_H

#include "datasets/corpus_count.h"
#include "experiments/config.h"

/* Text of which it is known what it has. */
struct preflight_text {
    bool known;
    struct corpus_count count;
};

struct preflight {
    int vocab;
    struct preflight_text text;                   /* of data.corpus */
    struct preflight_text own[CONFIG_STAGES_MAX]; /* of stages with a text of their own */
    size_t memory[CONFIG_STAGES_MAX];             /* bytes that a stage trains in */
    double disk[CONFIG_STAGES_MAX];               /* bytes of a stage's files, at most */
    double ram, room;                             /* bytes: of the machine; free at `out` */
};

/* Stages that are done, by their summaries in the run's folder, are passed over, unless it starts
   afresh. 0, or -1 with err() set to all mistakes, each with its line. */
int preflight(const struct config *c, bool fresh, struct preflight *found);

#endif
