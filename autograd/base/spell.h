/* The nearest of a list of names to one that is not on it: "did you mean ...?" */
#ifndef ATTAR_AUTOGRAD_BASE_SPELL_H
#define ATTAR_AUTOGRAD_BASE_SPELL_H

/* Start with {.word = what was written}, offer every valid name, then read `best`. */
struct spell {
    const char *word;
    const char *best; /* the nearest name offered, NULL if none is near enough to be a slip */
    int distance;     /* of `best`, see spell_distance() */
};

void spell_offer(struct spell *s, const char *name);

/* Insertions, deletions, substitutions and swaps of neighbours that turn a into b; case and the
   difference between - and _ cost nothing. 99 for words above 63 bytes. */
int spell_distance(const char *a, const char *b);

#endif
