#include "compress/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "autograd/base/cursor.h"
#include "autograd/base/err.h"
#include "autograd/base/file.h"
#include "autograd/base/mem.h"

static const struct safetensors_type types[] = {
#define TYPE(name, bits) {name, bits},
#include "compress/safetensors_types.def"
#undef TYPE
};

static const struct safetensors_type *find_type(const char *name)
{
    for (size_t i = 0; name && i < sizeof types / sizeof *types; i++)
        if (!strcmp(types[i].name, name))
            return &types[i];
    return NULL;
}

/* Errors and tables print names, so they must not move the cursor there. */
static int check_name(const char *name)
{
    for (const char *p = name; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            return err("a name with control characters");
    return 0;
}

/* ---- one tensor ---- */

static int read_shape(struct safetensors_tensor *t, const json_t *shape)
{
    const size_t nd = json_array_size(shape);
    if (!json_is_array(shape) || nd > SAFETENSORS_DIMS)
        return err("shape is not a list of at most %d numbers", SAFETENSORS_DIMS);
    t->nd = (int)nd;
    t->numel = 1;
    for (size_t i = 0; i < nd; i++) {
        const json_t *d = json_array_get(shape, i);
        if (!json_is_integer(d) || json_integer_value(d) < 0)
            return err("shape has what is no count");
        t->dim[i] = (uint64_t)json_integer_value(d);
        if (__builtin_mul_overflow(t->numel, t->dim[i], &t->numel))
            return err("more than 2^64 elements");
    }
    return 0;
}

static int read_offsets(struct safetensors_tensor *t, const json_t *offsets, uint64_t data_bytes)
{
    const json_t *b = json_array_get(offsets, 0), *e = json_array_get(offsets, 1);
    uint64_t bits;
    if (json_array_size(offsets) != 2 || !json_is_integer(b) || !json_is_integer(e) ||
        json_integer_value(b) < 0 || json_integer_value(e) < json_integer_value(b))
        return err("data_offsets is not [begin, end]");
    t->begin = (uint64_t)json_integer_value(b);
    t->end = (uint64_t)json_integer_value(e);
    if (t->end > data_bytes)
        return err("data ends at %llu, there are %llu bytes", (unsigned long long)t->end,
                   (unsigned long long)data_bytes);
    if (__builtin_mul_overflow(t->numel, (uint64_t)t->type->bits, &bits) || bits % 8 ||
        bits / 8 != t->end - t->begin)
        return err("%llu elements of %s do not make %llu bytes", (unsigned long long)t->numel,
                   t->type->name, (unsigned long long)(t->end - t->begin));
    return 0;
}

static int read_tensor(struct safetensors_tensor *t, const char *name, const json_t *info,
                       uint64_t data_bytes)
{
    const char *dtype = json_string_value(json_object_get(info, "dtype"));
    t->name = name;
    t->type = find_type(dtype);
    if (!json_is_object(info) || !dtype)
        return err("no dtype");
    if (check_name(dtype))
        return err_in("dtype");
    if (!t->type)
        return err("dtype '%.20s' is unknown to this program", dtype);
    return read_shape(t, json_object_get(info, "shape")) ||
                   read_offsets(t, json_object_get(info, "data_offsets"), data_bytes)
               ? -1
               : 0;
}

/* ---- the header ---- */

static int read_notes(struct safetensors *s, json_t *notes)
{
    const char *key;
    json_t *value;
    s->note = mem_new(json_object_size(notes), sizeof *s->note);
    if (!s->note)
        return -1;
    if (!json_is_object(notes))
        return err("__metadata__ is no object");
    json_object_foreach(notes, key, value)
    {
        if (check_name(key))
            return err_in("__metadata__");
        if (!json_is_string(value))
            return err("__metadata__: '%.100s' is no text", key);
        s->note[s->n_notes++] = (struct safetensors_note){key, json_string_value(value)};
    }
    return 0;
}

static int by_place(const void *a, const void *b)
{
    const struct safetensors_tensor *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin > y->begin ? 1 : -1;
    return (x->end > y->end) - (x->end < y->end);
}

static int check_cover(const struct safetensors *s)
{
    uint64_t at = 0;
    for (size_t i = 0; i < s->n; i++) {
        const struct safetensors_tensor *t = &s->tensor[i];
        if (t->begin != at)
            return err("tensor '%.100s' starts at %llu, %llu is expected", t->name,
                       (unsigned long long)t->begin, (unsigned long long)at);
        at = t->end;
    }
    return at == s->size - s->data
               ? 0
               : err("the tensors end at %llu, the data has %llu bytes", (unsigned long long)at,
                     (unsigned long long)(s->size - s->data));
}

static int read_header(struct safetensors *s, json_t *root)
{
    const char *name;
    json_t *info;
    if (!json_is_object(root))
        return err("the header is no object");
    if (json_object_size(root) > SAFETENSORS_COUNT)
        return err("%zu tensors, %d can be read", json_object_size(root), SAFETENSORS_COUNT);
    s->tensor = mem_new(json_object_size(root), sizeof *s->tensor);
    if (!s->tensor)
        return -1;
    json_object_foreach(root, name, info)
    {
        if (!strcmp(name, "__metadata__")) {
            if (read_notes(s, info))
                return -1;
            continue;
        }
        if (check_name(name))
            return -1;
        if (read_tensor(&s->tensor[s->n++], name, info, s->size - s->data))
            return err_in("tensor '%.100s'", name);
    }
    qsort(s->tensor, s->n, sizeof *s->tensor, by_place);
    return check_cover(s);
}

/* ---- files ---- */

static int read_bytes(int fd, char *p, size_t n)
{
    const ssize_t got = file_fill(fd, p, n, -1);
    if (got < 0)
        return err("%s", strerror(errno));
    return (size_t)got < n ? err("the file is cut off") : 0;
}

static int read_file(struct safetensors *s, int fd)
{
    struct stat st;
    unsigned char length[8];
    json_error_t error;
    if (fstat(fd, &st))
        return err("%s", strerror(errno));
    if (!S_ISREG(st.st_mode))
        return err("not a file");
    if (read_bytes(fd, (char *)length, sizeof length))
        return -1;
    struct cursor c = {.base = length, .size = sizeof length};
    const uint64_t n = cursor_u64(&c);
    s->size = (uint64_t)st.st_size;
    if (s->size < sizeof length || n > s->size - sizeof length)
        return err("a header of %llu bytes in a file of %llu: not a safetensors file, or cut off",
                   (unsigned long long)n, (unsigned long long)s->size);
    if (n > SAFETENSORS_HEADER || n < 2)
        return err("a header of %llu bytes: 2 to %d are possible", (unsigned long long)n,
                   SAFETENSORS_HEADER);
    s->data = sizeof length + n;
    char *text = mem_new((size_t)n, 1);
    if (!text)
        return -1;
    int rc = read_bytes(fd, text, (size_t)n);
    if (!rc && *text != '{')
        rc = err("the header does not start with {");
    if (!rc && !(s->json = json_loadb(text, (size_t)n, JSON_REJECT_DUPLICATES, &error)))
        rc = err("header: byte %d: %.*s", error.position, (int)strcspn(error.text, "'"),
                 error.text); // what is near may hold anything
    free(text);
    return rc ? rc : read_header(s, s->json);
}

int safetensors_open(struct safetensors *s, const char *path)
{
    *s = (struct safetensors){0};
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err("%s: %s", path, strerror(errno));
    int rc = read_file(s, fd);
    close(fd);
    if (rc)
        rc = err_in("%s", path);
    const void *map;
    size_t n;
    if (!rc && !(rc = file_map(path, &map, &n))) {
        s->map = map;
        s->mapped = n;
        if (n != s->size)
            rc = err("%s: another process writes to it", path);
    }
    if (rc)
        safetensors_close(s);
    return rc;
}

void safetensors_close(struct safetensors *s)
{
    free(s->tensor);
    free(s->note);
    json_decref(s->json);
    if (s->map)
        file_unmap(s->map, s->mapped);
    *s = (struct safetensors){0};
}

const struct safetensors_tensor *safetensors_find(const struct safetensors *s, const char *name)
{
    for (size_t i = 0; i < s->n; i++)
        if (!strcmp(s->tensor[i].name, name))
            return &s->tensor[i];
    return NULL;
}

const unsigned char *safetensors_bytes(const struct safetensors *s,
                                       const struct safetensors_tensor *t)
{
    return s->map + s->data + t->begin;
}
