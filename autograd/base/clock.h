#ifndef ATTAR_AUTOGRAD_BASE_CLOCK_H
#define ATTAR_AUTOGRAD_BASE_CLOCK_H

/* Seconds since some moment in the past; never goes back. */
double clock_seconds(void);

#endif
