/*
 * Encoding whole tensors into a GGUF file that is being written: a few rows at a time, so that
 * memory stays far below a tensor's size whatever that is.
 */
#ifndef ATTAR_COMPRESS_QUANTIZE_H
#define ATTAR_COMPRESS_QUANTIZE_H

#include <signal.h>

#include "compress/gguf_write.h"
#include "compress/imatrix.h"
#include "compress/recipe.h"

/* A tensor on its way. */
struct quantize_source {
    const char *name;        /* for messages */
    struct tensor t;         /* as it is: [rows,cols], of any dtype; raw: NULL dt */
    size_t bytes;            /* of its data */
    bool mapped;             /* pages of t.data are let go when they were read */
    const float *importance; /* [cols], or NULL */
};

/* Writes it as dtype `to`, or as it is if that is its own or NULL. Rows are shared by the threads;
   the bytes are the same for any number of them. 0; -1 with err() set: a value is not finite (in
   the source, or out of `to`s range), the disk is full, or *stop (NULL: never) was set. */
int quantize_tensor(struct gguf_write *w, const struct quantize_source *s, const struct dtype *to,
                    const volatile sig_atomic_t *stop);

/* x [rows,cols] <- what decoding gives after encoding as `to`. -1 as above. */
int quantize_round_trip(const char *name, float *x, int64_t rows, int64_t cols,
                        const struct dtype *to, const float *importance);

/* ---- a whole file ---- */

/* What becomes of each tensor of a GGUF file. */
struct quantize_plan {
    const struct gguf *in;
    struct recipe_choice *choice;  /* [in->n_tensors] */
    uint64_t old_bytes, new_bytes; /* of all tensors, without padding */
    uint64_t elements;
    int matrices, fallbacks; /* tensors that are converted; whose rows do not fit what was wanted */
    const struct recipe_mix *mix;
};

/* From the file's metadata: without experts. `arch`: its general.architecture, which the caller
   knows. `weighed`: there is an importance matrix. 0, or -1 with err() set (requantizing that is
   not allowed, too). quantize_plan_free() after 0. */
int quantize_plan(struct quantize_plan *p, const struct gguf *in, const char *arch,
                  const struct recipe *r, bool weighed, bool allow_requantize);
void quantize_plan_free(struct quantize_plan *p);

/* Metadata of the new file: that of the old one, file type and quantization version, and where
   importance came from (m NULL: no importance). Then the table. */
void quantize_declare(const struct quantize_plan *p, struct gguf_write *w, const struct imatrix *m,
                      const char *imatrix_path);

/* The pieces of that: file type and version; where importance came from (nothing for NULL). */
void quantize_declare_mix(struct gguf_write *w, const struct recipe_mix *mix);
void quantize_declare_importance(struct gguf_write *w, const struct imatrix *m, const char *path);

/* A tensor of a GGUF file as a source. */
struct quantize_source quantize_from(const struct gguf *g, const struct gguf_tensor *t,
                                     const char *name);

/* Is an importance matrix of this model? Its matrices in blocks are counted, but for embedding and
   head, which imatrix leaves out. */
struct quantize_weighed {
    int n, missing;
    char first[GGUF_NAME]; /* of the missing */
};
void quantize_weighed_count(struct quantize_weighed *c, const struct imatrix *m, const char *name);

/* Warns where some are missing; -1 with err() set where all are. */
int quantize_weighed_check(const struct quantize_weighed *c);

/* The importance of a tensor's columns, mean [cols] to be freed; NULL: there is none, and
 *missing if an entry was looked for. 0, or -1 with err() set if it does not fit. */
int quantize_importance(const struct imatrix *m, const char *name, int64_t cols, float **mean,
                        bool *missing);

#endif
