/* A hundred steps of training: the losses and gradient norms that PyTorch had. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "optim/optimizer.h"
#include "optim/schedule.h"
#include "tests/layers/golden_model.h"

static float option(const struct golden *g, const char *name)
{
    return (float)golden_number(g, "optimizer", name);
}

/* Inputs and targets of one step from tokens [B,T+1]. */
static void split(const int32_t *tokens, int64_t B, int64_t T, int32_t *in, int32_t *target)
{
    for (int64_t i = 0; i < B * T; i++) {
        in[i] = tokens[i / T * (T + 1) + i % T];
        target[i] = tokens[i / T * (T + 1) + i % T + 1];
    }
}

static void same_curve(void **state)
{
    struct golden *g = golden_open("curve");
    const struct golden_array *tokens = golden_read(g, "tokens"), *lrs = golden_read(g, "lrs");
    const struct golden_array *losses = golden_read(g, "losses");
    const struct golden_array *norms = golden_read(g, "grad_norms");
    const int64_t B = tokens->dim[1], T = tokens->dim[2] - 1;
    int32_t *in = malloc((size_t)(B * T) * sizeof *in);
    int32_t *target = malloc((size_t)(B * T) * sizeof *target);
    const struct schedule schedule = {.kind = SCHEDULE_COSINE,
                                      .lr = golden_number(g, "optimizer", "max_lr"),
                                      .min = golden_number(g, "optimizer", "min_lr"),
                                      .power = 1,
                                      .steps = tokens->dim[0],
                                      .warmup = (int64_t)golden_number(g, "optimizer", "warmup")};
    struct transformer m;
    struct batch batch;
    struct ctx ctx;
    (void)state;
    golden_model_init(&m, g, "initial", STORE_TRAINED);
    golden_batch_init(&batch, B, T, in);
    assert_int_equal(ctx_init(&ctx, 32 << 20), 0);
    ctx.recording = ctx.training = true;
    for (int64_t s = 0; s < tokens->dim[0]; s++) {
        struct loss loss = {0};
        split(tokens->i + s * B * (T + 1), B, T, in, target);
        ctx_reset(&ctx);
        ctx.recompute = s & 1;
        store_zero_grad(&m.store);
        struct tensor *hidden = transformer_forward(&ctx, &m, &batch);
        assert_int_equal(op_head_loss(&ctx, hidden, &m.output->used,
                                      &(struct head_loss_args){.target = target, .weight = 1},
                                      &loss),
                         0);
        tape_backward(&ctx, NULL);
        assert_false(ctx.failed);
        const double count = (double)loss.count, norm = grad_norm(&m.store) / count;
        if (!(fabs(loss.sum / count - losses->f[s]) < 1e-3 && fabs(norm / norms->f[s] - 1) < 1e-2))
            fail_msg("step %d: loss %.6f and norm %.6f, PyTorch has %.6f and %.6f", (int)s,
                     loss.sum / count, norm, (double)losses->f[s], (double)norms->f[s]);
        const double lr = schedule_lr(&schedule, s);
        assert_true(fabs(lr / lrs->f[s] - 1) < 1e-6);
        const struct optimizer_args args = {.step = s + 1,
                                            .lr = (float)lr,
                                            .grad_scale =
                                                (float)(fmin(1, option(g, "clip") / (norm + 1e-6)) /
                                                        count),
                                            .weight_decay = option(g, "weight_decay"),
                                            .beta1 = option(g, "beta1"),
                                            .beta2 = option(g, "beta2"),
                                            .eps = option(g, "eps")};
        assert_int_equal(optimizers[OPTIMIZER_ADAMW].step(&m.store, &args), 0);
    }
    for (int i = 0; i < m.store.n; i++) {
        char path[96];
        snprintf(path, sizeof path, "final/%s", m.store.p[i].name);
        golden_compare(g, path, m.store.p[i].latent, tensor_numel(&m.store.p[i].used), 1e-3);
    }
    free(in);
    free(target);
    golden_batch_free(&batch);
    ctx_free(&ctx);
    transformer_free(&m);
    golden_close(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_curve)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
