#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/mem.h"
#include "compress/safetensors.h"
#include "experiments/inspect.h"

void inspect_safetensors_row(struct inspect_tensor *row, const struct safetensors_tensor *t)
{
    size_t at = 0;
    *row = (struct inspect_tensor){.name = t->name,
                                   .name_n = strlen(t->name),
                                   .bytes = (double)(t->end - t->begin)};
    if (!t->nd)
        snprintf(row->shape, sizeof row->shape, "one number");
    for (int d = 0; d < t->nd && at < sizeof row->shape; d++)
        at += (size_t)snprintf(row->shape + at, sizeof row->shape - at, d ? " x %llu" : "%llu",
                               (unsigned long long)t->dim[d]);
    snprintf(row->type, sizeof row->type, "%s", t->type->name);
}

static int print_tensors(struct buf *out, const struct safetensors *s)
{
    struct inspect_tensor *row = mem_new(s->n, sizeof *row);
    if (!row)
        return -1;
    for (size_t i = 0; i < s->n; i++)
        inspect_safetensors_row(&row[i], &s->tensor[i]);
    inspect_tensors(out, row, s->n);
    free(row);
    return 0;
}

int inspect_safetensors(const char *path, struct buf *out)
{
    struct safetensors s;
    struct buf size = {0};
    double elements = 0;
    if (safetensors_open(&s, path))
        return -1;
    for (size_t i = 0; i < s.n; i++)
        elements += (double)s.tensor[i].numel;
    inspect_file_bytes(&size, (double)s.size);
    inspect_line(out, "safetensors", "%s, a header of %llu bytes", size.p ? size.p : "",
                 (unsigned long long)(s.data - 8));
    inspect_line(out, "tensors", "%zu with %.0f elements", s.n, elements);
    for (size_t i = 0; i < s.n_notes; i++) {
        const size_t key = strlen(s.note[i].key);
        buf_text(out, "  ");
        inspect_text(out, s.note[i].key, key, 40);
        buf_text(out, ": ");
        inspect_text(out, s.note[i].text, strlen(s.note[i].text), 54);
        buf_text(out, "\n");
    }
    buf_text(out, "\n");
    const int rc = print_tensors(out, &s);
    buf_free(&size);
    safetensors_close(&s);
    return rc;
}
