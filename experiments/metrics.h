/*
 * metrics.jsonl: what a stage measured, one JSON object a line. Every object has a "step"
 * (optimizer steps done); its other keys say what it is:
 *   {"step":12,"loss":3.2,"lr":0.003,"grad_norm":0.8,"tokens":98304,"tokens_per_s":9200,"time":8.8}
 *   {"step":100,"valid_loss":3.4,"perplexity":29.9,"bits_per_byte":1.6,"time":80.1}
 *       of the model that the stage hands on; where that is an average of the weights, also
 *       "valid_loss_unaveraged", of the weights that are trained
 *   {"step":100,"sample":" beginning ...","prompt":"In the"}
 *   {"step":100,"event":"save","message":"checkpoint.h5","at":"2026-11-22T15:00:00Z"}
 * Numbers read back exactly: a float as float, a double that is no float as double. NaN and
 * infinities become null, followed by an event "not finite".
 */
#ifndef ATTAR_EXPERIMENTS_METRICS_H
#define ATTAR_EXPERIMENTS_METRICS_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "autograd/base/tail.h"

enum {
    METRICS_LINE_MAX = 1 << 20,   /* bytes of a line, written or read          */
    METRICS_SAMPLE_MAX = 1 << 17, /* bytes of a sample; the rest is not written */
    METRICS_MESSAGE_MAX = 4096,
};

/* Sees a line, which lives until it returns; anything but 0 stops the reading. */
typedef int metrics_each(void *arg, int64_t step, const json_t *line);

struct metrics {
    struct tail file;
    struct buf line;
    metrics_each *each; /* sees every line, see metrics_follow(), or NULL */
    void *arg;
};

struct metrics_term {
    const char *name; /* key of the line, e.g. "kl" */
    double value;
};

struct metrics_step {
    int64_t step;                    /* 1 for the first */
    double loss;                     /* nats per token, the step's mean */
    double lr, grad_norm;            /* the norm before clipping */
    int64_t tokens;                  /* since the stage's start */
    double tokens_per_s, time;       /* seconds of work since the stage's start */
    const struct metrics_term *term; /* [n_terms] further values, e.g. a loss's terms */
    int n_terms;
};

struct metrics_valid {
    int64_t step;
    double loss;    /* nats per token; perplexity is its exp() */
    int64_t tokens; /* scored tokens and the bytes of their text, for bits per byte; */
    int64_t bytes;  /* 0: unknown, and left out */
    double time;
    const double *unaveraged; /* loss of the weights as trained, where `loss` is their average's */
};

/*
 * Opens for appending. Of an existing file the lines up to `step` are kept (-1: none), so that a
 * run resumed from that step's checkpoint writes the lines that the unbroken run writes: all of a
 * step's lines are to be written before its checkpoint. -1 with err() set, among others for a
 * malformed line before one that is to be kept.
 */
int metrics_open(struct metrics *m, const char *path, int64_t step);

/* The same where `step` itself is not over: its lines with one of the keys `undone` (NULL at the
   end) will be written again and go. */
int metrics_reopen(struct metrics *m, const char *path, int64_t step, const char *const *undone);

/* Calls each() for every line that is in the file, and from now on for every line that is written.
   0, or what each() or metrics_read() returned. */
int metrics_follow(struct metrics *m, metrics_each *each, void *arg);

/* Each appends a line, see tail_add(). 0; -1 with err() set if a line is too long, or too much is
   waiting to be written. */
int metrics_step(struct metrics *m, const struct metrics_step *s);
int metrics_valid(struct metrics *m, const struct metrics_valid *v);
/* text [n] is what follows the prompt; no prompt: NULL. */
int metrics_sample(struct metrics *m, int64_t step, const char *prompt, const char *text, size_t n);
int metrics_event(struct metrics *m, int64_t step, const char *event, const char *fmt, ...)
    ERR_PRINTF(4, 5);

/* Returns 0 when all lines are on the disk: call it before each checkpoint. -1 with err() set. */
int metrics_sync(struct metrics *m);
int metrics_close(struct metrics *m);

/* Calls each() for every line, in order; what it returns other than 0 is returned. A torn last line
   is left out; anything else malformed is -1 with err() set: path, line, what. */
int metrics_read(const char *path, metrics_each *each, void *arg);

/* The number under `key`; NAN where it is absent, null or no number. */
double metrics_number(const json_t *line, const char *key);

/* x as a JSON number that reads back exactly; null if it is not finite. */
void metrics_add_number(struct buf *b, double x);

/* Now, as 2026-11-22T15:00:00Z. */
void metrics_now(char out[32]);

#endif
