/*
 * A file that gets its final name only when it is complete: it is written as `path.tmp-PID`,
 * fsynced and renamed. What processes that died left behind is removed at the next aside_open() of
 * the same path; a lock (flock) on the file tells the living from the dead, so that neither
 * re-used process ids nor containers matter.
 */
#ifndef ATTAR_AUTOGRAD_BASE_ASIDE_H
#define ATTAR_AUTOGRAD_BASE_ASIDE_H

struct aside {
    int fd;     /* open for reading and writing, empty at first */
    char *path; /* the final name */
    char *tmp;  /* the name until aside_commit() */
};

/* Creates the file to be written through a->fd. 0, or -1 with err() set and nothing left behind. */
int aside_open(struct aside *a, const char *path);

/* fsync, rename over `path`, fsync of the folder. Frees `a`; on -1 `path` is as it was before
   (or complete, if only the folder's fsync failed). */
int aside_commit(struct aside *a);

/* Removes the file; `path` is as it was. Frees `a`; harmless on a zeroed or finished one. */
void aside_abandon(struct aside *a);

/* Removes the files of this process that have no final name yet. For signal handlers and exit(): an
   end that comes before aside_commit() or aside_abandon(). */
void aside_remove_all(void);

#endif
