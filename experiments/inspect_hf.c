/* A Hugging Face folder: what the model is, or why it cannot be used; its tokenizer; its tensors.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/mem.h"
#include "experiments/import_hf.h"
#include "experiments/inspect.h"

/* What an import would say, in as many lines as it takes. */
static void print_refusal(struct buf *out, const char *label)
{
    enum { WIDE = INSPECT_WIDTH - 2 };
    const char *text = err_text();
    inspect_line(out, label, "cannot be used");
    for (size_t n = strlen(text), k; n; text += k, n -= k) {
        const char *space = n > WIDE ? memrchr(text, ' ', WIDE) : NULL;
        k = space ? (size_t)(space - text) + 1 : n < WIDE ? n : WIDE;
        buf_text(out, "  ");
        inspect_text(out, text, k, WIDE);
        buf_text(out, "\n");
    }
}

static void print_shards(struct buf *out, const struct import_hf_shards *s)
{
    struct buf size = {0};
    double bytes = 0, elements = 0;
    size_t tensors = 0;
    for (size_t i = 0; i < s->n; i++) {
        bytes += (double)s->file[i].size;
        tensors += s->file[i].n;
        for (size_t k = 0; k < s->file[i].n; k++)
            elements += (double)s->file[i].tensor[k].numel;
    }
    inspect_file_bytes(&size, bytes);
    inspect_line(out, "safetensors", "%s in %zu file%s, %zu tensors with %.0f elements",
                 size.p ? size.p : "", s->n, s->n == 1 ? "" : "s", tensors, elements);
    buf_free(&size);
}

static int print_tensors(struct buf *out, const struct import_hf_shards *s)
{
    size_t n = 0, at = 0;
    for (size_t i = 0; i < s->n; i++)
        n += s->file[i].n;
    struct inspect_tensor *row = mem_new(n, sizeof *row);
    if (!row)
        return -1;
    for (size_t i = 0; i < s->n; i++)
        for (size_t k = 0; k < s->file[i].n; k++)
            inspect_safetensors_row(&row[at++], &s->file[i].tensor[k]);
    inspect_tensors(out, row, n);
    free(row);
    return 0;
}

int inspect_hf(const char *folder, struct buf *out)
{
    struct transformer_dims d;
    struct import_hf_shards s;
    if (import_hf_open(&s, folder)) {
        import_hf_close(&s);
        return -1;
    }
    print_shards(out, &s);
    buf_text(out, "\n");
    if (import_hf_read_dims(folder, &d)) {
        print_refusal(out, "model");
    } else {
        import_hf_settle_head(&s, &d);
        inspect_dims(out, &d);
    }
    buf_text(out, "\n");
    struct tokenizer *t = import_hf_tokenizer(folder);
    if (t)
        inspect_tokenizer_of(out, t);
    else
        print_refusal(out, "tokenizer");
    tokenizer_free(t);
    buf_text(out, "\n");
    const int rc = print_tensors(out, &s);
    import_hf_close(&s);
    return rc;
}
