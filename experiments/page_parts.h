/* What the files of the page share. */
#ifndef ATTAR_EXPERIMENTS_PAGE_PARTS_H
#define ATTAR_EXPERIMENTS_PAGE_PARTS_H

#include <stdint.h>

#include "autograd/base/buf.h"
#include "experiments/report.h"

extern const char page_style[];

/* A dash stands for what is unknown: NAN, or a count or time of 0. */
void page_count(struct buf *b, int64_t n);                  /* 1,048,576      */
void page_short(struct buf *b, double x, const char *unit); /* 1.05M, 412 MB  */
void page_number(struct buf *b, double x, int decimals);
void page_time(struct buf *b, double seconds);   /* 7m 18s, 1h 05m */
void page_moment(struct buf *b, const char *at); /* 2026-11-22 15:00 UTC */

/* What a stage's table row says, from its summary or, while there is none, from its log. */
struct page_figures {
    int64_t steps, tokens, best_step;
    double seconds, train_loss, valid_loss, best_loss, bits_per_byte;
};
struct page_figures page_figures(const struct report_stage *s);

/* Steps that a smoothed point is the mean of; 1: too few to smooth. */
size_t page_window(size_t n);

/* Everything about one stage. */
void page_stage(struct buf *b, const struct report_stage *s, size_t index);

#endif
