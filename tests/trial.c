#include "tests/trial.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/rng.h"

void trial_init(struct trial *w, const struct gradcheck *c)
{
    *w = (struct trial){.c = c};
    for (int i = 0; i < GRADCHECK_IN; i++) {
        const struct gradcheck_in *in = &c->in[i];
        if (!in->cols)
            continue;
        struct tensor *t = w->in[i] = &w->t[i];
        const int vector = in->rows == 0;
        *t = (struct tensor){.dt = in->dt ? in->dt : &dtype_f32, .nd = vector ? 1 : 2};
        t->dim[0] = vector ? in->cols : in->rows;
        t->dim[1] = in->cols;
        const int64_t n = tensor_numel(t);
        t->needs_grad = !in->frozen;
        t->data = malloc(tensor_bytes(t) + 1);
        w->value[i] = gradcheck_normal(100 + (uint64_t)i, in->std ? in->std : 1, n);
        for (int64_t j = 0; j < n; j++)
            w->value[i][j] += in->mean;
        if (in->param)
            w->grad[i] = calloc((size_t)n, sizeof(float));
    }
    assert_int_equal(ctx_init(&w->ctx, TRIAL_ARENA), 0);
}

void trial_free(struct trial *w)
{
    for (int i = 0; i < GRADCHECK_IN; i++) {
        free(w->t[i].data);
        free(w->value[i]);
        free(w->grad[i]);
    }
    ctx_free(&w->ctx);
}

void trial_load(struct trial *w, struct ctx *ctx)
{
    ctx_reset(ctx);
    ctx->training = w->c->training;
    ctx->recompute = w->c->recompute;
    for (int i = 0; i < GRADCHECK_IN; i++) {
        struct tensor *t = &w->t[i];
        if (!t->data)
            continue;
        for (int64_t r = 0; r < tensor_rows(t); r++)
            t->dt->encode(t, r, w->value[i] + r * tensor_cols(t), NULL);
        t->grad = t->needs_grad ? w->grad[i] : NULL;
        if (w->grad[i])
            memset(w->grad[i], 0, (size_t)tensor_numel(t) * sizeof(float));
    }
}

bool trial_build(struct trial *w, struct ctx *ctx, struct tensor *out[], struct loss *loss)
{
    memset(out, 0, NODE_OUT * sizeof *out);
    const bool ok = w->c->build(ctx, w->c->arg, w->in, out, loss);
    assert_int_equal(ok, !ctx->failed);
    return ok;
}

/* r, the gradient that arrives at out[i]: normal draws. */
static float seed_at(int i, int64_t j)
{
    static float block[4096];
    static int64_t have = -1;
    const int64_t at = j / 4096 * 16 + i;
    if (have != at)
        rng_normal(7000 + (uint64_t)at, 1, block, 4096);
    have = at;
    return block[j % 4096];
}

double trial_objective(struct trial *w, double *size)
{
    struct tensor *out[NODE_OUT];
    struct loss loss = {0};
    trial_load(w, &w->ctx);
    w->ctx.recording = false;
    assert_true(trial_build(w, &w->ctx, out, &loss));
    double sum = loss.sum, abs = fabs(loss.sum) + fabs(loss.nll);
    for (int i = 0; i < NODE_OUT; i++) {
        if (!out[i] || w->c->silent >> i & 1)
            continue;
        const float *y = out[i]->data;
        const int64_t n = tensor_numel(out[i]);
        double square = 0;
        for (int64_t j = 0; j < n; j++)
            square += (double)y[j] * y[j];
        const double rms = sqrt(square / (double)n);
        for (int64_t j = 0; j < n; j++) {
            const double r = seed_at(i, j);
            sum += r * y[j];
            abs += fabs(r) * (fabs(y[j]) + rms);
        }
    }
    if (size)
        *size = abs;
    return sum;
}

/* Puts r into the gradients of the outputs. */
static void seed(struct trial *w, struct ctx *ctx, struct tensor *out[])
{
    for (int i = 0; i < NODE_OUT; i++) {
        if (!out[i] || w->c->silent >> i & 1)
            continue;
        const int64_t n = tensor_numel(out[i]);
        float *g = out[i]->grad = ctx_scratch(ctx, (size_t)n * sizeof *g);
        for (int64_t j = 0; j < n && g && !ctx->measuring; j++)
            g[j] = seed_at(i, j);
    }
}

bool trial_run(struct trial *w, struct ctx *ctx, int times, struct trial_result *o)
{
    struct tensor *out[NODE_OUT];
    struct loss loss = {0};
    trial_load(w, ctx);
    ctx->recording = true;
    for (int k = 0; k < times; k++) {
        if (!trial_build(w, ctx, out, &loss))
            return false;
        seed(w, ctx, out);
    }
    if (o) {
        *o = (struct trial_result){.loss = loss.sum};
        for (int i = 0; i < NODE_OUT; i++) {
            if (!out[i])
                continue;
            o->n_out[i] = tensor_numel(out[i]);
            o->out[i] = malloc(tensor_bytes(out[i]) + 1);
            memcpy(o->out[i], out[i]->data, tensor_bytes(out[i]));
        }
    }
    tape_backward(ctx, NULL);
    for (int i = 0; i < GRADCHECK_IN && o; i++) {
        if (!w->in[i] || !w->in[i]->grad)
            continue;
        const size_t bytes = (size_t)tensor_numel(w->in[i]) * sizeof(float);
        o->grad[i] = malloc(bytes);
        memcpy(o->grad[i], w->in[i]->grad, bytes);
    }
    return !ctx->failed;
}

void trial_result_free(struct trial_result *o)
{
    for (int i = 0; i < NODE_OUT; i++)
        free(o->out[i]);
    for (int i = 0; i < GRADCHECK_IN; i++)
        free(o->grad[i]);
}
