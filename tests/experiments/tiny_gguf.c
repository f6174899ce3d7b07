#include "tests/experiments/tiny_gguf.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "compress/codecs/codecs.h"
#include "datasets/bytelevel.h"

enum { TOKENS = 257 };

/* Is it what is left out, or does it begin so ("blk.1.*")? */
static bool skips(const struct tiny_gguf *g, const char *name)
{
    const size_t n = g->skip ? strlen(g->skip) : 0;
    return n && (g->skip[n - 1] == '*' ? !strncmp(g->skip, name, n - 1) : !strcmp(g->skip, name));
}

/* "%s.name" with the architecture's; NULL: left out */
static const char *key(const struct tiny_gguf *g, const char *name)
{
    static char text[128];
    snprintf(text, sizeof text, name, arch_rows[g->m->dims.arch].name);
    return skips(g, text) ? NULL : text;
}

static void number(struct gguf_write *w, const struct tiny_gguf *g, const char *name, int x)
{
    if (key(g, name))
        gguf_write_u32(w, key(g, name), (uint32_t)x);
}

static void layers(struct gguf_write *w, const struct tiny_gguf *g, const char *name, const int *x)
{
    if (key(g, name))
        gguf_write_list(w, key(g, name), GGUF_I32, (size_t)g->m->dims.n_layers, x);
}

static void real(struct gguf_write *w, const struct tiny_gguf *g, const char *name, double x)
{
    if (key(g, name))
        gguf_write_f32(w, key(g, name), (float)x);
}

static void tokenizer(struct gguf_write *w, const struct tiny_gguf *g)
{
    int32_t type[TOKENS];
    struct buf text = {0};
    if (key(g, "tokenizer.ggml.model"))
        gguf_write_text(w, "tokenizer.ggml.model", "gpt2");
    if (key(g, "tokenizer.ggml.pre"))
        gguf_write_text(w, "tokenizer.ggml.pre", "gpt-2");
    if (key(g, "tokenizer.ggml.tokens"))
        gguf_write_texts(w, "tokenizer.ggml.tokens", TOKENS);
    for (int i = 0; i < TOKENS && key(g, "tokenizer.ggml.tokens"); i++) {
        buf_clear(&text);
        if (i < 256)
            bytelevel_encode(&text, &(char){(char)i}, 1);
        else
            buf_text(&text, "<|endoftext|>");
        gguf_write_item(w, text.p, text.n);
    }
    for (int i = 0; i < TOKENS; i++)
        type[i] = i < 256 ? 1 : 3;
    if (key(g, "tokenizer.ggml.token_type"))
        gguf_write_list(w, "tokenizer.ggml.token_type", GGUF_I32, TOKENS, type);
    if (key(g, "tokenizer.ggml.merges"))
        gguf_write_texts(w, "tokenizer.ggml.merges", 0);
    number(w, g, "tokenizer.ggml.eos_token_id", 256);
    buf_free(&text);
}

static void metadata(struct gguf_write *w, const struct tiny_gguf *g)
{
    const struct transformer_dims *d = &g->m->dims;
    const bool norms = arch_rows[d->arch].traits & ARCH_LAYERNORM;
    if (key(g, "general.architecture"))
        gguf_write_text(w, "general.architecture", arch_rows[d->arch].name);
    number(w, g, "%s.context_length", d->context);
    number(w, g, "%s.embedding_length", d->d_model);
    number(w, g, "%s.block_count", d->n_layers);
    layers(w, g, "%s.feed_forward_length", d->d_ff);
    layers(w, g, "%s.attention.head_count", d->n_heads);
    layers(w, g, "%s.attention.head_count_kv", d->n_kv_heads);
    number(w, g, "%s.attention.key_length", d->head_dim);
    number(w, g, "%s.attention.value_length", d->head_dim);
    real(w, g, norms ? "%s.attention.layer_norm_epsilon" : "%s.attention.layer_norm_rms_epsilon",
         d->norm_eps);
    if (d->rope.base > 0)
        real(w, g, "%s.rope.freq_base", d->rope.base);
    tokenizer(w, g);
    if (g->more)
        g->more(w, g->arg);
}

static const struct dtype *type_of(const struct tiny_gguf *g, const struct param *p)
{
    const struct dtype *dt = p->used.nd > 1 ? g->matrices : g->vectors;
    return dt ? dt : &dtype_f32;
}

/* q8_0 as its definition says: 32 whole numbers times an f16, the largest is 127. */
static void encode_q8_0(const struct tensor *t, int64_t row, const float *x)
{
    for (int64_t b = 0; b < tensor_cols(t) / 32; b++, x += 32) {
        unsigned char *out = (unsigned char *)t->data + (size_t)row * tensor_row_bytes(t) + b * 34;
        struct tensor scale = {.dt = &dtype_f16, .nd = 1, .dim = {1}, .data = out};
        float most = 0;
        for (int i = 0; i < 32; i++)
            most = fmaxf(most, fabsf(x[i]));
        dtype_f16.encode(&scale, 0, &(float){most / 127}, NULL);
        for (int i = 0; i < 32; i++)
            out[2 + i] = (unsigned char)(signed char)lrintf(most > 0 ? x[i] / most * 127 : 0);
    }
}

static int write_data(struct gguf_write *w, const struct tiny_gguf *g, const struct param *p)
{
    struct tensor t = p->used;
    t.dt = type_of(g, p);
    t.data = calloc(1, tensor_bytes(&t));
    for (int64_t r = 0; r < tensor_rows(&t); r++)
        if (t.dt == codecs_find("q8_0"))
            encode_q8_0(&t, r, p->latent + r * tensor_cols(&t));
        else
            t.dt->encode(&t, r, p->latent + r * tensor_cols(&t), NULL);
    const int rc = gguf_write_data(w, t.data, tensor_bytes(&t));
    free(t.data);
    return rc;
}

void tiny_gguf_save(const char *path, const struct tiny_gguf *g)
{
    struct gguf_write w = {0};
    const struct store *s = &g->m->store;
    metadata(&w, g);
    for (int i = 0; i < s->n; i++) {
        const struct tensor *t = &s->p[i].used;
        const uint64_t dim[] = {(uint64_t)tensor_cols(t), (uint64_t)tensor_rows(t)};
        if (!skips(g, s->p[i].name))
            gguf_write_tensor(&w, s->p[i].name, gguf_type((uint32_t)type_of(g, &s->p[i])->gguf_id),
                              t->nd, dim);
    }
    if (g->extra)
        gguf_write_tensor(&w, g->extra, gguf_type(0), 1, &g->n_extra);
    if (gguf_write_open(&w, path))
        fail_msg("%s", err_text());
    for (int i = 0; i < s->n; i++)
        if (!skips(g, s->p[i].name))
            assert_int_equal(write_data(&w, g, &s->p[i]), 0);
    if (g->extra)
        assert_int_equal(gguf_write_data(&w, g->extra_data, g->n_extra * sizeof(float)), 0);
    if (gguf_write_commit(&w))
        fail_msg("%s", err_text());
}
