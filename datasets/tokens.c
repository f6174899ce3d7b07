#include "datasets/tokens.h"

#include <stdlib.h>
#include <string.h>

#include "autograd/base/mem.h"

int tokens_add(struct tokens *t, const int32_t *id, size_t n)
{
    if (mem_grow(&t->id, &t->cap, t->n + n, sizeof *t->id))
        return -1;
    if (n)
        memcpy(t->id + t->n, id, n * sizeof *id);
    t->n += n;
    return 0;
}

void tokens_free(struct tokens *t)
{
    free(t->id);
    *t = (struct tokens){0};
}
