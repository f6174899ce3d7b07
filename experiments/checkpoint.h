/*
 * A checkpoint: all that is needed to go on with training to the bit, or to use the model. HDF5
 * inside the verified container of datasets/h5file.h:
 *
 *     /             attributes: format, attar (version), stage, config_hash, corpus_hash and the
 *                   members of struct checkpoint_state
 *     /config       the run's resolved config (YAML)      /tokenizer   tokenizer.json
 *     /about        u8: general.* of the GGUF file that it comes from, as metadata (about.h); or
 * not there /model        attributes and per-layer lists: struct transformer_dims /weights/NAME
 * f32, GGUF's names and shapes          /optim/STATE/NAME   likewise /optim/ema    the average of
 * the weights, if the stage keeps one: it is the model then, and /weights is what training goes on
 * with /blocks/NAME  of a stage `qat`: they are the model then, see checkpoint_blocks.c /lora
 * factors over a base that stays as it is; of that /weights has what is not in blocks, see
 * checkpoint_lora.c
 *
 * RNG state and data position are the step itself: every draw is a function of (seed, step).
 */
#ifndef ATTAR_EXPERIMENTS_CHECKPOINT_H
#define ATTAR_EXPERIMENTS_CHECKPOINT_H

#include "compress/qat.h"
#include "datasets/tokenizer.h"
#include "layers/transformer.h"

enum checkpoint_left { LEFT_NOTHING, LEFT_SAMPLE, LEFT_EVALUATION };

struct checkpoint_state {
    int64_t step;      /* optimizer steps done */
    int64_t sample;    /* first sample index of the next step */
    int64_t tokens;    /* trained on, since the stage's start */
    double seconds;    /* of work */
    double smooth;     /* smoothed loss, nats; NAN before the first step */
    double smooth_min; /* its minimum so far */
    double best_valid; /* NAN: not evaluated yet */
    int64_t best_step;
    double last_valid, last_bpb; /* NAN: none */
    double last_unaveraged;      /* where last_valid is the average's: of the weights; or NAN */
    int left; /* enum checkpoint_left: what an interrupted step has yet to do before the next one */
};

struct checkpoint_source {
    const char *stage, *config, *config_hash, *corpus_hash, *tokenizer; /* texts to keep */
    const struct qat *qat; /* blocks to keep, once they are attached or under factors; or NULL */
    const char *mix;       /* of the blocks */
    const struct buf
        *about; /* what the model says about itself (about.h); NULL or empty: nothing */
};

/* Writes model, optimizer states and the rest; atomic, synced, read back and verified before the
   name changes. 0, or -1 with err() set and `path` as it was. */
int checkpoint_save(const char *path, const struct transformer *m,
                    const struct checkpoint_state *state, const struct checkpoint_source *source);

/* What a checkpoint holds, without its weights. */
struct checkpoint {
    struct h5file *file;
    struct transformer_dims dims;
    struct checkpoint_state state;
    bool averaged; /* it has an average of the weights */
    bool lora;     /* it has factors over a base */
    struct buf stage, config, config_hash, corpus_hash, tokenizer;
    struct buf mix;   /* of its blocks: "Q3_K_M"; empty: it has none */
    struct buf about; /* see checkpoint_source */
};

/* Verifies and opens. 0, or -1 with err() set; of loading, too: err_is_damage() tells a broken seal
   and missing or wrong content from a file that could not be read. checkpoint_close() after 0. */
int checkpoint_open(struct checkpoint *c, const char *path);
void checkpoint_close(struct checkpoint *c);

/* What to load: the model that the stage made, which is the average of the weights or what the
   blocks decode to, where there are such, with factors added; the same, but the weights that the
   blocks were rounded from; to go on, the weights that were trained and the optimizer's states; or
   the model without its factors. */
enum checkpoint_what { CHECKPOINT_MODEL, CHECKPOINT_TRAINING, CHECKPOINT_LATENT, CHECKPOINT_BASE };

/* The optimizer states that the file has, the average of the weights among them, as literal names.
   Their number, or -1 with err() set, also if there is one that this program does not know. */
int checkpoint_states(struct checkpoint *c, const char *names[STORE_STATES]);

/* Into a model that transformer_init() made from c->dims. 0, or -1 with err() set. */
int checkpoint_load(struct checkpoint *c, struct transformer *m, enum checkpoint_what what);

/* A model of shapes, each of the type of its blocks: enough for plans. 0, or -1 with err() set. */
int checkpoint_shapes(struct checkpoint *c, struct transformer *m);

/* The blocks themselves take the place of `used` in a frozen model that was loaded: for export. */
int checkpoint_use_blocks(struct checkpoint *c, struct transformer *m);

/* To start: blocks of the same types into q, where they are `given`; others stay empty. 0, or -1
   with err() set. */
int checkpoint_give_blocks(struct checkpoint *c, struct qat *q);

/* Factors over a model of the file's: declares, attaches and reads those that it has. 0 or -1. */
int checkpoint_use_factors(struct checkpoint *c, struct transformer *m);

/* To go on: values and the optimizer's states of the factors that m has. 0, or -1 with err(). */
int checkpoint_load_factors(struct checkpoint *c, struct transformer *m);

/* To go on: the blocks into q, which has the same types, and attaches it. 0, or -1 with err(). */
int checkpoint_load_blocks(struct checkpoint *c, struct transformer *m, struct qat *q);

/* Opens, makes the model, loads, parses the tokenizer, closes: for use without training. 0 or -1;
   after 0 the caller frees both. dims->context may be read from m. */
int checkpoint_use(const char *path, struct transformer *m, struct tokenizer **tok);

/* The same, of a model under factors, which are left out. */
int checkpoint_use_base(const char *path, struct transformer *m, struct tokenizer **tok);

/* ---- the files of a stage: checkpoint-STEP.h5, and links to the newest and the best ---- */

/* "folder/checkpoint-00000120.h5"; "folder/checkpoint.h5" for step -1. */
void checkpoint_name(char path[4096], const char *folder, int64_t step);

/* Steps of the checkpoints in the folder, newest first, at most `most`. Their number, or -1. */
int checkpoint_list(const char *folder, int64_t steps[], int most);

/* Makes `folder/link` another name of the step's checkpoint, atomically. 0 or -1. */
int checkpoint_link(const char *folder, int64_t step, const char *link);

/* Removes all but the newest `keep` (at least 1), `last` and `best` (-1: none). */
void checkpoint_prune(const char *folder, int64_t keep, int64_t last, int64_t best);

/* Renames a checkpoint that cannot be used, so that it is neither tried nor counted again. Warns.
 */
void checkpoint_set_aside(const char *folder, int64_t step);

#endif
