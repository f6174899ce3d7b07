#include "compress/gguf_write.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <xxhash.h>

#include "autograd/base/err.h"
#include "autograd/base/file.h"
#include "autograd/base/mem.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are written as they lie");

enum { VERSION = 3, USUAL_ALIGNMENT = 32, HASH_STEP = 4 << 20 };

struct gguf_write_tensor {
    char name[GGUF_NAME];
    const struct gguf_type *type;
    int nd;
    uint64_t dim[GGUF_DIMS];
    uint64_t offset, bytes;
    XXH128_hash_t hash; /* of its data, once that is written */
};

static void fail(struct gguf_write *w)
{
    w->failed = true;
}

static uint64_t padded(const struct gguf_write *w, uint64_t n)
{
    const uint64_t a = w->alignment ? w->alignment : USUAL_ALIGNMENT;
    return (n + a - 1) / a * a;
}

/* ---- metadata ---- */

static void put(struct buf *b, const void *x, size_t n)
{
    buf_add(b, x, n);
}

static void put_u32(struct buf *b, uint32_t x)
{
    put(b, &x, sizeof x);
}

static void put_u64(struct buf *b, uint64_t x)
{
    put(b, &x, sizeof x);
}

static void put_text(struct buf *b, const void *text, size_t n)
{
    put_u64(b, n);
    put(b, text, n);
}

static bool put_key(struct gguf_write *w, const char *key, size_t n, uint32_t kind)
{
    if (w->failed)
        return false;
    if (mem_grow(&w->key, &w->cap_keys, w->n_keys + 1, sizeof *w->key)) {
        fail(w);
        return false;
    }
    w->key[w->n_keys++] = w->pairs.n;
    put_text(&w->pairs, key, n);
    put_u32(&w->pairs, kind);
    return true;
}

void gguf_write_bytes(struct gguf_write *w, const char *key, const void *text, size_t n)
{
    if (put_key(w, key, strlen(key), GGUF_TEXT))
        put_text(&w->pairs, text, n);
}

void gguf_write_text(struct gguf_write *w, const char *key, const char *text)
{
    gguf_write_bytes(w, key, text, strlen(text));
}

void gguf_write_number(struct gguf_write *w, const char *key, enum gguf_kind kind, const void *x)
{
    if (put_key(w, key, strlen(key), kind))
        put(&w->pairs, x, (size_t)gguf_kind_bytes(kind));
}

void gguf_write_u32(struct gguf_write *w, const char *key, uint32_t x)
{
    gguf_write_number(w, key, GGUF_U32, &x);
}

void gguf_write_u64(struct gguf_write *w, const char *key, uint64_t x)
{
    gguf_write_number(w, key, GGUF_U64, &x);
}

void gguf_write_f32(struct gguf_write *w, const char *key, float x)
{
    gguf_write_number(w, key, GGUF_F32, &x);
}

void gguf_write_bool(struct gguf_write *w, const char *key, bool x)
{
    gguf_write_number(w, key, GGUF_BOOL, &(uint8_t){x});
}

static bool put_list(struct gguf_write *w, const char *key, enum gguf_kind kind, size_t n)
{
    if (!put_key(w, key, strlen(key), GGUF_LIST))
        return false;
    put_u32(&w->pairs, kind);
    put_u64(&w->pairs, n);
    return true;
}

void gguf_write_list(struct gguf_write *w, const char *key, enum gguf_kind kind, size_t n,
                     const void *numbers)
{
    if (put_list(w, key, kind, n))
        put(&w->pairs, numbers, n * (size_t)gguf_kind_bytes(kind));
}

void gguf_write_texts(struct gguf_write *w, const char *key, size_t n)
{
    put_list(w, key, GGUF_TEXT, n);
}

void gguf_write_item(struct gguf_write *w, const void *text, size_t n)
{
    if (!w->failed)
        put_text(&w->pairs, text, n);
}

void gguf_write_pair(struct gguf_write *w, const struct gguf_pair *p)
{
    if (!put_key(w, p->key.s, p->key.n, p->list ? GGUF_LIST : p->kind))
        return;
    if (p->list) {
        put_u32(&w->pairs, p->kind);
        put_u64(&w->pairs, p->n);
    }
    put(&w->pairs, p->data, p->bytes);
}

/* ---- the table ---- */

static int declare(struct gguf_write *w, const char *name, const struct gguf_type *type, int nd,
                   const uint64_t *dim)
{
    struct gguf_write_tensor *t;
    uint64_t blocks = 1;
    if (strlen(name) >= GGUF_NAME || !*name)
        return err("tensor '%.80s': a name has 1 to %d bytes", name, GGUF_NAME - 1);
    if (nd < 1 || nd > GGUF_DIMS || !type)
        return err("tensor '%s': %d dimensions, of type %s", name, nd, type ? type->name : "none");
    if (mem_grow(&w->tensor, &w->cap_tensors, w->n_tensors + 1, sizeof *w->tensor))
        return -1;
    t = &w->tensor[w->n_tensors];
    *t = (struct gguf_write_tensor){.type = type, .nd = nd, .offset = w->bytes};
    memcpy(t->name, name, strlen(name));
    for (int i = 0; i < nd; i++) {
        t->dim[i] = dim[i];
        if (dim[i] < 1 || dim[i] > INT32_MAX || (!i && dim[i] % (uint64_t)type->block))
            return err("tensor '%s': dimension %d is %llu, in blocks of %d", name, i,
                       (unsigned long long)dim[i], type->block);
        if (__builtin_mul_overflow(blocks, i ? dim[i] : dim[i] / (uint64_t)type->block, &blocks))
            return err("tensor '%s' is too large", name);
    }
    if (__builtin_mul_overflow(blocks, (uint64_t)type->bytes, &t->bytes) ||
        t->bytes > INT64_MAX - w->bytes - GGUF_ALIGNMENT_MOST)
        return err("tensor '%s' is too large", name);
    w->bytes = padded(w, w->bytes + t->bytes);
    w->n_tensors++;
    return 0;
}

void gguf_write_tensor(struct gguf_write *w, const char *name, const struct gguf_type *type, int nd,
                       const uint64_t *dim)
{
    if (!w->failed && declare(w, name, type, nd, dim))
        fail(w);
}

/* ---- header ---- */

static void put_head(const struct gguf_write *w, struct buf *b)
{
    static const char key[] = "general.alignment";
    buf_text(b, "GGUF");
    put_u32(b, VERSION);
    put_u64(b, w->n_tensors);
    put_u64(b, w->n_keys + (w->alignment != 0));
    put(b, w->pairs.p ? w->pairs.p : "", w->pairs.n);
    if (w->alignment) {
        put_text(b, key, sizeof key - 1);
        put_u32(b, GGUF_U32);
        put_u32(b, w->alignment);
    }
    for (size_t i = 0; i < w->n_tensors; i++) {
        const struct gguf_write_tensor *t = &w->tensor[i];
        put_text(b, t->name, strlen(t->name));
        put_u32(b, (uint32_t)t->nd);
        put(b, t->dim, (size_t)t->nd * sizeof *t->dim);
        put_u32(b, (uint32_t)t->type->id);
        put_u64(b, t->offset);
    }
    static const char zeros[GGUF_ALIGNMENT_MOST];
    put(b, zeros, (size_t)(padded(w, b->n) - b->n));
}

int gguf_write_head(const struct gguf_write *w, struct buf *b)
{
    if (w->failed || w->pairs.failed)
        return -1;
    put_head(w, b);
    return b->failed ? -1 : 0;
}

uint64_t gguf_write_size(const struct gguf_write *w)
{
    struct buf b = {0};
    put_head(w, &b);
    const uint64_t size = b.n + w->bytes;
    buf_free(&b);
    return size;
}

/* The header as a reader would take it, before anything is written: twofold keys and names, kinds,
   lengths. The data is not there yet, so the tensors are read as empty ones are: not at all. */
static int check_head(const struct gguf_write *w)
{
    struct buf b = {0};
    struct gguf g;
    const struct gguf_write pairs = {.alignment = w->alignment,
                                     .pairs = w->pairs,
                                     .n_keys = w->n_keys};
    put_head(&pairs, &b);
    int rc = b.failed ? -1 : gguf_parse(&g, b.p, b.n);
    if (!rc)
        gguf_close(&g);
    buf_free(&b);
    return rc ? err_in("metadata") : 0;
}

static int by_name(const void *a, const void *b)
{
    const struct gguf_write_tensor *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static int check_names(const struct gguf_write *w)
{
    const struct gguf_write_tensor **order = mem_new(w->n_tensors, sizeof *order);
    if (!order)
        return -1;
    for (size_t i = 0; i < w->n_tensors; i++)
        order[i] = &w->tensor[i];
    qsort(order, w->n_tensors, sizeof *order, by_name);
    int rc = 0;
    for (size_t i = 1; i < w->n_tensors && !rc; i++)
        if (!strcmp(order[i - 1]->name, order[i]->name))
            rc = err("tensor '%s' is declared twice", order[i]->name);
    free(order);
    return rc;
}

/* ---- data ---- */

static int write_all(struct gguf_write *w, const void *bytes, size_t n)
{
    return file_write(w->aside.fd, bytes, n, -1)
               ? err("cannot write %s: %s", w->aside.path, strerror(errno))
               : 0;
}

int gguf_write_open(struct gguf_write *w, const char *path)
{
    if (w->failed || w->pairs.failed || check_head(w) || check_names(w))
        return err_in("%s", path);
    put_head(w, &w->head);
    w->hash = XXH3_createState();
    if (!w->hash)
        return err("out of memory");
    XXH3_128bits_reset(w->hash);
    if (w->head.failed || aside_open(&w->aside, path))
        return -1;
    // a file system that cannot reserve says so; a full disk is seen now, not after the work
    if (fallocate(w->aside.fd, 0, 0, (off_t)(w->head.n + w->bytes)) &&
        (errno == ENOSPC || errno == EFBIG || errno == EDQUOT))
        return err("cannot write %s: %s, it needs %llu bytes", path, strerror(errno),
                   (unsigned long long)(w->head.n + w->bytes));
    return write_all(w, w->head.p, w->head.n);
}

static int finish_tensor(struct gguf_write *w)
{
    static const char zeros[GGUF_ALIGNMENT_MOST];
    struct gguf_write_tensor *t = &w->tensor[w->at++];
    t->hash = XXH3_128bits_digest(w->hash);
    XXH3_128bits_reset(w->hash);
    w->done = 0;
    return write_all(w, zeros, (size_t)(padded(w, t->bytes) - t->bytes));
}

int gguf_write_data(struct gguf_write *w, const void *bytes, size_t n)
{
    if (w->at >= w->n_tensors || n > w->tensor[w->at].bytes - w->done)
        BUG("%zu bytes more than the tensors have", n);
    XXH3_128bits_update(w->hash, bytes, n);
    w->done += n;
    if (write_all(w, bytes, n))
        return -1;
    return w->done == w->tensor[w->at].bytes ? finish_tensor(w) : 0;
}

/* ---- the end ---- */

/* The hash of n mapped bytes at p, whose pages are let go behind it. */
static XXH128_hash_t hash_of(struct gguf_write *w, const unsigned char *p, uint64_t n)
{
    XXH3_128bits_reset(w->hash);
    for (uint64_t at = 0, step; at < n; at += step) {
        step = n - at < HASH_STEP ? n - at : HASH_STEP;
        XXH3_128bits_update(w->hash, p + at, (size_t)step);
        file_forget(p + at, (size_t)step);
    }
    return XXH3_128bits_digest(w->hash);
}

static int compare_tensor(struct gguf_write *w, const struct gguf *g, size_t i)
{
    const struct gguf_write_tensor *t = &w->tensor[i];
    const struct gguf_tensor *r = &g->tensor[i];
    if (r->name.n != strlen(t->name) || memcmp(r->name.s, t->name, r->name.n) ||
        r->type != t->type || r->nd != t->nd ||
        memcmp(r->dim, t->dim, sizeof *t->dim * (size_t)t->nd) || r->offset != t->offset ||
        r->bytes != t->bytes)
        return err("tensor '%s' reads back as another", t->name);
    if (!XXH128_isEqual(hash_of(w, r->data, r->bytes), t->hash))
        return err("tensor '%s' reads back with other data", t->name);
    return 0;
}

static int compare_all(struct gguf_write *w, const struct gguf *g)
{
    if (g->size != w->head.n + w->bytes || memcmp(g->base, w->head.p, w->head.n) ||
        g->n_tensors != w->n_tensors)
        return err("the header reads back as another");
    for (size_t i = 0; i < w->n_tensors; i++)
        if (compare_tensor(w, g, i))
            return -1;
    return 0;
}

static int compare(struct gguf_write *w)
{
    struct gguf g;
    int rc = gguf_open(&g, w->aside.tmp);
    if (!rc) {
        rc = compare_all(w, &g);
        gguf_close(&g);
    }
    return rc ? err_in("%s: the disk does not give back what was written", w->aside.path) : 0;
}

static void release(struct gguf_write *w)
{
    buf_free(&w->pairs);
    buf_free(&w->head);
    free(w->key);
    free(w->tensor);
    XXH3_freeState(w->hash);
    *w = (struct gguf_write){0};
}

int gguf_write_commit(struct gguf_write *w)
{
    if (w->at != w->n_tensors)
        BUG("the data of tensor %zu of %zu is not complete", w->at, w->n_tensors);
    int rc = fsync(w->aside.fd) ? err("cannot write %s: %s", w->aside.path, strerror(errno)) : 0;
    // what is compared should come from the disk, not from memory
    (void)posix_fadvise(w->aside.fd, 0, 0, POSIX_FADV_DONTNEED);
    if (!rc)
        rc = compare(w);
    if (rc) {
        gguf_write_abandon(w);
        return -1;
    }
    rc = aside_commit(&w->aside);
    release(w);
    return rc;
}

void gguf_write_abandon(struct gguf_write *w)
{
    aside_abandon(&w->aside);
    release(w);
}
