/* A file from the web, kept. */
#ifndef ATTAR_DATASETS_FETCH_H
#define ATTAR_DATASETS_FETCH_H

#include "autograd/base/buf.h"

/* Appends to `path` where the file of this http(s) URL lies in `folder`; its name there begins with
   its hash. If it is not there yet, the program `curl` fetches it, and it is kept only if it, or
   what it decompresses to, has this SHA-256 (64 hex digits). -1 with err() set: reason and remedy.
 */
int fetch_file(const char *url, const char *sha256, const char *folder, struct buf *path);

#endif
