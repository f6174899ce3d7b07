/*
 * One line on stderr for what takes longer than a moment. A terminal sees a line that redraws
 * itself at most ten times a second and drops fields where it is narrow; a pipe or a log sees plain
 * lines, every 5 % or at intervals that grow from 10 s to 5 min.
 */
#ifndef ATTAR_EXPERIMENTS_PROGRESS_H
#define ATTAR_EXPERIMENTS_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

enum { PROGRESS_LINE = 512 }; /* bytes of a line with its escapes, the NUL included */

/* What comes between training steps, at a pace of its own. */
enum progress_between { PROGRESS_VALIDATION, PROGRESS_SAMPLE, PROGRESS_BETWEEN };

/* What the line of a training step shows. A field that is NAN, or 0 for the last three, is left
   out; a loss is always shown. */
struct progress_step {
    int64_t step, steps;  /* done; of the whole stage */
    double loss, smooth;  /* nats per token; smoothed */
    double lr, grad_norm; /* the norm before clipping */
    double tokens_per_s;
    double gemm_share; /* of the step's time, 0..1 */
    double mem_bytes;
    int64_t left[PROGRESS_BETWEEN]; /* how often it will still come */
};

struct progress {
    char label[48];
    int fd;
    bool terminal, color;
    double (*clock)(void); /* seconds; replaced by tests */
    double delay;          /* seconds before anything is shown */
    /* what was reported last */
    double done, total;
    const char *unit; /* NULL: a training step */
    struct progress_step step;
    /* what stands on the screen or in the log */
    bool drawn;          /* terminal: the line is there now */
    int lines;           /* drawn so far */
    double began, shown; /* times of the start and of the last line */
    double interval;     /* log: seconds until the next line */
    double share;        /* log: done / total at the last line */
    /* the rate */
    int samples;        /* -1: no update yet */
    double at, sampled; /* time and count of the last sample */
    double per_unit;    /* smoothed seconds per unit */
    bool paused;        /* the last sample was left out as a pause */
    double left_at;     /* time of progress_leave() */
    struct {
        int n; /* how often it came */
        double seconds;
    } between[PROGRESS_BETWEEN];
    struct progress *outer;
};

/* Starts a line on fd, nested in the one that is under way, if any: that one returns with the
   inner's end. Also sets err_before_warning, so that a warning first clears the line. The struct
   must stay where it is until progress_close(). */
void progress_open(struct progress *p, int fd, const char *label);

/* done of total (0: unknown). Unit "B" is shown as kB, MB ...; other units are plural nouns, kept
   by the caller. */
void progress_update(struct progress *p, double done, double total, const char *unit);
void progress_step(struct progress *p, const struct progress_step *s);

/* Between these two something else than steps is done. Its time does not count for their rate; how
   long it took tells how long it will take the next times. */
void progress_leave(struct progress *p);
void progress_return(struct progress *p, enum progress_between what);

/* How often what comes every `every` steps (0: not at all) and at the last one is still to come,
   counted from a step of which it is not done. */
int64_t progress_left(int64_t every, int64_t step, int64_t steps);

/* Takes the line off a terminal, so that something else can be printed; the next update redraws. */
void progress_clear(struct progress *p);

/* Leaves the last state and the time taken as a plain line, if anything was shown. */
void progress_close(struct progress *p);

/* Seconds the rest will take at the smoothed rate, with what comes between the steps as far as it
   came before; NAN if the rate is unknown. */
double progress_eta(const struct progress *p);

#endif
