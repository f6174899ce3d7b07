#include "autograd/base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local char text[ERR_TEXT_MAX];
static _Thread_local bool damage;

void (*err_before_warning)(void);

static void set_text(const char *fmt, va_list ap)
{
    char next[ERR_TEXT_MAX]; // an argument may point into `text`
    vsnprintf(next, sizeof next, fmt, ap);
    memcpy(text, next, strlen(next) + 1);
}

int err(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    set_text(fmt, ap);
    va_end(ap);
    damage = false;
    return -1;
}

int err_damaged(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    set_text(fmt, ap);
    va_end(ap);
    damage = true;
    return -1;
}

bool err_is_damage(void)
{
    return damage;
}

int err_in(const char *fmt, ...)
{
    char next[ERR_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(next, sizeof next, fmt, ap);
    va_end(ap);
    strncat(next, ": ", sizeof next - strlen(next) - 1);
    strncat(next, text, sizeof next - strlen(next) - 1);
    memcpy(text, next, strlen(next) + 1);
    return -1;
}

const char *err_text(void)
{
    return text;
}

void err_warn(const char *fmt, ...)
{
    if (err_before_warning)
        err_before_warning();
    va_list ap;
    va_start(ap, fmt);
    fputs("attar: warning: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
}

void err_bug(const char *file, int line, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "attar: BUG at %s:%d: ", file, line);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    abort();
}
