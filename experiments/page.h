/* A report as one HTML page: style and charts inside, no scripts, nothing fetched. */
#ifndef ATTAR_EXPERIMENTS_PAGE_H
#define ATTAR_EXPERIMENTS_PAGE_H

#include "autograd/base/buf.h"
#include "experiments/report.h"

/* Appends the page. -1 with err() set if memory is short. */
int page_write(struct buf *b, const struct report *r);

#endif
