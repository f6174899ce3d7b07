/*
 * What a GGUF file says about itself: metadata and the table of tensors. Versions 2 and 3:
 *
 *     "GGUF"  u32 version  u64 tensors  u64 pairs
 *     pairs:    string key, u32 kind, value        string: u64 length, bytes
 *     tensors:  string name, u32 nd, u64 dim[nd] (the contiguous one first), u32 type, u64 offset
 *     padding to general.alignment, then the data: tensors in the table's order, each padded
 *
 * Everything is checked before it is believed: counts against the bytes that are left, products
 * for overflow, names for duplicates, offsets and sizes against the file. No input aborts; what is
 * malformed is an error with its offset.
 *
 * A model may lie in several files (llama.cpp's gguf-split): NAME-00001-of-00003.gguf and so on.
 * All have split.no (from 0), split.count and split.tensors.count (of all parts together); the
 * first has the metadata. They are read as one file: all of them, or none.
 */
#ifndef ATTAR_COMPRESS_GGUF_H
#define ATTAR_COMPRESS_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "autograd/base/buf.h"
#include "autograd/base/cursor.h"

enum {
    GGUF_DIMS = 4,
    GGUF_NAME = 64,        /* bytes of a tensor's name, the NUL included */
    GGUF_COUNT = 65536,    /* pairs, and tensors, at most */
    GGUF_KEY = 65535,      /* bytes of a key */
    GGUF_STRING = 1 << 24, /* bytes of a string */
    GGUF_ARRAY = 1 << 26,  /* elements of an array */
    GGUF_ALIGNMENT_MOST = 65536,
};

enum gguf_kind {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_TEXT,
    GGUF_LIST,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_KINDS,
};

struct gguf_type {
    int id;
    const char *name;
    int block, bytes; /* elements and bytes of a block */
};

struct gguf_string {
    const char *s; /* [n] in the file's bytes, not terminated, any bytes */
    size_t n;
};

struct gguf_pair {
    struct gguf_string key;
    enum gguf_kind kind; /* of the value, or of a list's elements; never GGUF_LIST */
    bool list;
    uint64_t n;                /* elements: 1 if it is no list */
    const unsigned char *data; /* [bytes] of the elements, as in the file */
    size_t bytes;
};

struct gguf_tensor {
    struct gguf_string name;
    int nd;
    uint64_t dim[GGUF_DIMS]; /* in the file's order: dim[0] is contiguous; 1 from nd on */
    uint64_t numel;
    uint32_t type_id;
    const struct gguf_type *type; /* NULL: none of ours, `bytes` is then 0 */
    uint64_t offset, bytes;       /* of the data, behind gguf.data of its file */
    const unsigned char *data;    /* [bytes] in that file's map */
};

struct gguf {
    const unsigned char *base; /* [size] */
    size_t size;
    bool mapped; /* base is ours */
    uint32_t version;
    uint32_t alignment;
    size_t data;                /* where the tensors' data starts */
    struct gguf_pair *pair;     /* [n_pairs] in the file's order */
    struct gguf_tensor *tensor; /* [n_tensors] of all parts, in their order */
    size_t n_pairs, n_tensors;
    struct gguf *part; /* [n_parts] the files behind the first, their tables empty; what is above is
                          the first one's but for `tensor` */
    int n_parts;       /* 0: a model in one file */
};

/* Maps and reads a file, and where that is one of several parts (any of them) the others beside it;
   -1 with err() set, the path in front: also where a part is missing or another model's.
   gguf_close() after 0. */
int gguf_open(struct gguf *g, const char *path);

/* Reads bytes that stay the caller's and outlive g; a part of several is refused. 0, or -1 with
   err() set. */
int gguf_parse(struct gguf *g, const void *bytes, size_t n);
void gguf_close(struct gguf *g);

/* gguf_parse() of one file's bytes, of parts too: what gguf_open() puts together. */
int gguf_read(struct gguf *g, const void *bytes, size_t n);

/* Is a name, the first member (a gguf_string) of each of the n structs of `size` bytes, there
   twice? 0, or -1 with err() set. */
int gguf_check_unique(const void *first, size_t n, size_t size, const char *what);

/* Of the files that g was opened from: the bytes of all, and the name of the i-th, from 0 to
   n_parts (path: what gguf_open() got). */
uint64_t gguf_size(const struct gguf *g);
int gguf_path(const struct gguf *g, const char *path, int i, struct buf *name);

const struct gguf_pair *gguf_find(const struct gguf *g, const char *key);
const struct gguf_tensor *gguf_tensor(const struct gguf *g, const char *name);

/* The type with this id, or NULL. */
const struct gguf_type *gguf_type(uint32_t id);

/* "u32", "string" */
const char *gguf_kind_name(enum gguf_kind kind);

/* Bytes of a number of that kind. */
int gguf_kind_bytes(enum gguf_kind kind);

/* The next element of a list (or the value) as text: numbers printed, strings as they are. The
   cursor starts as {.base = p->data, .size = p->bytes}.
   At most p->n of them. */
struct gguf_string gguf_text(const struct gguf_pair *p, struct cursor *c, char number[32]);

#endif
