/*
 * Errors. Four classes, told apart by who can act on them:
 *   impossible state        BUG(...)                     prints and aborts
 *   op misuse, arena full   ctx_fail()                   sticky in the ctx, see autograd.h
 *   files, config, memory   return err("...")            -1, the text kept for the caller
 *   the user's eyes         only main prints err_text() and exits
 */
#ifndef ATTAR_AUTOGRAD_BASE_ERR_H
#define ATTAR_AUTOGRAD_BASE_ERR_H

#include <stdbool.h>

#define ERR_PRINTF(f, a) __attribute__((format(printf, f, a)))

/* Longer texts are cut: a config with many mistakes is the longest there is. */
enum { ERR_TEXT_MAX = 16384 };

/* Sets this thread's error text and returns -1. */
int err(const char *fmt, ...) ERR_PRINTF(1, 2);

/* Puts "<text>: " in front of this thread's error text, as it travels up, and returns -1. */
int err_in(const char *fmt, ...) ERR_PRINTF(1, 2);

/* err() of content that is not what was written: damage, and not a failure to read. Only this is
   reason to leave a file aside or make it again; the mark stays until the thread's next err(). */
int err_damaged(const char *fmt, ...) ERR_PRINTF(1, 2);
bool err_is_damage(void);

/* This thread's last error text, never NULL; valid until the next err() of the thread. */
const char *err_text(void);

/* Prints "attar: warning: ..." on stderr, after err_before_warning (the progress line clears
   itself there), so that a warning never ends up inside a progress line. */
void err_warn(const char *fmt, ...) ERR_PRINTF(1, 2);
extern void (*err_before_warning)(void);

/* A state that no input can produce: prints file, line and text, then aborts. */
#define BUG(...) err_bug(__FILE__, __LINE__, __VA_ARGS__)
_Noreturn void err_bug(const char *file, int line, const char *fmt, ...) ERR_PRINTF(3, 4);

#endif
