/* Where one document of a plain text ends and the next begins. */
#ifndef ATTAR_DATASETS_CUTTER_H
#define ATTAR_DATASETS_CUTTER_H

#include <stdbool.h>
#include <stddef.h>

struct cutter;

/* `split_on`: "blank" or NULL (blank lines), "none" (the whole file is one document), or a PCRE2
   pattern (^ and $ match at line ends; the match belongs to no document, what it only looks at
   stays). -1 with err() set: what is wrong with the pattern, and where. */
int cutter_new(struct cutter **out, const char *split_on);
void cutter_free(struct cutter *c); /* NULL is fine */

/* Looks for a separator in s [n], of which the bytes before `from` are context, and from `*scan`
   on, before which there is none. `end`: nothing comes after s. 1: it is [*start, *stop). 0: there
   is none yet; *scan is moved up to where to look again when s has become longer. -1: err(). */
int cutter_find(struct cutter *c, const char *s, size_t n, size_t from, size_t *scan, bool end,
                size_t *start, size_t *stop);

/* Where to cut s [n] for want of a separator: at most at `most`, at a line end if there is one, and
   if possible at one where tokens end in any case. 0 < result <= most <= n. */
size_t cutter_piece(const char *s, size_t n, size_t most);

#endif
