#include "tests/experiments/tiny_model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "experiments/checkpoint.h"

void tiny_model(struct transformer *m, bool with_grad, bool padded)
{
    tiny_model_of(m, ARCH_LLAMA, with_grad, padded);
}

static void make(struct transformer *m, enum arch arch, bool with_grad, bool padded, bool tied,
                 bool even)
{
    struct transformer_dims dims = {
        .arch = arch,
        .n_layers = 2,
        .d_model = 32,
        .vocab = padded ? 260 : 257,
        .head_dim = 8,
        .context = TINY_CONTEXT,
        .n_heads = {4, 2},
        .n_kv_heads = {2, 1},
        .d_ff = {48, 40},
        .tied = tied,
        .norm_eps = 1e-5,
        .rope = {.base = 10000},
        .init_std = 0.3,
    };
    if (even) {
        dims.n_heads[1] = dims.n_heads[0];
        dims.n_kv_heads[1] = dims.n_kv_heads[0];
        dims.d_ff[1] = dims.d_ff[0];
    }
    if (transformer_init(m, &dims, with_grad ? STORE_TRAINED : STORE_FROZEN))
        fail_msg("%s", err_text());
    store_init(&m->store, 5);
    store_project(&m->store);
}

void tiny_model_of(struct transformer *m, enum arch arch, bool with_grad, bool padded)
{
    make(m, arch, with_grad, padded, false, false);
}

void tiny_model_with(struct transformer *m, enum arch arch, bool tied)
{
    make(m, arch, false, false, tied, false);
}

void tiny_model_even(struct transformer *m, enum arch arch, bool tied)
{
    make(m, arch, false, false, tied, true);
}

void tiny_model_always(struct transformer *m, int id)
{
    const int64_t C = m->dims.d_model;
    float *embd = m->token_embd->latent, *gain = m->output_norm.weight->latent,
          *out = m->output->latent;
    for (int64_t c = 0; c < C; c++)
        gain[c] = c ? 0 : 1;
    for (int64_t v = 0; v < m->dims.vocab; v++) {
        embd[v * C] = 30;
        out[v * C] = v == id ? 40 : 0;
    }
    store_project(&m->store);
}

void tiny_model_save(const char *path, const struct transformer *m)
{
    struct buf json = {0};
    struct tokenizer *t = tokenizer_new_byte();
    assert_non_null(t);
    assert_int_equal(tokenizer_write(t, &json), 0);
    const struct checkpoint_state state = {.step = 12,
                                           .tokens = 3456,
                                           .seconds = 7.5,
                                           .smooth = 2.5,
                                           .smooth_min = 2.25,
                                           .best_valid = 2.75,
                                           .best_step = 10,
                                           .last_valid = 2.875,
                                           .last_bpb = NAN,
                                           .last_unaveraged = 2.9375};
    const struct checkpoint_source source = {.stage = "pretrain",
                                             .config = "name: tiny\n",
                                             .config_hash = "c0ffee",
                                             .corpus_hash = "decade",
                                             .tokenizer = json.p};
    if (checkpoint_save(path, m, &state, &source))
        fail_msg("%s", err_text());
    buf_free(&json);
    tokenizer_free(t);
}
