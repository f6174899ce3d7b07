#include "experiments/model.h"

/* Each architecture's own way to rotate. */
static const enum rope_style rope_styles[] = {[ARCH_LLAMA] = ROPE_ADJACENT};

int model_dims(const struct config_model *c, int vocab, struct transformer_dims *d)
{
    if (c->n_layers > LAYERS_MAX)
        return err("n_layers: %lld is above %d", (long long)c->n_layers, LAYERS_MAX);
    *d = (struct transformer_dims){
        .n_layers = (int)c->n_layers,
        .d_model = (int)c->d_model,
        .vocab = vocab,
        .head_dim = (int)c->head_dim,
        .context = (int)c->context,
        .tied = c->tie_embeddings,
        .norm_eps = c->norm_eps,
        .dropout = c->dropout,
        .init_std = c->init_std,
        .rope = {.style = rope_styles[c->arch],
                 .scaling = (enum rope_scaling)c->rope_scaling.type,
                 .base = c->rope_base,
                 .factor = c->rope_scaling.factor,
                 .low_freq = c->rope_scaling.low_freq_factor,
                 .high_freq = c->rope_scaling.high_freq_factor,
                 .original_context = (double)c->rope_scaling.original_context},
    };
    for (int l = 0; l < d->n_layers; l++) {
        d->n_heads[l] = (int)ints_at(&c->n_heads, l);
        d->n_kv_heads[l] = (int)ints_at(&c->n_kv_heads, l);
        d->d_ff[l] = (int)ints_at(&c->d_ff, l);
    }
    return transformer_check(d);
}
