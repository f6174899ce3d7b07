#include "experiments/text_tokens.h"

#include "autograd/base/err.h"
#include "autograd/base/file.h"
#include "datasets/stream.h"

enum { TEXT_MOST = 1 << 30, BLOCK = 1 << 16 };

/* The text without the newline at its end, as llama.cpp reads files. */
static int read_text(const char *path, struct buf *text)
{
    struct stream *s;
    static char block[BLOCK];
    size_t got = 0;
    if (stream_open_argument(&s, path))
        return -1;
    int rc = 0;
    do {
        rc = stream_read(s, block, sizeof block, &got);
        if (!rc)
            buf_add(text, block, got);
        if (text->failed)
            rc = -1;
        if (!rc && text->n > TEXT_MOST)
            rc = err("%s: more than 1 GiB of text", file_argument_name(path));
    } while (got && !rc);
    stream_close(s);
    if (!rc && text->n && text->p[text->n - 1] == '\n')
        text->n--;
    return rc;
}

static void warn_of_special(const char *path, const struct tokenizer *t, const struct buf *text)
{
    size_t n;
    int32_t one = -1;
    const int64_t count = tokenizer_count_special(t, text->p ? text->p : "", text->n, &one);
    if (!count)
        return;
    const char *first = tokenizer_bytes(t, one, &n);
    err_warn("%s spells out special tokens in %lld places (the first is %.*s): they are taken as "
             "plain text, as llama.cpp's tools do (imatrix has --parse-special)",
             file_argument_name(path), (long long)count, (int)n, first);
}

int text_tokens(const char *path, const struct tokenizer *t, bool parse_special, struct tokens *out)
{
    struct buf text = {0};
    const int32_t bos = tokenizer_bos(t);
    int rc = read_text(path, &text);
    if (!rc && bos >= 0)
        rc = tokens_add(out, &bos, 1);
    if (!rc)
        rc = tokenizer_encode(t, text.p ? text.p : "", text.n, parse_special, out);
    if (!rc && !parse_special)
        warn_of_special(path, t, &text);
    buf_free(&text);
    return rc;
}
