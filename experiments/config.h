/*
 * The config of a run: YAML plus overrides, bound to structs through field tables. The tables
 * (config_schema.c) say what each key means, its range and its default; here stands what a reader
 * of the structs needs. After config_read() everything is resolved: defaults are filled in, one
 * count for all layers stays one count (ints_at()), references between stages are indices.
 * `--` in a comment: what the value is when the key has no effect.
 */
#ifndef ATTAR_EXPERIMENTS_CONFIG_H
#define ATTAR_EXPERIMENTS_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "autograd/base/buf.h"
#include "autograd/base/field.h"
#include "autograd/base/pool.h"
#include "autograd/ops/rope.h"
#include "experiments/mistake.h"
#include "experiments/mix_args.h"
#include "optim/optimizer.h"
#include "optim/schedule.h"

enum { CONFIG_STAGES_MAX = 64 };

enum config_tokenizer_type { TOKENIZER_BYTE, TOKENIZER_BPE, TOKENIZER_FILE };
enum config_pairs { PAIRS_FALSE, PAIRS_TRUE, PAIRS_ALONE }; /* never, always, for pairs */
enum config_valid { VALID_HASH, VALID_TAIL };
enum config_recompute { RECOMPUTE_NONE, RECOMPUTE_BLOCKS };
enum config_precision { PRECISION_AUTO, PRECISION_BF16, PRECISION_F32 };
enum config_params { PARAMS_ALL, PARAMS_SCALES, PARAMS_LORA };
enum config_scales { SCALES_FROZEN, SCALES_LEARNED, SCALES_SUPER };
enum config_ste { STE_PLAIN, STE_CLIPPED };
enum config_stage_kind { STAGE_PRETRAIN, STAGE_FINETUNE, STAGE_QAT, STAGE_EVALUATE, STAGE_EXPORT };

struct config_tokenizer {
    int type;           /* enum config_tokenizer_type                      */
    int64_t vocab_size; /* bpe; 0 --                                       */
    int pre;            /* bpe: index into config_pre_names                */
    const char *path;   /* file, relative to the config's folder; NULL --  */
};

struct config_data {
    struct texts corpus; /* as written: paths are relative to the config's folder     */
    const char *sha256;  /* 64 lower-case hex digits, or NULL                         */
    struct config_tokenizer tokenizer;
    const char *split_on;  /* "blank", "none" or a PCRE2 pattern; NULL -- (no .txt)     */
    const char *text_key;  /* NULL -- (no .jsonl)                                       */
    int valid;             /* enum config_valid                                         */
    double valid_fraction; /* 0: no validation part                                    */
    int mask_documents;    /* enum config_pairs */
    int parse_special;     /* enum config_pairs */
};

struct config_rope_scaling {
    int type; /* enum rope_scaling            */
    double factor, low_freq_factor, high_freq_factor;
    int64_t original_context;
};

/* Given if and only if a stage starts from scratch; else n_layers is 0, and the shape is the
   checkpoint's. */
struct config_model {
    int arch; /* enum arch */
    int64_t n_layers, d_model, context;
    struct ints n_heads, n_kv_heads, d_ff; /* 1 or n_layers elements, see ints_at() */
    int64_t head_dim;
    double rope_base;
    struct config_rope_scaling rope_scaling;
    double norm_eps;
    bool tie_embeddings;
    double dropout, init_std;
};

struct config_train {
    int64_t tokens, steps; /* one of tokens, steps, epochs is not 0: see config_steps() */
    double epochs;
    bool continues;                           /* with the optimizer and the text of `from` */
    int64_t batch_tokens, micro_batch_tokens; /* micro 0: see config_micro_batch()      */
    int optimizer;                            /* enum optimizer_kind                   */
    double lr, min_lr_ratio, decay_power;
    int schedule;               /* enum schedule_kind */
    struct share warmup, decay; /* of the steps: share_of() */
    double adam_lr;             /* muon: of what AdamW takes */
    int muon_scale;             /* muon: enum muon_scale     */
    double beta1, beta2;        /* adamw, muon, lion */
    double eps;                 /* adamw, muon       */
    double momentum;            /* sgd, muon         */
    bool nesterov;              /* sgd, muon         */
    double ema;                 /* decay of the weights' average; 0: none */
    bool ema_warmup;
    double weight_decay, grad_clip, label_smoothing, z_loss;
    int recompute;                       /* enum config_recompute                      */
    int precision;                       /* enum config_precision, see config_bf16()   */
    int64_t eval_every, eval_tokens;     /* steps (0: at the end), tokens (0: all)     */
    int64_t sample_every, sample_tokens; /* steps (0: never), tokens                   */
    const char *sample_prompt;
    double sample_temp;
    int64_t save_every;  /* steps, 0: not by steps   */
    double save_minutes; /* 0: not by time          */
    int64_t keep_last;
    double loss_limit; /* nats; 0: no limit */
    bool tensorboard;  /* also write event files */
};

struct config_finetune {
    const char *data;                        /* .txt or .jsonl, relative to the config's folder */
    const char *prompt_key, *completion_key; /* NULL -- (.txt) */
};

struct config_lora {
    int64_t rank;
    double alpha;
    struct texts targets; /* "all", or names of matrices */
};

struct config_qat {
    const char *type; /* a mix: "q3_k_m" */
    struct mix_args mix;
    int params;              /* enum config_params */
    struct config_lora lora; /* params lora: see stage_lora_args() */
    int ste;                 /* enum config_ste */
    int scales;              /* enum config_scales */
    double scale_lr;         /* of learned scales, times lr */
    int64_t refit;           /* frozen scales: steps between refits; 0: none */
    bool activations;        /* inputs of linears are rounded as in inference */
    double start;            /* part of the stage's steps before weights are in blocks */
    const char *teacher;     /* "true": the model of `from`; "none"; or a checkpoint's path */
    double kl_weight;  /* part of the loss that is the divergence from the teacher; 0 -- (none) */
    int teacher_stage; /* whose model is the teacher; -1: teacher_path's, NULL: no teacher */
    const char *teacher_path;
};

struct config_evaluate {
    struct texts compare;  /* stages and .h5, x@TYPE: quantized first; stages that export, .gguf */
    const char *reference; /* a stage or a path: all are held against its predictions; NULL -- */
    int64_t tokens;        /* 0: the whole validation part */
};

struct config_export {
    const char *type;    /* of the file: a mix' name */
    struct mix_args mix; /* imatrix: relative to the config's folder */
    bool merge;          /* factors into the weights */
};

struct config_stage {
    int kind; /* enum config_stage_kind: index into config_kinds */
    const char *name;
    const char *from; /* "scratch", a stage's name, or a path ending in .h5; NULL -- (evaluate) */
    int parent;       /* the stage of `from`; -1: none                          */
    const char *checkpoint;    /* the path of `from`, relative to the current folder, or NULL */
    struct config_train train; /* pretrain, finetune, qat */
    struct config_finetune finetune; /* finetune */
    struct config_qat qat;           /* qat */
    struct config_evaluate evaluate; /* evaluate */
    struct config_export export;     /* export */
};

struct config {
    const char *name;
    int64_t seed, threads; /* threads 0: all that are available */
    const char *out;
    struct config_data data;
    struct config_model model;
    struct config_stage *stages; /* [n_stages], in the order they run */
    int n_stages;
    const char *folder; /* of the config file, "." for the current one; what its paths start from */
    const char *file;   /* its path; NULL: it was a text */
    /* where its keys were written: the map, and the maps of the stages [n_stages]; see preflight */
    const struct yaml *root;
    struct yaml **nodes;
    struct pool pool; /* owns the texts and stages */
};

/* A table and the struct inside config_stage that it describes. */
struct config_part {
    const struct field *table; /* NULL at the end */
    size_t offset;
};

struct config_kind {
    const char *name, *doc;
    bool makes_model;
    struct config_part parts[5];
};

extern const struct config_kind config_kinds[]; /* a NULL name at the end */
extern const struct field config_fields[];      /* of struct config, `stages` apart */
extern const char *const config_pre_names[];    /* pretokenizers, by llama.cpp's names */

/* Reads the file and applies overrides ("pretrain.lr=1e-3", "stages.0.steps=5", "seed=" for the
   default). 0, or -1 with all mistakes in err(), a line each. config_free(c) either way. */
int config_read(struct config *c, const char *path, int n_overrides, const char *const *overrides);

/* The same for a text [n]; mistakes (whose `file` names the text) are collected and printed by the
   caller. `folder` becomes c->folder. 0, or -1 with at least one mistake. */
int config_parse(struct config *c, const char *text, size_t n, const char *folder, int n_overrides,
                 const char *const *overrides, struct mistakes *bad);

void config_free(struct config *c);

/* -1, with err() set to all of these mistakes, of which there is one at least. */
int config_refuse(struct mistakes *bad);

/* The resolved config as YAML: every key that has an effect, in the tables' order. Parsed again it
   gives the same config. */
void config_write(const struct config *c, struct buf *yaml);

/* XXH3-128, as 32 hex digits, of the keys that decide what the model of a stage that makes one
   becomes: its own and those of the stages that it comes from, without live keys, which change
   nothing in it, and names. Files count by their paths as written. -1 with err() set if memory is
   short. */
int config_hash(const struct config *c, int stage, char hex[33]);

/* Keys, live ones apart, that differ: "pretrain.lr: 0.001 -> 0.002" a line each. Their number, or
   -1 with err() set. */
int config_diff(const struct config *was, const struct config *now, struct buf *out);

/* Where two configs part, live keys apart. */
struct config_change {
    int n;       /* keys that differ */
    int stage;   /* the first stage with one; -1: what all stages share has one; or none has */
    bool longer; /* in that stage nothing differs but its length, which has grown */
};

/* The same, and where. 0, or -1 with err() set. */
int config_change(const struct config *was, const struct config *now, struct config_change *c,
                  struct buf *out);

/* Every key with its meaning, range and default. */
void config_docs(struct buf *out);

/* The same of a part: a kind of stage, a map, or every key of that name or path ("lr",
   "data.tokenizer"). 0, or -1 with err() set. */
int config_docs_of(const char *name, struct buf *out);

/* Bytes of a name in `compare` without its @TYPE; *type is then behind the @, or NULL. */
size_t config_compare_name(const char *name, const char **type);

/* Index of the stage of that name; -1 if there is none. */
int config_stage_find(const struct config *c, const char *name);

/* Do the batch sizes fit a model of this context? 0, or -1 with err() set to what to give instead.
   config_read() checks it where the config has a model; with a checkpoint's the run does. */
int config_batch_check(const struct config_train *t, int64_t context);

/* Tokens of a sequence that a model of this context is trained on: as many, or what the stage's
   batches, or parts of them, hold where that is less. */
int64_t config_sequence(const struct config_train *t, int64_t context);

/* Tokens that go through the model at once: what was given, or the largest part of the batch that
   is made of whole sequences and at most 2Ki tokens (one sequence if that is longer). */
int64_t config_micro_batch(const struct config_train *t, int64_t context);

/* Are activations and products of bf16? `auto` asks the CPU. */
bool config_bf16(const struct config_train *t);

/* Optimizer steps of the stage; corpus_tokens are those of an epoch. At least 1. */
int64_t config_steps(const struct config_train *t, int64_t corpus_tokens);

#endif
