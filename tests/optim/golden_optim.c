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

/* What a golden file may have. */
static const char *const names[] = {"matrix",
                                    "vector",
                                    "blk.0.tall.weight",
                                    "blk.0.wide.weight",
                                    "blk.1.norm.weight",
                                    "blk.1.square.weight",
                                    "token_embd.weight"};

float golden_optim_number(const char *file, const char *group, const char *name)
{
    struct golden *g = golden_open(file);
    const float x = (float)golden_number(g, group, name);
    golden_close(g);
    return x;
}

/* The file's parameters, at their initial values. */
static void make(struct golden *g, struct store *s)
{
    const struct golden_array *a[sizeof names / sizeof *names];
    *s = (struct store){0};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[160];
        snprintf(path, sizeof path, "initial/%s", names[i]);
        if (!golden_has(g, path))
            continue;
        a[s->n] = golden_read(g, path);
        assert_int_equal(store_add(s, names[i], a[s->n]->nd, a[s->n]->dim, 1), 0);
    }
    assert_int_equal(s->n, golden_children(g, "initial"));
    assert_int_equal(store_alloc(s, STORE_TRAINED), 0);
    for (int i = 0; i < s->n; i++)
        memcpy(s->p[i].latent, a[i]->f, (size_t)a[i]->n * sizeof(float));
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
    assert_true(want->noise < 1e-4);
    for (int64_t i = 0; i < n; i++) {
        const float x = want->f[row * n + i], off = p->latent[i] - x;
        const double most = 4 * want->noise + 3e-6 * (x < 0 ? -x : x);
        if (!(off <= most && off >= -most))
            fail_msg("%s: %s[%d] after %d steps is %.9g, PyTorch has %.9g", group, p->name, (int)i,
                     (int)row * 10 + 10, (double)p->latent[i], (double)x);
    }
}

static void compare_all(struct golden *g, const char *group, const struct store *s, int64_t step)
{
    for (int i = 0; i < s->n && step % 10 == 9; i++)
        compare(g, group, &s->p[i], step / 10);
}

void golden_optim_run(const char *file, const char *group, const struct optimizer *o,
                      struct optimizer_args args, const struct ema_args *ema)
{
    struct golden *g = golden_open(file);
    const struct golden_array *lrs = golden_read(g, "lrs");
    const float adam_lr = args.adam_lr;
    struct store s;
    make(g, &s);
    args.weight_decay = (float)golden_number(g, group, "weight_decay");
    for (int64_t step = 0; step < lrs->n; step++) {
        args.step = step + 1;
        args.lr = lrs->f[step];
        args.adam_lr = adam_lr * args.lr;
        for (int i = 0; i < s.n; i++)
            give(g, group, &s.p[i], step);
        assert_int_equal(o->step(&s, &args), 0);
        if (ema) {
            assert_int_equal(ema_update(&s, ema, step + 1), 0);
            ema_swap(&s);
        }
        compare_all(g, group, &s, step);
        if (ema)
            ema_swap(&s);
    }
    assert_int_equal(s.n_states, o->n_states + (ema ? 1 : 0));
    assert_int_equal(s.n_scratch, o->scratch ? o->scratch(&s) : 0);
    store_free(&s);
    golden_close(g);
}

void golden_optim_large(struct store *s)
{
    *s = (struct store){0};
    assert_int_equal(store_add(s, "large", 2, (int64_t[]){301, 333}, 1), 0);
    assert_int_equal(store_add(s, "small", 1, (int64_t[]){5}, 1), 0);
    assert_int_equal(store_add(s, "blk.0.tall.weight", 2, (int64_t[]){401, 263}, 1), 0);
    assert_int_equal(store_add(s, "blk.0.wide.weight", 2, (int64_t[]){67, 131}, 1), 0);
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
    for (float *x = s.p[1].latent + 5; x < s.p[2].latent; x++) // behind the five
        assert_true(*x == 0);
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
