#include "tests/optim/golden_optim.h"

#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/rng.h"
#include "tests/golden.h"

static const char *const names[] = {"matrix", "vector"};

float golden_optim_number(const char *group, const char *name)
{
    struct golden *g = golden_open("optim");
    const float x = (float)golden_number(g, group, name);
    golden_close(g);
    return x;
}

/* The gradient of step s, clamped if the group asks for it. */
static void give(struct golden *g, const char *group, struct param *p, int64_t s)
{
    char path[160];
    const float clamp = (float)golden_number(g, group, "clamp_grad");
    const int64_t n = tensor_numel(&p->used);
    snprintf(path, sizeof path, "grads/%s", p->name);
    const float *from = golden_read(g, path)->f + s * n;
    for (int64_t i = 0; i < n; i++) {
        const float x = from[i], most = clamp > 0 ? clamp : 1e30f;
        p->latent_grad[i] = x > most ? most : x < -most ? -most : x;
    }
}

/* params [10, ...] of the group after step s. */
static void compare(struct golden *g, const char *group, const struct param *p, int64_t row)
{
    char path[160];
    const int64_t n = tensor_numel(&p->used);
    snprintf(path, sizeof path, "%s/%s", group, p->name);
    const struct golden_array *want = golden_read(g, path);
    for (int64_t i = 0; i < n; i++) {
        const float x = want->f[row * n + i], off = p->latent[i] - x;
        const double most = 4 * want->noise + 3e-6 * (x < 0 ? -x : x);
        if (!(off <= most && off >= -most))
            fail_msg("%s: %s[%d] after %d steps is %.9g, PyTorch has %.9g", group, p->name, (int)i,
                     (int)row * 10 + 10, (double)p->latent[i], (double)x);
    }
}

void golden_optim_run(const char *group, const struct optimizer *o, struct optimizer_args args)
{
    struct golden *g = golden_open("optim");
    const struct golden_array *lrs = golden_read(g, "lrs");
    struct store s = {0};
    args.weight_decay = (float)golden_number(g, group, "weight_decay");
    for (int i = 0; i < 2; i++) {
        char path[160];
        snprintf(path, sizeof path, "initial/%s", names[i]);
        const struct golden_array *a = golden_read(g, path);
        assert_int_equal(store_add(&s, names[i], a->nd, a->dim, 1), 0);
    }
    assert_int_equal(store_alloc(&s, STORE_TRAINED), 0);
    for (int i = 0; i < 2; i++) {
        char path[160];
        snprintf(path, sizeof path, "initial/%s", names[i]);
        const struct golden_array *a = golden_read(g, path);
        memcpy(s.p[i].latent, a->f, (size_t)a->n * sizeof(float));
    }
    for (int64_t step = 0; step < lrs->n; step++) {
        args.step = step + 1;
        args.lr = lrs->f[step];
        for (int i = 0; i < 2; i++)
            give(g, group, &s.p[i], step);
        assert_int_equal(o->step(&s, &args), 0);
        for (int i = 0; i < 2 && step % 10 == 9; i++)
            compare(g, group, &s.p[i], step / 10);
    }
    assert_int_equal(s.n_states, o->n_states);
    store_free(&s);
    golden_close(g);
}

void golden_optim_large(struct store *s)
{
    *s = (struct store){0};
    assert_int_equal(store_add(s, "large", 2, (int64_t[]){301, 333}, 1), 0);
    assert_int_equal(store_add(s, "small", 1, (int64_t[]){5}, 1), 0);
    assert_int_equal(store_alloc(s, STORE_TRAINED), 0);
    store_init(s, 1);
    for (int i = 0; i < s->n; i++)
        rng_normal(50 + (uint64_t)i, 1, s->p[i].latent_grad, (size_t)tensor_numel(&s->p[i].used));
}

/* The latents after three steps. */
static float *run(const struct optimizer *o, const struct optimizer_args *args, float scale,
                  size_t *len)
{
    struct store s;
    struct optimizer_args a = *args;
    golden_optim_large(&s);
    for (size_t i = 0; i < s.len; i++)
        s.grad[i] *= scale;
    a.grad_scale = args->grad_scale / scale;
    for (a.step = 1; a.step <= 3; a.step++)
        assert_int_equal(o->step(&s, &a), 0);
    for (size_t i = s.len - 11; i < s.len; i++) // behind the five
        assert_true(s.latent[i] == 0);
    float *copy = malloc(s.len * sizeof *copy);
    memcpy(copy, s.latent, s.len * sizeof *copy);
    *len = s.len;
    store_free(&s);
    return copy;
}

void golden_optim_general(const struct optimizer *o, const struct optimizer_args *args)
{
    const int old = omp_get_max_threads();
    size_t len;
    omp_set_num_threads(1);
    float *one = run(o, args, 1, &len);
    for (int threads = 2; threads <= 3; threads++) {
        omp_set_num_threads(threads);
        float *more = run(o, args, 1, &len);
        assert_memory_equal(one, more, len * sizeof *one);
        free(more);
    }
    float *scaled = run(o, args, 8, &len); // a power of two: not a bit changes
    assert_memory_equal(one, scaled, len * sizeof *one);
    free(scaled);
    free(one);
    omp_set_num_threads(old);
}
