/*
 * An importance matrix: for each weight that linears multiply with, the mean squared input of each
 * of its columns, which encoders weigh errors with. Files as llama-imatrix writes them:
 *
 *   GGUF      general.type "imatrix", imatrix.datasets, imatrix.chunk_count, imatrix.chunk_size;
 *             per weight NAME.in_sum2 [n_in, n_mat] and NAME.counts [1, n_mat], both F32
 *   legacy    i32 entries; each: i32 length, name, i32 calls, i32 n, f32 [n] of which the mean is
 *             value / calls; then, or not, i32 chunks, i32 length, name of the dataset
 *
 * Read strictly, as gguf.h: what is malformed is an error with its offset, never an allocation
 * beyond the file's size.
 */
#ifndef ATTAR_COMPRESS_IMATRIX_H
#define ATTAR_COMPRESS_IMATRIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "autograd/base/pool.h"

struct imatrix_entry {
    const char *name;   /* of the weight: "blk.0.attn_q.weight" */
    int64_t cols, mats; /* mats: experts; 1 otherwise */
    float *sum;         /* [mats,cols] of squares, over `count` rows of input (legacy: times calls
                           over rows) */
    float *count;       /* [mats] */
};

struct imatrix {
    struct imatrix_entry *entry; /* [n] in the order of names */
    size_t n, cap;
    const char **dataset; /* [n_datasets] */
    size_t n_datasets, cap_datasets;
    uint32_t chunks, chunk_size; /* 0: the file does not say */
    struct pool pool;            /* owns names and numbers */
};

/* Either kind, told by its first bytes. 0, or -1 with err() set, the path in front. imatrix_free()
   after 0. */
int imatrix_read(struct imatrix *m, const char *path);

/* The same of bytes [n] that may be let go afterwards. */
int imatrix_parse(struct imatrix *m, const void *bytes, size_t n);

void imatrix_free(struct imatrix *m);

/* Adds an entry with zeroed sums; NULL with err() set if memory is short. */
struct imatrix_entry *imatrix_add(struct imatrix *m, const char *name, int64_t cols);
int imatrix_add_dataset(struct imatrix *m, const char *name);

/* After imatrix_finish(). NULL (no err): there is none. */
const struct imatrix_entry *imatrix_find(const struct imatrix *m, const char *name);

/* mean [mats,cols] of the squares; 1 where nothing was counted. */
void imatrix_mean(const struct imatrix_entry *e, float *mean);

/* Sorts the entries. To be called when all sums are there. 0, or -1 with err() set: a number is not
   finite or negative, or a name is there twice. */
int imatrix_finish(struct imatrix *m);

/* As GGUF, atomically. 0, or -1 with err() set. */
int imatrix_write(const struct imatrix *m, const char *path);

#endif
