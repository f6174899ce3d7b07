/* libFuzzer: any bytes as a GGUF file. What is accepted can be walked, says where its tensors lie
   within the bytes, and is written again as the same; a model of it, or a tokenizer, is made or
   refused. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/err.h"
#include "compress/gguf.h"
#include "compress/quantize.h"
#include "experiments/model_gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk(const struct gguf *g)
{
    for (size_t i = 0; i < g->n_pairs; i++) {
        struct cursor c = {.base = g->pair[i].data, .size = g->pair[i].bytes};
        char number[32];
        for (uint64_t k = 0; k < g->pair[i].n; k++)
            gguf_text(&g->pair[i], &c, number);
        if (c.failed || cursor_left(&c))
            BUG("pair %zu cannot be walked", i);
    }
    for (size_t i = 0; i < g->n_tensors; i++)
        if (g->tensor[i].bytes > g->size - g->data ||
            g->tensor[i].offset > g->size - g->data - g->tensor[i].bytes ||
            g->tensor[i].data != g->base + g->data + g->tensor[i].offset)
            BUG("tensor %zu lies outside", i);
}

/* Plans of every kind of mix, and the new file's header. */
static void plan(const struct gguf *g)
{
    static const char *const types[] = {"Q4_K_M", "Q2_K", "Q8_0", "F16"};
    const char *arch = model_gguf_arch(g, &(enum arch){0});
    for (size_t i = 0; arch && i < sizeof types / sizeof *types; i++) {
        struct recipe r;
        struct quantize_plan p;
        if (recipe_init(&r, &(struct recipe_options){.type = types[i]}))
            BUG("%s", err_text());
        if (!quantize_plan(&p, g, arch, &r, false, true)) {
            struct gguf_write w = {0};
            quantize_declare(&p, &w, NULL, NULL);
            if (!w.failed && gguf_write_size(&w) < p.new_bytes)
                BUG("the new file is smaller than its tensors");
            gguf_write_abandon(&w);
            quantize_plan_free(&p);
        }
        recipe_free(&r);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct transformer_dims dims;
    struct gguf g;
    if (gguf_parse(&g, data, size))
        return 0;
    walk(&g);
    plan(&g);
    (void)model_gguf_dims(&g, &dims);
    tokenizer_free(model_gguf_tokenizer(&g));
    gguf_close(&g);
    return 0;
}
