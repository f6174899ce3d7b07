#include "compress/gguf_meta.h"

#include <math.h>
#include <string.h>

/* -1: what is wrong with the value of p. */
static int wrong(const struct gguf *g, const struct gguf_pair *p, const char *want)
{
    return err("byte %zu: metadata '%.*s' is %s%s, %s is expected", (size_t)(p->data - g->base),
               (int)p->key.n, p->key.s, p->list ? "a list of " : "", gguf_kind_name(p->kind), want);
}

static int out_of_range(const struct gguf *g, const struct gguf_pair *p, int64_t x, int64_t min,
                        int64_t max)
{
    return err("byte %zu: metadata '%.*s' is %lld, not from %lld to %lld",
               (size_t)(p->data - g->base), (int)p->key.n, p->key.s, (long long)x, (long long)min,
               (long long)max);
}

/* Element i of p as a whole number; false if its kind is none, or it is above INT64_MAX. */
static bool whole(const struct gguf_pair *p, uint64_t i, int64_t *x)
{
    switch (p->kind) {
    case GGUF_U8:
        *x = p->data[i];
        return true;
    case GGUF_I8:
        *x = (int8_t)p->data[i];
        return true;
    case GGUF_U16:
    case GGUF_I16: {
        uint16_t v;
        memcpy(&v, p->data + 2 * i, sizeof v);
        *x = p->kind == GGUF_I16 ? (int64_t)(int16_t)v : (int64_t)v;
        return true;
    }
    case GGUF_U32:
    case GGUF_I32: {
        uint32_t v;
        memcpy(&v, p->data + 4 * i, sizeof v);
        *x = p->kind == GGUF_I32 ? (int64_t)(int32_t)v : (int64_t)v;
        return true;
    }
    case GGUF_U64:
    case GGUF_I64:
        memcpy(x, p->data + 8 * i, sizeof *x);
        return p->kind == GGUF_I64 || *x >= 0;
    default:
        return false;
    }
}

int gguf_meta_int(const struct gguf *g, const char *key, int64_t min, int64_t max, int64_t *value)
{
    const struct gguf_pair *p = gguf_find(g, key);
    int64_t x;
    if (!p)
        return 1;
    if (p->list || !whole(p, 0, &x))
        return wrong(g, p, "a whole number");
    if (x < min || x > max)
        return out_of_range(g, p, x, min, max);
    *value = x;
    return 0;
}

int gguf_meta_ints(const struct gguf *g, const char *key, int64_t min, int64_t max, size_t n,
                   int *list)
{
    const struct gguf_pair *p = gguf_find(g, key);
    if (!p)
        return 1;
    if (p->list && p->n != n)
        return err("byte %zu: metadata '%.*s' is a list of %llu, %zu are expected",
                   (size_t)(p->data - g->base), (int)p->key.n, p->key.s, (unsigned long long)p->n,
                   n);
    for (size_t i = 0; i < n; i++) {
        int64_t x;
        if (!whole(p, p->list ? i : 0, &x))
            return wrong(g, p, "whole numbers");
        if (x < min || x > max)
            return out_of_range(g, p, x, min, max);
        list[i] = (int)x;
    }
    return 0;
}

int gguf_meta_real(const struct gguf *g, const char *key, double *value)
{
    const struct gguf_pair *p = gguf_find(g, key);
    int64_t x;
    double d;
    if (!p)
        return 1;
    if (p->list)
        return wrong(g, p, "a number");
    if (p->kind == GGUF_F32) {
        float f;
        memcpy(&f, p->data, sizeof f);
        d = (double)f;
    } else if (p->kind == GGUF_F64) {
        memcpy(&d, p->data, sizeof d);
    } else if (whole(p, 0, &x)) {
        d = (double)x;
    } else {
        return wrong(g, p, "a number");
    }
    if (!isfinite(d))
        return err("byte %zu: metadata '%.*s' is %g", (size_t)(p->data - g->base), (int)p->key.n,
                   p->key.s, d);
    *value = d;
    return 0;
}

int gguf_meta_bool(const struct gguf *g, const char *key, bool *value)
{
    const struct gguf_pair *p = gguf_find(g, key);
    if (!p)
        return 1;
    if (p->list || p->kind != GGUF_BOOL)
        return wrong(g, p, "true or false");
    *value = *p->data != 0;
    return 0;
}

int gguf_meta_text(const struct gguf *g, const char *key, struct gguf_string *value)
{
    const struct gguf_pair *p = gguf_find(g, key);
    if (!p)
        return 1;
    if (p->list || p->kind != GGUF_TEXT)
        return wrong(g, p, "a text");
    struct cursor c = {.base = p->data, .size = p->bytes};
    char number[32];
    *value = gguf_text(p, &c, number);
    return 0;
}

int gguf_meta_list(const struct gguf *g, const char *key, enum gguf_kind kind, uint64_t n,
                   const struct gguf_pair **list)
{
    const struct gguf_pair *p = gguf_find(g, key);
    if (!p)
        return 1;
    if (!p->list || p->kind != kind) {
        char want[64] = "a list of ";
        strncat(want, gguf_kind_name(kind), sizeof want - strlen(want) - 1);
        return wrong(g, p, want);
    }
    if (n && p->n != n)
        return err("byte %zu: metadata '%.*s' is a list of %llu, %llu are expected",
                   (size_t)(p->data - g->base), (int)p->key.n, p->key.s, (unsigned long long)p->n,
                   (unsigned long long)n);
    *list = p;
    return 0;
}
