/*
 * Log-probabilities of a model over a text, in the file that llama-perplexity writes with
 * --kl-divergence-base and reads with --kl-divergence. Little-endian, nothing aligned:
 *
 *     "_logits_", i32 c, i32 V, i32 chunks, i32 token [chunks c]
 *     for each chunk, for each of its c - c/2 - 1 scored tokens, a row:
 *         f32 scale, f32 min, u16 q [V, up to an even number]: log p = scale q + min
 *
 * q spans from the largest logit to 16 below it, or to the smallest; smaller ones are that.
 */
#ifndef ATTAR_EXPERIMENTS_LOGITS_FILE_H
#define ATTAR_EXPERIMENTS_LOGITS_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "autograd/base/aside.h"

struct logits_file {
    char *path;
    int32_t c, V, chunks;
    int32_t *token;       /* [chunks c]; reading only */
    uint16_t *rows;       /* [scored, logits_file_row()] of the chunk at hand */
    int64_t scored, done; /* rows of a chunk; chunks written or read */
    int fd;               /* reading; else -1 */
    struct aside aside;   /* writing */
};

/* u16 of a row. */
int64_t logits_file_row(int32_t V);

/* What a row says: log p of token v. */
float logits_file_log_p(const uint16_t *row, int32_t v);

/* Begins a file for chunks of c tokens, token [chunks c]. 0, or -1 with err() set. */
int logits_file_create(struct logits_file *f, const char *path, int32_t c, int32_t V,
                       int32_t chunks, const int32_t *token);

/* Fills row i of f->rows from logits [V]; threads may fill different ones. */
void logits_file_pack(struct logits_file *f, int64_t i, const float *logits);

/* Writes the chunk in f->rows; behind the last one the file gets its name. 0 or -1. */
int logits_file_add(struct logits_file *f);

/* Opens a file and checks its sizes against one another and its own. 0, or -1 with err() set. */
int logits_file_open(struct logits_file *f, const char *path);

/* Reads the next chunk into f->rows. 0, or -1 with err() set: also if one of its numbers is not
   finite. */
int logits_file_next(struct logits_file *f);

/* An unfinished file that was created is removed. Harmless on a zeroed one. */
void logits_file_close(struct logits_file *f);

#endif
