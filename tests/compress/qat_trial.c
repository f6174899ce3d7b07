#include "tests/compress/qat_trial.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/rng.h"
#include "compress/codecs/codecs.h"

void qat_trial_fill(struct qat_trial *t, uint64_t key, float std)
{
    rng_normal(key, std, t->p->latent, N);
}

void qat_trial_make(struct qat_trial *t, const struct dtype *dt, const struct qat_options *o)
{
    const int64_t dim[] = {ROWS, COLS};
    *t = (struct qat_trial){0};
    assert_int_equal(store_add(&t->s, "gain", 1, dim + 1, 0), 0);
    assert_int_equal(store_add(&t->s, "blk.0.ffn_up.weight", 2, dim, 1), 0);
    assert_int_equal(store_alloc(&t->s, STORE_TRAINED), 0);
    t->p = &t->s.p[1];
    qat_init(&t->q, o);
    assert_int_equal(qat_add(&t->q, t->p, dt), 0);
    assert_int_equal(qat_ready(&t->q), 0);
    t->w = &t->q.weight[0];
    qat_trial_fill(t, 3, 0.05f);
}

void qat_trial_start(struct qat_trial *t, const struct dtype *dt, const struct qat_options *o)
{
    qat_trial_make(t, dt, o);
    if (qat_fit(&t->q, 0, NULL) || qat_attach(&t->q))
        fail_msg("%s", err_text());
    store_project(&t->s);
    assert_int_equal(qat_check(&t->q), 0);
}

void qat_trial_drop(struct qat_trial *t)
{
    qat_free(&t->q);
    store_free(&t->s);
}

const struct dtype *qat_trial_type(int i)
{
    for (int k = 0; codecs_at(k); k++) {
        const struct dtype *dt = codecs_at(k);
        if (dt == &codecs_q8_k || !dt->encode || !dt->round)
            continue;
        if (!i--)
            return dt;
    }
    return i ? NULL : &dtype_f16;
}

void qat_trial_decoded(const struct qat_trial *t)
{
    float y[COLS];
    for (int64_t r = 0; r < ROWS; r++) {
        t->w->blocks.dt->decode(&t->w->blocks, r, y);
        if (memcmp(y, (const float *)t->p->used.data + r * COLS, sizeof y) != 0)
            fail_msg("%s: row %d is not what its blocks are", t->w->blocks.dt->name, (int)r);
    }
}
