#include "datasets/charset.h"

#include <stdlib.h>
#include <string.h>

#include "autograd/base/mem.h"

struct charset_slot {
    uint32_t code; /* 0: empty, as ASCII is never here */
    int32_t symbol;
};

enum { SLOTS = 256, ASCII = 128 };

static struct charset_slot *slot_of(const struct charset *c, uint32_t code)
{
    const uint32_t mixed = code * 0x9e3779b1u;
    for (size_t i = (mixed ^ mixed >> 16) & (c->n_slots - 1);; i = (i + 1) & (c->n_slots - 1))
        if (!c->slot[i].code || c->slot[i].code == code)
            return &c->slot[i];
}

int charset_init(struct charset *c, int32_t first)
{
    *c = (struct charset){.n_slots = SLOTS, .first = first};
    memset(c->ascii, 0xff, sizeof c->ascii);
    c->slot = mem_new(c->n_slots, sizeof *c->slot);
    return c->slot ? 0 : -1;
}

void charset_free(struct charset *c)
{
    free(c->slot);
    free(c->code);
    *c = (struct charset){0};
}

static int grow(struct charset *c)
{
    const struct charset old = *c;
    if (2 * (c->n + 1) <= c->n_slots)
        return 0;
    struct charset_slot *slot = mem_new(2 * old.n_slots, sizeof *slot);
    if (!slot)
        return -1;
    c->slot = slot;
    c->n_slots *= 2;
    for (size_t i = 0; i < old.n_slots; i++)
        if (old.slot[i].code)
            *slot_of(c, old.slot[i].code) = old.slot[i];
    free(old.slot);
    return 0;
}

int charset_add(struct charset *c, uint32_t code, int32_t symbol)
{
    if (charset_find(c, code) >= 0)
        return 0;
    if (grow(c))
        return -1;
    if (symbol < 0) {
        if (mem_grow(&c->code, &c->cap_code, c->n_code + 1, sizeof *c->code))
            return -1;
        symbol = c->first + (int32_t)c->n_code;
        c->code[c->n_code++] = code;
    }
    if (code < ASCII) {
        c->ascii[code] = symbol;
    } else {
        *slot_of(c, code) = (struct charset_slot){code, symbol};
        c->n++;
    }
    return 0;
}

int32_t charset_find(const struct charset *c, uint32_t code)
{
    if (code < ASCII)
        return c->ascii[code];
    const struct charset_slot *s = slot_of(c, code);
    return s->code ? s->symbol : -1;
}
