/* SIGINT and SIGTERM: the run saves and leaves; a second SIGINT leaves at once. */
#ifndef ATTAR_EXPERIMENTS_INTERRUPT_H
#define ATTAR_EXPERIMENTS_INTERRUPT_H

#include <signal.h>

/* The signal that arrived, 0: none. ctx->stop points here: ops stop within milliseconds. */
extern volatile sig_atomic_t interrupt_flag;

/* Catches both from now on, and ignores SIGXFSZ and SIGPIPE: their errors come from write(). */
void interrupt_catch(void);

/* "SIGINT", "SIGTERM" */
const char *interrupt_name(void);

#endif
