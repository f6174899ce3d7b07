/* The user block of h5file.h: what makes a truncated or damaged file an error message. */
#ifndef ATTAR_DATASETS_H5SEAL_H
#define ATTAR_DATASETS_H5SEAL_H

#include <stdint.h>

enum { H5SEAL_HEX = 33 }; /* the hash as text with its NUL */

/* Hashes what follows the user block of fd (size bytes with it) and fills the block in.
   -1 with err() set (reason only). */
int h5seal_write(int fd, int64_t size);

/* Verifies magic, version, length and hash; *size is then the file's, `hex` the hash. -1 with err()
   set (reason only, and what to do). */
int h5seal_check(int fd, int64_t *size, char hex[H5SEAL_HEX]);

#endif
