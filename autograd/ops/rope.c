#include "autograd/ops/rope.h"

#include <math.h>
#include <stdlib.h>

#include "autograd/base/err.h"
#include "autograd/base/mem.h"

double rope_frequency(const struct rope_args *a, int i)
{
    const double pi = 3.14159265358979323846;
    const double f = pow(a->base, -2.0 * i / a->head_dim);
    if (a->scaling == ROPE_SCALING_LINEAR)
        return f / a->factor;
    if (a->scaling != ROPE_SCALING_LLAMA3)
        return f;
    // Llama 3.1: by the wavelength in units of the original context
    const double turns = a->original_context * f / (2 * pi);
    if (turns < a->low_freq)
        return f / a->factor;
    if (turns > a->high_freq)
        return f;
    const double smooth = (turns - a->low_freq) / (a->high_freq - a->low_freq);
    return (1 - smooth) * f / a->factor + smooth * f;
}

int rope_init(struct rope *r, const struct rope_args *a)
{
    const int half = a->head_dim / 2;
    *r = (struct rope){.style = a->style, .head_dim = a->head_dim, .n_pos = a->n_pos};
    r->cos = mem_slab((size_t)a->n_pos * (size_t)half, sizeof *r->cos);
    r->sin = mem_slab((size_t)a->n_pos * (size_t)half, sizeof *r->sin);
    if (!r->cos || !r->sin) {
        rope_free(r);
        return err_in("rotary table");
    }
    for (int i = 0; i < half; i++) {
        const double f = rope_frequency(a, i);
        for (int64_t p = 0; p < a->n_pos; p++) {
            r->cos[p * half + i] = (float)cos((double)p * f);
            r->sin[p * half + i] = (float)sin((double)p * f);
        }
    }
    return 0;
}

void rope_free(struct rope *r)
{
    free(r->cos);
    free(r->sin);
    r->cos = r->sin = NULL;
}
