/* One timing of each, as JSON: bench_tokenizer TEXT VOCAB_SIZE [TOKENIZER.json|GGUF]
   trains on the documents of TEXT (parted by blank lines), or loads, and encodes them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/clock.h"
#include "autograd/base/err.h"
#include "autograd/base/file.h"
#include "datasets/bpe_train.h"
#include "experiments/model_tokenizer.h"

/* Bytes of the document that s [n] starts with, its blank line included. */
static size_t document(const char *s, size_t n)
{
    const char *end = memmem(s, n, "\n\n", 2);
    return end ? (size_t)(end - s) + 2 : n;
}

static int fail(void)
{
    fprintf(stderr, "bench_tokenizer: %s\n", err_text());
    return 1;
}

int main(int argc, char **argv)
{
    struct buf s = {0};
    struct tokens ids = {0};
    if (argc < 3)
        return 2;
    if (file_read(argv[1], (size_t)1 << 30, &s))
        return fail();
    const double start = clock_seconds();
    struct tokenizer *t;
    if (argc > 3) {
        t = model_tokenizer(argv[3]);
    } else {
        struct bpe_train *b = bpe_train_new("gpt-2", atoi(argv[2]), NULL);
        for (size_t i = 0, len; b && i < s.n; i += len) {
            len = document(s.p + i, s.n - i);
            if (bpe_train_add(b, s.p + i, len))
                return fail();
        }
        t = b ? bpe_train_finish(b) : NULL;
    }
    if (!t)
        return fail();
    const double made = clock_seconds();
    for (size_t i = 0, len; i < s.n; i += len) {
        len = document(s.p + i, s.n - i);
        if (tokenizer_encode(t, s.p + i, len, false, &ids))
            return fail();
    }
    const double end = clock_seconds();
    printf("{\"make_s\": %.6f, \"encode_s\": %.6f, \"tokens\": %zu}\n", made - start, end - made,
           ids.n);
    tokens_free(&ids);
    tokenizer_free(t);
    buf_free(&s);
    return 0;
}
