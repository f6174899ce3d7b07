/*
 * TensorBoard's event files: what metrics.jsonl holds, in a form that `tensorboard --logdir runs`
 * shows. Every number of a line becomes a scalar at the line's step ("train/loss", and "valid/loss"
 * for valid_loss and what stands beside it; null is NaN; TensorBoard keeps them in f32), every
 * sample a text.
 *
 * The file is a copy and never read back: each start makes a new one from metrics.jsonl and empties
 * the ones before it, so that the folder tells what a resumed run's metrics.jsonl tells. The empty
 * ones stay: a TensorBoard that is reading one would not get past it otherwise. A SessionLog START
 * at the new one's head makes it forget what it read.
 *
 * Sources: TFRecord's framing (tensorflow/core/lib/io/record_writer.cc), event.proto,
 * summary.proto, tensor.proto of TensorFlow.
 */
#ifndef ATTAR_EXPERIMENTS_EVENTS_H
#define ATTAR_EXPERIMENTS_EVENTS_H

#include "experiments/metrics.h"

struct events {
    struct tail file;
    double began;       /* seconds since 1970 at which a line's "time" would be 0 */
    double time;        /* of the last line that had one */
    struct buf message; /* an event while it is put together */
    bool stopped;       /* the file could not be written: nothing more goes there */
};

/* Makes FOLDER/events.out.tfevents.<time>.<host>.<process> from the lines that m has, follows m
   from then on, and empties older ones; the folder is made. -1 with err() set, and then m goes on
   unfollowed. A later failure is a warning, once. e must stay until m is closed. */
int events_open(struct events *e, struct metrics *m, const char *folder, double began);

/* To be called once m is closed. Also where events_open() failed, or on zeroes. */
void events_close(struct events *e);

#endif
