#include "experiments/mix_lines.h"

#include <stdio.h>

static const double MIB = 1048576;

void mix_lines_head(size_t i, size_t n, const struct mix_lines_tensor *t)
{
    printf("[%4zu/%4zu] %-36.*s - [%5llu, %5llu, %5llu, %5llu], type = %6s, ", i + 1, n, t->name_n,
           t->name, (unsigned long long)t->dim[0], (unsigned long long)t->dim[1],
           (unsigned long long)t->dim[2], (unsigned long long)t->dim[3], t->type);
}

void mix_lines_kept(double bytes)
{
    printf("size = %8.3f MiB\n", bytes / MIB);
}

void mix_lines_start(const struct dtype *to)
{
    printf("converting to %s .. ", to->name);
    fflush(stdout);
}

void mix_lines_end(double old_bytes, double new_bytes, const char *note)
{
    printf("size = %8.2f MiB -> %8.2f MiB%s\n", old_bytes / MIB, new_bytes / MIB, note);
}

void mix_lines_planned(double old_bytes, double new_bytes, const struct dtype *to)
{
    printf("size = %8.2f MiB -> %8.2f MiB (%s)\n", old_bytes / MIB, new_bytes / MIB, to->name);
}

void mix_lines_fallback(const char *name, int name_n, int64_t cols, const struct recipe_choice *c)
{
    if (c->matrix && c->dt != c->wanted)
        fprintf(stderr, "%.*s: rows of %lld are no whole blocks of %d, which %s has: so it is %s\n",
                name_n, name, (long long)cols, c->wanted->block, c->wanted->name, c->dt->name);
}

void mix_lines_sums(const struct mix_lines_sums *s)
{
    printf("model size  = %8.2f MiB (%.2f BPW)\n", s->old_bytes / MIB,
           8 * s->old_bytes / s->elements);
    printf("quant size  = %8.2f MiB (%.2f BPW)\n", s->new_bytes / MIB,
           8 * s->new_bytes / s->elements);
    if (s->fallbacks)
        printf("WARNING: %d of %d tensor(s) required fallback quantization\n", s->fallbacks,
               s->matrices);
}

void mix_lines_file(uint64_t bytes)
{
    printf("file size   = %llu bytes (%.2f MiB)\n", (unsigned long long)bytes, (double)bytes / MIB);
}
