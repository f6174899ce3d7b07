/*
 * A trained model as a GGUF file that llama.cpp runs unchanged: its metadata keys, its names (which
 * ours are), types by a recipe. Tied heads: llama, qwen2 and qwen3 have no output.weight, and
 * token_embd.weight is of the head's type; gpt2 always has one, a copy of token_embd.weight to the
 * byte. Norms, biases and positions are F32.
 */
#ifndef ATTAR_EXPERIMENTS_EXPORT_H
#define ATTAR_EXPERIMENTS_EXPORT_H

#include <signal.h>

#include "compress/gguf_write.h"
#include "compress/imatrix.h"
#include "compress/recipe.h"
#include "datasets/tokenizer.h"
#include "layers/transformer.h"

struct export_tensor {
    char name[PARAM_NAME];
    const struct tensor *from; /* data NULL if the model has only shapes */
    int nd;
    uint64_t dim[GGUF_DIMS]; /* GGUF's order; 1 from nd on */
    struct recipe_choice choice;
    uint64_t bytes;
};

/* What becomes of each tensor. */
struct export_plan {
    const struct transformer *m;
    const struct recipe_mix *mix;
    struct export_tensor *tensor; /* [n] in the file's order */
    int n;
    uint64_t elements, bytes; /* of all, without padding */
    int fallbacks;
    bool blocks;            /* the model is in blocks: all is written as it is */
    float *rope;            /* [D/2] of rope_freqs.weight; NULL: none */
    struct tensor rope_row; /* of it */
};

/* Is there an architecture of llama.cpp's for the dims? llama becomes `deci` where layers differ in
   heads or feed-forward widths; the others have no such. 0, or -1 with err() set. */
int export_check(const struct transformer_dims *dims);
const char *export_arch(const struct transformer_dims *dims); /* general.architecture */

/* For a model of any store, shapes are enough. One in blocks (checkpoint_use_blocks()) keeps them,
   whatever the recipe says. Refused: what llama.cpp cannot run. 0, or -1 with err() set.
   export_plan_free() after 0. */
int export_plan(struct export_plan *p, const struct transformer *m, const struct recipe *r,
                bool weighed);
void export_plan_free(struct export_plan *p);

/* Where it comes from: kept under attar.*, and general.name. */
struct export_origin {
    const char *name, *stage, *config_hash;
    uint64_t steps, tokens;
    const struct buf *about; /* what the model says about itself (about.h), NULL: nothing */
    bool trained;            /* it is another model than the one that `about` speaks of */
};

/* Metadata and table. m and path: of the importance matrix, NULL: none. */
void export_declare(const struct export_plan *p, const struct tokenizer *t,
                    const struct export_origin *o, const struct imatrix *m,
                    const char *imatrix_path, struct gguf_write *w);
void export_declare_tokenizer(const struct tokenizer *t, int vocab, struct gguf_write *w);

/* Warns of what the file cannot say about the tokenizer. */
void export_warn_tokenizer(const struct tokenizer *t);

struct export_args {
    struct export_origin origin;
    const struct imatrix *imatrix; /* NULL: none */
    const char *imatrix_path;
    bool lines; /* llama-quantize's, a tensor each */
    const volatile sig_atomic_t *stop;
};

/* Writes the file, verified and atomic, of what export_check() lets through. 0, or -1 with err()
 * set and `path` as it was. */
int export_write(const struct export_plan *p, const struct tokenizer *t,
                 const struct export_args *args, const char *path);

/* Puts in the place of each weight what a file of that recipe would decode to. 0, or -1 with err()
   set. */
int export_round_trip(struct transformer *m, const struct recipe *r, const struct imatrix *im);

/* A checkpoint to a file, all in one. */
struct export_file {
    const char *checkpoint, *out, *name; /* name NULL: out's, without folder and .gguf */
    const struct recipe *recipe;
    const struct imatrix *imatrix; /* NULL: none */
    const char *imatrix_path;
    bool lines, modelfile;
    bool merge; /* factors are added to the weights that they were trained over */
    const volatile sig_atomic_t *stop;
    /* results */
    uint64_t elements, tensor_bytes;
    int fallbacks, tensors;
    bool adapter; /* factors were written beside `out` */
};

/* "x-lora.gguf" for "x.gguf": where the factors of a model go. */
void export_adapter_path(const char *out, struct buf *path);

/* The type of file that a checkpoint is written as unless another is asked for: the mix of its
   blocks, or F16. 0, or -1 with err() set. */
int export_file_type(const char *checkpoint, const char **type);

/* A model that was trained in blocks is written in them if the recipe is of their mix; in another
   one it is rounded again, with a warning. One with factors over blocks becomes two files, the
   blocks and an adapter; merged, it is one, and rounded again, with a warning. Names tensors whose
   rows do not fit first, on stderr. 0, or -1 with err() set and nothing under the final names. */
int export_file(struct export_file *f);

/* A Modelfile for Ollama beside the file of that path, in the same folder. 0, or -1 with err(). */
int export_modelfile(const char *path, const struct transformer *m, const struct tokenizer *t);

#endif
