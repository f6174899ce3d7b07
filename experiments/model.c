#include "experiments/model.h"

#include <stdio.h>

#include "datasets/tokenizer.h"
#include "experiments/checkpoint.h"
#include "experiments/model_tokenizer.h"

int model_dims(const struct config_model *c, int vocab, struct transformer_dims *d)
{
    if (c->n_layers > LAYERS_MAX)
        return err("n_layers: %lld is above %d", (long long)c->n_layers, LAYERS_MAX);
    *d = (struct transformer_dims){
        .arch = (enum arch)c->arch,
        .n_layers = (int)c->n_layers,
        .d_model = (int)c->d_model,
        .vocab = vocab,
        .head_dim = (int)c->head_dim,
        .context = (int)c->context,
        .tied = c->tie_embeddings,
        .norm_eps = c->norm_eps,
        .dropout = c->dropout,
        .init_std = c->init_std,
        .rope = {.scaling = (enum rope_scaling)c->rope_scaling.type,
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

struct tokenizer *model_known_tokenizer(const struct config *c)
{
    const struct config_tokenizer *t = &c->data.tokenizer;
    char path[4096];
    if (t->type == TOKENIZER_BYTE)
        return tokenizer_new_byte();
    if (t->type == TOKENIZER_BPE) {
        err("the tokenizer is not made yet");
        return NULL;
    }
    const bool absolute = t->path[0] == '/';
    snprintf(path, sizeof path, "%s%s%s", absolute ? "" : c->folder, absolute ? "" : "/", t->path);
    return model_tokenizer(path);
}

int model_vocabulary(const struct config *c)
{
    if (c->data.tokenizer.type == TOKENIZER_BPE)
        return (int)c->data.tokenizer.vocab_size;
    struct tokenizer *tok = model_known_tokenizer(c);
    const int size = tok ? tokenizer_vocab_size(tok) : -1;
    tokenizer_free(tok);
    return size;
}

int model_stage_dims(const struct config *c, int stage, int vocab, struct transformer_dims *dims)
{
    while (c->stages[stage].parent >= 0)
        stage = c->stages[stage].parent;
    if (!c->stages[stage].checkpoint)
        return model_dims(&c->model, vocab, dims);
    struct checkpoint cp;
    if (checkpoint_open(&cp, c->stages[stage].checkpoint))
        return -1;
    *dims = cp.dims;
    dims->dropout =
        c->model.n_layers ? c->model.dropout : dims->dropout; // as load() in stage_train.c
    checkpoint_close(&cp);
    return 0;
}

int model_teacher_dims(const struct config *c, int stage, int vocab, struct transformer_dims *dims)
{
    const struct config_qat *q = &c->stages[stage].qat;
    struct checkpoint cp;
    if (c->stages[stage].kind != STAGE_QAT || (q->teacher_stage < 0 && !q->teacher_path))
        return 0;
    if (q->teacher_stage >= 0)
        return model_stage_dims(c, q->teacher_stage, vocab, dims) ? -1 : 1;
    if (checkpoint_open(&cp, q->teacher_path))
        return err_in("teacher");
    *dims = cp.dims;
    checkpoint_close(&cp);
    return 1;
}
