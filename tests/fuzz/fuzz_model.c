/* libFuzzer: what stands in front of somebody's weights. By the first byte: 0 a GGUF file's
   metadata as dims and tokenizer, 1 a tokenizer.model, 2 a config.json, 3 a tokenizer_config.json.
   No input may crash; a tokenizer that is made works, and survives being written. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/err.h"
#include "datasets/tokenizer_files.h"
#include "experiments/import_hf.h"
#include "experiments/model_gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(struct tokenizer *t, const char *text, size_t n)
{
    struct tokens ids = {0};
    struct buf back = {0}, json = {0}, again = {0};
    if (!t)
        return;
    if (tokenizer_encode(t, text, n, true, &ids) || tokenizer_decode(t, ids.id, ids.n, &back) ||
        tokenizer_write(t, &json))
        BUG("%s", err_text());
    struct tokenizer *u = tokenizer_parse(json.p, json.n);
    // texts that are no UTF-8 become others in JSON, which may then be the same
    if (u && tokenizer_write(u, &again))
        BUG("%s", err_text());
    tokens_free(&ids);
    buf_free(&back);
    buf_free(&json);
    buf_free(&again);
    tokenizer_free(t);
    tokenizer_free(u);
}

static void gguf(const uint8_t *data, size_t n)
{
    struct gguf g;
    struct transformer_dims d;
    if (gguf_parse(&g, data, n))
        return;
    model_gguf_dims(&g, &d);
    use(model_gguf_tokenizer(&g), (const char *)data, n);
    gguf_close(&g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct transformer_dims d;
    if (!size)
        return 0;
    // a copy, so that reading behind its end is seen
    const size_t n = size - 1;
    uint8_t *rest = malloc(n + 1);
    if (!rest)
        return 0;
    memcpy(rest, data + 1, n);
    uint8_t *exact = realloc(rest, n ? n : 1);
    rest = exact ? exact : rest;
    if (data[0] == 0)
        gguf(rest, n);
    else if (data[0] == 1)
        use(tokenizer_files_model(rest, n, NULL, 0), (const char *)rest, n);
    else if (data[0] == 2)
        import_hf_dims((const char *)rest, n, &d);
    else if (data[0] == 3) {
        struct tokenizer *t = tokenizer_new_byte();
        if (t)
            tokenizer_files_config(t, (const char *)rest, n);
        tokenizer_free(t);
    }
    free(rest);
    return 0;
}
