/* What is said about a path that cannot be opened. */
#ifndef ATTAR_AUTOGRAD_BASE_ABSENT_H
#define ATTAR_AUTOGRAD_BASE_ABSENT_H

/* err("PATH: reason") for errno, which a call on the path has just set; for one that is not there
   also which of its folders is missing, what its link leads to, or a name beside it that it may be
   a slip of. Returns -1. */
int absent_report(const char *path);

#endif
