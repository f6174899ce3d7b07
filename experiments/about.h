/*
 * What a model says about itself beside what it computes: whose it is, its licence, languages, what
 * it was made of (general.* of GGUF; gguf-py's constants.py lists them). It goes with the model
 * through import, checkpoints, training stages, export and quantize. Kept as GGUF keeps it: the
 * bytes of a file with metadata alone.
 *
 * A model that was trained on is another one: what said who made it, and where it is found, becomes
 * that of its base model. What is true of one file alone (general.file_type, quantized_by ...) is
 * not kept.
 */
#ifndef ATTAR_EXPERIMENTS_ABOUT_H
#define ATTAR_EXPERIMENTS_ABOUT_H

#include "autograd/base/buf.h"
#include "compress/gguf_write.h"

/* From a file's metadata; nothing is added to `about` where that has none. 0, or -1 with err(). */
int about_take(const struct gguf *g, struct buf *about);

/* From the model card of a Hugging Face folder, the YAML in front of its README.md. A card that
   cannot be read is a warning. 0, or -1 with err() set. */
int about_take_card(const char *folder, struct buf *about);

/* Adds general.name, if there is one, to `name`. 0, or -1 with err() set. */
int about_name(const struct buf *about, struct buf *name);

/* Declares all but general.name in a file. about NULL or empty: nothing. 0, or -1 with err() set.
 */
int about_declare(const struct buf *about, bool trained, struct gguf_write *w);

#endif
