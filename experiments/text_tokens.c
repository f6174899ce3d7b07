#include "experiments/text_tokens.h"

#include <string.h>

#include "autograd/base/err.h"
#include "datasets/stream.h"

enum { TEXT_MOST = 1 << 30, BLOCK = 1 << 16 };

/* The text without the newline at its end, as llama.cpp reads files. */
static int read_text(const char *path, struct buf *text)
{
    struct stream *s;
    const size_t n = strlen(path);
    static char block[BLOCK];
    size_t got = 0;
    if (stream_open(&s, path, n > 3 && !strcmp(path + n - 3, ".xz"), NULL))
        return -1;
    int rc = 0;
    do {
        rc = stream_read(s, block, sizeof block, &got);
        if (!rc)
            buf_add(text, block, got);
        if (text->failed)
            rc = -1;
        if (!rc && text->n > TEXT_MOST)
            rc = err("%s: more than 1 GiB of text", path);
    } while (got && !rc);
    stream_close(s);
    if (!rc && text->n && text->p[text->n - 1] == '\n')
        text->n--;
    return rc;
}

int text_tokens(const char *path, const struct tokenizer *t, struct tokens *out)
{
    struct buf text = {0};
    const int32_t bos = tokenizer_bos(t);
    int rc = read_text(path, &text);
    if (!rc && bos >= 0)
        rc = tokens_add(out, &bos, 1);
    if (!rc)
        rc = tokenizer_encode(t, text.p ? text.p : "", text.n, false, out);
    buf_free(&text);
    return rc;
}
