/*
 * What a safetensors file says about itself:
 *
 *     u64 length of the header   header: JSON, {"NAME": {"dtype", "shape", "data_offsets"}, ...,
 *     "__metadata__": {"key": "text", ...}}   data: tensors without overlap, holes or rest
 *
 * Malformed input is an error; nothing is allocated beyond a small multiple of the header, which
 * must be in the file and at most SAFETENSORS_HEADER bytes. The data stays in the file's map.
 */
#ifndef ATTAR_COMPRESS_SAFETENSORS_H
#define ATTAR_COMPRESS_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

enum { SAFETENSORS_HEADER = 100000000, SAFETENSORS_DIMS = 8, SAFETENSORS_COUNT = 1 << 20 };

struct safetensors_type {
    const char *name; /* "BF16" */
    int bits;         /* of an element */
};

struct safetensors_tensor {
    const char *name; /* without control characters */
    const struct safetensors_type *type;
    int nd;
    uint64_t dim[SAFETENSORS_DIMS]; /* row-major: the last is contiguous */
    uint64_t numel;
    uint64_t begin, end; /* bytes behind `data` */
};

struct safetensors_note {
    const char *key, *text;
};

struct safetensors {
    uint64_t size, data;               /* bytes of the file; where the tensors' data starts */
    struct safetensors_tensor *tensor; /* [n] in the order of the data */
    size_t n;
    struct safetensors_note *note; /* [n_notes] of __metadata__ */
    size_t n_notes;
    void *json;               /* owns the texts */
    const unsigned char *map; /* [mapped] */
    size_t mapped;            /* = size of a file that was opened */
};

/* Reads the header. 0, or -1 with err() set, the path in front. safetensors_close() after 0. */
int safetensors_open(struct safetensors *s, const char *path);
void safetensors_close(struct safetensors *s);

const struct safetensors_tensor *safetensors_find(const struct safetensors *s, const char *name);

/* The tensor's bytes, in the map; not aligned. */
const unsigned char *safetensors_bytes(const struct safetensors *s,
                                       const struct safetensors_tensor *t);

#endif
