/* libFuzzer: any bytes as a tokenizer.json; one that is read encodes and decodes the same bytes and
   is written so that it reads back. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "datasets/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tokenizer *t = tokenizer_parse((const char *)data, size);
    if (!t)
        return 0;
    struct tokens ids = {0};
    struct buf text = {0}, json = {0}, again = {0};
    if (tokenizer_encode(t, (const char *)data, size, true, &ids) ||
        tokenizer_decode(t, ids.id, ids.n, &text) || tokenizer_write(t, &json))
        abort();
    struct tokenizer *u = tokenizer_parse(json.p, json.n);
    if (!u || tokenizer_write(u, &again) || strcmp(json.p, again.p) != 0)
        abort();
    tokens_free(&ids);
    buf_free(&text);
    buf_free(&json);
    buf_free(&again);
    tokenizer_free(t);
    tokenizer_free(u);
    return 0;
}
