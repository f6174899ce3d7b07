/* A run's folder, read for its report; also while the run goes on, or after it died. */
#ifndef ATTAR_EXPERIMENTS_REPORT_H
#define ATTAR_EXPERIMENTS_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "autograd/base/buf.h"
#include "experiments/summary.h"

enum {
    REPORT_STAGES = 1000,
    REPORT_TERMS = 5,     /* further values of a step line that get curves  */
    REPORT_SAMPLES = 24,  /* shown of a stage, evenly spread                */
    REPORT_EVENTS = 100,  /* listed of a stage                              */
    REPORT_FILES = 32,    /* listed of a stage                              */
    REPORT_TEXT = 1 << 14 /* bytes of a sample or a message that are shown  */
};

/* A curve: [n] points, x is the step. */
struct report_curve {
    char name[48];
    double *x, *y;
    size_t n, cap_x, cap_y;
};

struct report_text {
    int64_t step;
    char *text; /* [n] */
    size_t n;
    char *kind; /* a sample's prompt, an event's name; may be NULL */
    char at[32];
};

struct report_file {
    char name[256];
    int64_t size;
};

struct report_stage {
    char name[256]; /* of its folder: 01-pretrain */
    bool finished;  /* it has a summary */
    struct summary summary;
    struct report_curve loss, lr, grad, speed, valid, bits, unaveraged, term[REPORT_TERMS];
    struct report_curve resumed; /* x: the steps it was resumed at */
    int n_terms;
    struct report_text sample[REPORT_SAMPLES], event[REPORT_EVENTS];
    int n_samples, n_events;
    int64_t samples, events; /* in the log */
    int64_t saves, last_save, resumes;
    int64_t stride;       /* of the samples kept */
    int64_t step, tokens; /* reached */
    double seconds;
    struct report_file file[REPORT_FILES];
    int n_files;
    struct buf config;  /* config.yaml */
    struct buf problem; /* what could not be read, a line each */
};

struct report {
    char *name;        /* the last part of the folder's path */
    char written[32];  /* when the newest file was written */
    struct buf config; /* config.yaml of the run */
    struct report_stage *stage;
    size_t n, cap; /* stages, by their folders' numbers */
};

/* Reads all there is. Damaged files are no error: they are told in `problem`. -1 with err() set if
   `folder` cannot be read or has no stage. report_free() in any case. */
int report_load(struct report *r, const char *folder);
void report_free(struct report *r);

#endif
