/*
 * Writing a GGUF file, version 3. Metadata and the table of tensors are collected first, so that
 * the header stands at the front and the data is streamed behind it, one tensor after the other:
 *
 *     struct gguf_write w = {0};
 *     gguf_write_text(&w, "general.architecture", "llama");
 *     gguf_write_tensor(&w, "token_embd.weight", gguf_type(1), 2, dim);      in the data's order
 *     if (gguf_write_open(&w, path) || gguf_write_data(&w, bytes, n) || ... gguf_write_commit(&w))
 *         gguf_write_abandon(&w);
 *
 * Errors in front of gguf_write_open() are sticky, and reported by it. The file has its name only
 * after it was synced, read again and compared; until then, and after any error, `path` is as it
 * was. (A process that must live through RLIMIT_FSIZE ignores SIGXFSZ.)
 */
#ifndef ATTAR_COMPRESS_GGUF_WRITE_H
#define ATTAR_COMPRESS_GGUF_WRITE_H

#include "autograd/base/aside.h"
#include "autograd/base/buf.h"
#include "compress/gguf.h"

struct gguf_write_tensor; /* the writer's own */

/* Zero-initialize. */
struct gguf_write {
    uint32_t alignment;               /* of data; 0: 32, and no key that says so */
    struct buf pairs;                 /* as in the file */
    size_t *key, n_keys, cap_keys;    /* where in `pairs` each begins */
    struct gguf_write_tensor *tensor; /* [n_tensors] */
    size_t n_tensors, cap_tensors;    /* of the table */
    uint64_t bytes;                   /* of the data so far declared, padding included */
    struct aside aside;
    struct buf head; /* what stands in front of the data */
    size_t at;       /* the tensor whose data comes next */
    uint64_t done;   /* bytes of it that came */
    void *hash;      /* of them */
    bool failed;
};

/* A value. Text [n] is any bytes; numbers [n] are the kind's, in memory as C has them. */
void gguf_write_text(struct gguf_write *w, const char *key, const char *text);
void gguf_write_bytes(struct gguf_write *w, const char *key, const void *text, size_t n);
void gguf_write_u32(struct gguf_write *w, const char *key, uint32_t x);
void gguf_write_u64(struct gguf_write *w, const char *key, uint64_t x);
void gguf_write_f32(struct gguf_write *w, const char *key, float x);
void gguf_write_bool(struct gguf_write *w, const char *key, bool x);
void gguf_write_number(struct gguf_write *w, const char *key, enum gguf_kind kind, const void *x);
void gguf_write_list(struct gguf_write *w, const char *key, enum gguf_kind kind, size_t n,
                     const void *numbers);

/* The header as the file will have it: without tensors, metadata to keep elsewhere. Added to b; 0,
   or -1 with err() set. */
int gguf_write_head(const struct gguf_write *w, struct buf *b);

/* A list of n texts, each of which then follows by gguf_write_item(). */
void gguf_write_texts(struct gguf_write *w, const char *key, size_t n);
void gguf_write_item(struct gguf_write *w, const void *text, size_t n);

/* A pair of another file, as it is. */
void gguf_write_pair(struct gguf_write *w, const struct gguf_pair *p);

/* A line of the table; dim[0] is the contiguous one. */
void gguf_write_tensor(struct gguf_write *w, const char *name, const struct gguf_type *type, int nd,
                       const uint64_t *dim);

/* Bytes of the whole file, as declared so far. */
uint64_t gguf_write_size(const struct gguf_write *w);

/* Checks what was declared, reserves the room on the disk, writes the header. 0, or -1 with err()
   set. */
int gguf_write_open(struct gguf_write *w, const char *path);

/* The next n bytes of the data: they end within, or with, the tensor whose turn it is; padding is
   added behind it. 0, or -1 with err() set. */
int gguf_write_data(struct gguf_write *w, const void *bytes, size_t n);

/* After the last byte: syncs, reads the file again and compares, renames. Frees w. 0, or -1 with
   err() set and `path` as it was. */
int gguf_write_commit(struct gguf_write *w);

/* Frees w, and removes what was written. Harmless on a zeroed or finished one. */
void gguf_write_abandon(struct gguf_write *w);

#endif
