#include "experiments/stage_lora.h"

struct lora_args stage_lora_args(const struct config_stage *s)
{
    const struct config_lora *l = &s->qat.lora;
    return (struct lora_args){.rank = l->rank, .alpha = l->alpha, .targets = l->targets};
}

int stage_lora_begin(struct transformer *m, struct blocks *b, struct checkpoint *c,
                     const struct config_stage *s, uint64_t seed, bool resumed)
{
    const struct lora_args l = stage_lora_args(s);
    // other factors' blocks do not hold what these start from, an importance matrix asks for a fit
    const bool take = c->mix.n && (resumed || (!c->lora && !s->qat.mix.imatrix));
    if (take && checkpoint_give_blocks(c, &b->qat))
        return -1;
    for (int i = 0; i < b->qat.n && resumed; i++)
        if (!b->qat.weight[i].given)
            return err("the checkpoint's blocks are not of %s", s->qat.type);
    if (blocks_fit(b) || blocks_freeze(b, m, config_bf16(&s->train)) || lora_add_targets(m, &l) ||
        lora_attach(m, l.alpha, STORE_TRAINED))
        return -1;
    store_init(&m->lora.factors, seed);
    return resumed ? checkpoint_load_factors(c, m) : 0;
}

void stage_lora_describe(const struct transformer *m, const struct blocks *b,
                         const struct config_stage *s, struct buf *out)
{
    buf_printf(out, "%.1fK of %.2fM parameters are trained, in factors of rank %lld over %s",
               1e-3 * (double)store_numel(&m->lora.factors), 1e-6 * (double)store_numel(&m->store),
               (long long)s->qat.lora.rank, b->recipe.mix->name);
}
