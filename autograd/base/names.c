#include "autograd/base/names.h"

void names_add(struct names *l, const char *s, size_t n)
{
    if (l->n++ < NAMES_SHOWN)
        buf_printf(&l->text, "%s'%.*s'", l->n > 1 ? ", " : "",
                   (int)(n < NAMES_LENGTH ? n : NAMES_LENGTH), s);
}

const char *names_text(struct names *l)
{
    if (l->n > NAMES_SHOWN)
        buf_printf(&l->text, " and %d more", l->n - NAMES_SHOWN);
    return l->text.p ? l->text.p : "";
}

void names_free(struct names *l)
{
    buf_free(&l->text);
    l->n = 0;
}
