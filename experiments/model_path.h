/* Which file a model is meant by: what -m of all commands may name. */
#ifndef ATTAR_EXPERIMENTS_MODEL_PATH_H
#define ATTAR_EXPERIMENTS_MODEL_PATH_H

#include "autograd/base/buf.h"
#include "datasets/tokenizer.h"
#include "layers/transformer.h"

/* Makes `path` the checkpoint file that `name` means: itself, if it is a file; the checkpoint.h5 of
   a stage's folder; in a run's folder that of the last stage NN-NAME which has one; a folder of
   Hugging Face's itself. 0, or -1 with err() set. */
int model_path(const char *name, struct buf *path);

/* Loads the model that `name` means, a checkpoint, a GGUF file or a Hugging Face folder, for use
   without training. 0, or -1 with err() set; after 0 the caller frees both. `path` (NULL: not
   wanted) becomes the file. */
int model_path_open(const char *name, struct transformer *m, struct tokenizer **tok,
                    struct buf *path);

#endif
