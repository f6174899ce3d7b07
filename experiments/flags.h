/*
 * Arguments of a command, by a field table: --top-k 40, --top-k=40, -n 128, -n128, and those
 * without a name (FIELD_POSITIONAL) in the table's order. A field top_k is the flag --top-k; its
 * `letter` is the short form; bools stand alone (--fresh) or take =true, =false; INTS take 1,2,4;
 * TEXTS may be repeated, and a positional TEXTS takes all that is left. `--` ends the flags.
 *
 *     struct args { const char *model; int64_t top_k; } args;
 *     const struct flags flags = {"generate -m MODEL [flags]", "Writes text.", table};
 *     struct pool pool = {0};
 *     const int rc = flags_parse(&flags, argc, argv, &args, &pool);
 *     if (rc)
 *         return rc == FLAGS_HELP ? 0 : rc;     and pool_free(&pool) on all ways out
 */
#ifndef ATTAR_EXPERIMENTS_FLAGS_H
#define ATTAR_EXPERIMENTS_FLAGS_H

#include "autograd/base/field.h"

enum { FLAGS_HELP = 1, FLAGS_MAX = 64 };

struct flags {
    const char *synopsis;      /* behind "usage: attar " */
    const char *about;         /* what the command does */
    const struct field *table; /* at most FLAGS_MAX rows, no maps */
};

/* Fills *args (the table's struct): defaults, then argv[1 ...]. 0; FLAGS_HELP after printing the
   help to stdout (--help, -h); CMD_USAGE or -1 with err() set. The pool owns the texts. */
int flags_parse(const struct flags *flags, int argc, char *const *argv, void *args,
                struct pool *pool);

/* What --help prints. */
void flags_help(const struct flags *flags, struct buf *out);

#endif
