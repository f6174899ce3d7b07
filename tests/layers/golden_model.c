#include "tests/layers/golden_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int number(const struct golden *g, const char *name)
{
    return (int)golden_number(g, "config", name);
}

static struct transformer_dims read_dims(const struct golden *g)
{
    char scaling[32], arch[32] = "llama";
    golden_text(g, "config", "rope_scaling", scaling, sizeof scaling);
    if (golden_has_text(g, "config", "arch"))
        golden_text(g, "config", "arch", arch, sizeof arch);
    assert_in_range(arch_find(arch), 0, ARCH_N - 1);
    struct transformer_dims d = {
        .arch = (enum arch)arch_find(arch),
        .n_layers = number(g, "n_layers"),
        .d_model = number(g, "d_model"),
        .vocab = number(g, "vocab"),
        .head_dim = number(g, "head_dim"),
        .context = number(g, "context"),
        .tied = number(g, "tie"),
        .norm_eps = golden_number(g, "config", "norm_eps"),
        .rope = {.scaling = !strcmp(scaling, "linear")   ? ROPE_SCALING_LINEAR
                            : !strcmp(scaling, "llama3") ? ROPE_SCALING_LLAMA3
                                                         : ROPE_SCALING_NONE,
                 .base = golden_number(g, "config", "rope_base"),
                 .factor = golden_number(g, "config", "rope_factor"),
                 .low_freq = golden_number(g, "config", "rope_low_freq_factor"),
                 .high_freq = golden_number(g, "config", "rope_high_freq_factor"),
                 .original_context = golden_number(g, "config", "rope_original_context")},
    };
    assert_int_equal(golden_ints(g, "config", "n_heads", LAYERS_MAX, d.n_heads), d.n_layers);
    assert_int_equal(golden_ints(g, "config", "n_kv_heads", LAYERS_MAX, d.n_kv_heads), d.n_layers);
    assert_int_equal(golden_ints(g, "config", "d_ff", LAYERS_MAX, d.d_ff), d.n_layers);
    return d;
}

void golden_model_init(struct transformer *m, struct golden *g, const char *weights,
                       enum store_use use)
{
    const struct transformer_dims dims = read_dims(g);
    assert_int_equal(transformer_init(m, &dims, use), 0);
    assert_int_equal(golden_children(g, weights), m->store.n);
    for (int i = 0; i < m->store.n && use != STORE_SHAPES; i++) {
        const struct param *p = &m->store.p[i];
        char path[96];
        snprintf(path, sizeof path, "%s/%s", weights, p->name);
        const struct golden_array *w = golden_read(g, path);
        assert_int_equal(w->nd, p->used.nd);
        for (int k = 0; k < w->nd; k++)
            assert_int_equal(w->dim[k], p->used.dim[k]);
        memcpy(p->latent, w->f, (size_t)w->n * sizeof *w->f);
    }
}

void golden_batch_init(struct batch *b, int64_t B, int64_t T, const int32_t *tok)
{
    int32_t *pos = malloc((size_t)(B * T) * sizeof *pos);
    uint64_t *row_id = malloc((size_t)(B * T) * sizeof *row_id);
    struct sequence *seqs = calloc((size_t)B, sizeof *seqs);
    for (int64_t i = 0; i < B * T; i++) {
        pos[i] = (int32_t)(i % T);
        row_id[i] = (uint64_t)i;
    }
    for (int64_t i = 0; i < B; i++)
        seqs[i] = (struct sequence){.start = i * T, .len = T};
    *b = (struct batch){
        .n = B * T, .tok = tok, .pos = pos, .row_id = row_id, .seqs = seqs, .n_seqs = (int)B};
}

void golden_batch_free(struct batch *b)
{
    free((void *)(uintptr_t)b->pos);
    free((void *)(uintptr_t)b->row_id);
    free((void *)(uintptr_t)b->seqs);
}
