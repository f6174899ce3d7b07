#include "compress/gguf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/file.h"
#include "autograd/base/mem.h"

/* ---- tables ---- */

static const struct gguf_type types[] = {
#define TYPE(id, name, block, bytes) {id, name, block, bytes},
#include "compress/gguf_types.def"
#undef TYPE
};

static const struct {
    const char *name;
    int bytes; // of an element; of a string at least
} kinds[GGUF_KINDS] = {
    [GGUF_U8] = {"u8", 1},      [GGUF_I8] = {"i8", 1},     [GGUF_U16] = {"u16", 2},
    [GGUF_I16] = {"i16", 2},    [GGUF_U32] = {"u32", 4},   [GGUF_I32] = {"i32", 4},
    [GGUF_F32] = {"f32", 4},    [GGUF_BOOL] = {"bool", 1}, [GGUF_TEXT] = {"string", 8},
    [GGUF_LIST] = {"list", 12}, [GGUF_U64] = {"u64", 8},   [GGUF_I64] = {"i64", 8},
    [GGUF_F64] = {"f64", 8},
};

const struct gguf_type *gguf_type(uint32_t id)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if ((uint32_t)types[i].id == id)
            return &types[i];
    return NULL;
}

const char *gguf_kind_name(enum gguf_kind kind)
{
    return kinds[kind].name;
}

int gguf_kind_bytes(enum gguf_kind kind)
{
    return kinds[kind].bytes;
}

/* ---- pieces ---- */

static struct gguf_string read_string(struct cursor *c, uint64_t most, const char *what)
{
    struct gguf_string s = {"", 0};
    const uint64_t n = cursor_count(c, 1, most, what);
    const char *p = cursor_bytes(c, n);
    if (p)
        s = (struct gguf_string){p, (size_t)n};
    return s;
}

/* A key or a tensor's name: errors and tables print it, so it must not move the cursor there. */
static struct gguf_string read_name(struct cursor *c, uint64_t most, const char *what)
{
    const struct gguf_string s = read_string(c, most, what);
    if (!s.n)
        cursor_fail(c, "0 %s", what);
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.s[i] < ' ' || s.s[i] == 0x7f)
            cursor_fail(c, "control characters among the %s", what);
    return s;
}

static int compare(const struct gguf_string *a, const struct gguf_string *b)
{
    const int order = memcmp(a->s, b->s, a->n < b->n ? a->n : b->n);
    return order ? order : (a->n > b->n) - (a->n < b->n);
}

static int compare_indirect(const void *a, const void *b)
{
    return compare(*(const struct gguf_string *const *)a, *(const struct gguf_string *const *)b);
}

int gguf_check_unique(const void *first, size_t n, size_t size, const char *what)
{
    const struct gguf_string **order = mem_new(n, sizeof *order);
    if (!order)
        return -1;
    for (size_t i = 0; i < n; i++)
        order[i] = (const void *)((const char *)first + i * size);
    qsort(order, n, sizeof *order, compare_indirect);
    int rc = 0;
    for (size_t i = 1; i < n && !rc; i++)
        if (!compare(order[i - 1], order[i]))
            rc = err("%s '%.*s' is there twice", what, (int)(order[i]->n < 100 ? order[i]->n : 100),
                     order[i]->s);
    free(order);
    return rc;
}

/* ---- pairs ---- */

static void read_elements(struct cursor *c, struct gguf_pair *p)
{
    const size_t start = c->at;
    if (p->kind == GGUF_TEXT)
        for (uint64_t i = 0; i < p->n && !c->failed; i++)
            read_string(c, GGUF_STRING, "bytes of text");
    else
        cursor_bytes(c, p->n * (uint64_t)kinds[p->kind].bytes);
    p->data = c->base + start;
    p->bytes = c->at - start;
}

static int read_pair(struct cursor *c, struct gguf_pair *p)
{
    p->key = read_name(c, GGUF_KEY, "bytes of a key");
    uint32_t kind = cursor_u32(c);
    p->list = kind == GGUF_LIST;
    if (p->list)
        kind = cursor_u32(c);
    if (!c->failed && (kind >= GGUF_KINDS || kind == GGUF_LIST))
        return cursor_fail(c, "a value of kind %u%s", kind, p->list ? " in a list" : "");
    if (c->failed)
        return -1;
    p->kind = (enum gguf_kind)kind;
    p->n = p->list ? cursor_count(c, (size_t)kinds[kind].bytes, GGUF_ARRAY, "elements") : 1;
    read_elements(c, p);
    return c->failed ? -1 : 0;
}

static int read_pairs(struct gguf *g, struct cursor *c, size_t n)
{
    g->pair = mem_new(n, sizeof *g->pair);
    if (!g->pair)
        return -1;
    for (; g->n_pairs < n; g->n_pairs++)
        if (read_pair(c, &g->pair[g->n_pairs]))
            return -1;
    return gguf_check_unique(g->pair, n, sizeof *g->pair, "key");
}

static int read_alignment(struct gguf *g, struct cursor *c)
{
    const struct gguf_pair *p = gguf_find(g, "general.alignment");
    g->alignment = 32;
    if (!p)
        return 0;
    if (p->list || p->kind != GGUF_U32)
        return cursor_fail(c, "general.alignment is no u32");
    struct cursor value = {.base = p->data, .size = p->bytes};
    const uint32_t a = g->alignment = cursor_u32(&value);
    return a >= 8 && a <= GGUF_ALIGNMENT_MOST && !(a & (a - 1))
               ? 0
               : cursor_fail(c, "general.alignment is %u, not a power of two from 8 to %d", a,
                             GGUF_ALIGNMENT_MOST);
}

/* ---- tensors ---- */

static int read_shape(struct cursor *c, struct gguf_tensor *t)
{
    const uint32_t nd = cursor_u32(c);
    if (!c->failed && (nd < 1 || nd > GGUF_DIMS))
        return cursor_fail(c, "a tensor of %u dimensions", nd);
    t->nd = (int)nd;
    t->numel = 1;
    for (int i = 0; i < GGUF_DIMS; i++) {
        t->dim[i] = i < t->nd ? cursor_u64(c) : 1;
        if (c->failed)
            return -1;
        if (t->dim[i] < 1 || t->dim[i] > INT32_MAX)
            return cursor_fail(c, "a dimension of %llu", (unsigned long long)t->dim[i]);
        if (__builtin_mul_overflow(t->numel, t->dim[i], &t->numel))
            return cursor_fail(c, "a tensor of more than 2^64 elements");
    }
    return 0;
}

static int read_tensor(struct cursor *c, struct gguf_tensor *t)
{
    t->name = read_name(c, GGUF_NAME - 1, "bytes of a tensor's name");
    if (read_shape(c, t))
        return -1;
    t->type_id = cursor_u32(c);
    t->offset = cursor_u64(c);
    t->type = gguf_type(t->type_id);
    if (c->failed || !t->type)
        return c->failed ? -1 : 0;
    const uint64_t block = (uint64_t)t->type->block;
    if (t->dim[0] % block)
        return cursor_fail(c, "rows of %llu, %s has blocks of %llu", (unsigned long long)t->dim[0],
                           t->type->name, (unsigned long long)block);
    if (__builtin_mul_overflow(t->numel / block, (uint64_t)t->type->bytes, &t->bytes))
        return cursor_fail(c, "a tensor of more than 2^64 bytes");
    return 0;
}

/* Data lies in the table's order without holes; behind a type we do not know, holes cannot be
   seen. */
static int place_tensors(const struct gguf *g, struct cursor *c)
{
    const uint64_t room = g->data < g->size ? g->size - g->data : 0;
    uint64_t next = 0;
    bool known = true;
    for (size_t i = 0; i < g->n_tensors; i++) {
        struct gguf_tensor *t = &g->tensor[i];
        const char *name = t->name.s;
        const int n = (int)t->name.n;
        if (t->offset % g->alignment || t->offset < next || (known && t->offset != next))
            return cursor_fail(c, "tensor '%.*s' starts at %llu, %llu is expected", n, name,
                               (unsigned long long)t->offset, (unsigned long long)next);
        if (t->offset > room || t->bytes > room - t->offset)
            return cursor_fail(c, "tensor '%.*s' needs %llu bytes from %llu on, the file has %llu",
                               n, name, (unsigned long long)t->bytes, (unsigned long long)t->offset,
                               (unsigned long long)room);
        t->data = g->base + g->data + t->offset;
        // both are at most the file's size
        next = (t->offset + t->bytes + g->alignment - 1) / g->alignment * g->alignment;
        known = t->type != NULL;
    }
    if (known && g->n_tensors && room > next)
        return cursor_fail(c,
                           "%llu bytes behind the last tensor: the file lists fewer tensors than "
                           "it holds",
                           (unsigned long long)(room - next));
    return 0;
}

static int read_tensors(struct gguf *g, struct cursor *c, size_t n)
{
    g->tensor = mem_new(n, sizeof *g->tensor);
    if (!g->tensor)
        return -1;
    for (; g->n_tensors < n; g->n_tensors++)
        if (read_tensor(c, &g->tensor[g->n_tensors]))
            return -1;
    if (gguf_check_unique(g->tensor, n, sizeof *g->tensor, "tensor"))
        return -1;
    g->data = (c->at + g->alignment - 1) / g->alignment * g->alignment;
    return place_tensors(g, c);
}

/* ---- files ---- */

static int read_all(struct gguf *g, struct cursor *c)
{
    // the least bytes of a pair: key length, a letter, kind, a u8; of a tensor: one dimension
    enum { LEAST_PAIR = 8 + 1 + 4 + 1, LEAST_TENSOR = 8 + 1 + 4 + 8 + 4 + 8 };
    const char *magic = cursor_bytes(c, 4);
    if (magic && memcmp(magic, "GGUF", 4))
        return cursor_fail(c, "not a GGUF file");
    g->version = cursor_u32(c);
    if (!c->failed && g->version != 2 && g->version != 3)
        return cursor_fail(c, "version %u%s, 2 and 3 can be read", g->version,
                           g->version && !(g->version & 0xffff) ? " (big-endian?)" : "");
    const uint64_t n_tensors = cursor_count(c, LEAST_TENSOR, GGUF_COUNT, "tensors");
    const uint64_t n_pairs = cursor_count(c, LEAST_PAIR, GGUF_COUNT, "metadata pairs");
    if (c->failed || read_pairs(g, c, (size_t)n_pairs) || read_alignment(g, c))
        return -1;
    return read_tensors(g, c, (size_t)n_tensors);
}

int gguf_read(struct gguf *g, const void *bytes, size_t n)
{
    struct cursor c = {.base = bytes, .size = n};
    *g = (struct gguf){.base = bytes, .size = n};
    if (!read_all(g, &c))
        return 0;
    gguf_close(g);
    return -1;
}

void gguf_close(struct gguf *g)
{
    for (int i = 0; i < g->n_parts; i++)
        gguf_close(&g->part[i]);
    if (g->mapped)
        file_unmap(g->base, g->size);
    free(g->pair);
    free(g->tensor);
    free(g->part);
    *g = (struct gguf){0};
}

/* ---- access ---- */

static bool is(const struct gguf_string *s, const char *name)
{
    return s->n == strlen(name) && !memcmp(s->s, name, s->n);
}

const struct gguf_pair *gguf_find(const struct gguf *g, const char *key)
{
    for (size_t i = 0; i < g->n_pairs; i++)
        if (is(&g->pair[i].key, key))
            return &g->pair[i];
    return NULL;
}

const struct gguf_tensor *gguf_tensor(const struct gguf *g, const char *name)
{
    for (size_t i = 0; i < g->n_tensors; i++)
        if (is(&g->tensor[i].name, name))
            return &g->tensor[i];
    return NULL;
}

static double as_real(enum gguf_kind kind, uint64_t bits)
{
    const uint32_t low = (uint32_t)bits;
    float f;
    double d;
    memcpy(&f, &low, sizeof f);
    memcpy(&d, &bits, sizeof d);
    return kind == GGUF_F32 ? (double)f : d;
}

struct gguf_string gguf_text(const struct gguf_pair *p, struct cursor *c, char number[32])
{
    if (p->kind == GGUF_TEXT)
        return read_string(c, GGUF_STRING, "bytes of text");
    const int bytes = kinds[p->kind].bytes;
    const uint64_t x = bytes == 1   ? cursor_u8(c)
                       : bytes == 2 ? cursor_u16(c)
                       : bytes == 4 ? cursor_u32(c)
                                    : cursor_u64(c);
    const int shift = 64 - 8 * bytes;
    int n;
    if (p->kind == GGUF_BOOL)
        n = snprintf(number, 32, "%s", x ? "true" : "false");
    else if (p->kind == GGUF_F32 || p->kind == GGUF_F64)
        n = snprintf(number, 32, p->kind == GGUF_F32 ? "%.7g" : "%.15g", as_real(p->kind, x));
    else if (p->kind == GGUF_I8 || p->kind == GGUF_I16 || p->kind == GGUF_I32 ||
             p->kind == GGUF_I64)
        n = snprintf(number, 32, "%lld", (long long)((int64_t)(x << shift) >> shift));
    else
        n = snprintf(number, 32, "%llu", (unsigned long long)x);
    return (struct gguf_string){number, (size_t)n};
}
