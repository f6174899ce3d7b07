/*
 * Factors in a checkpoint:
 *
 *     /lora                     attribute: alpha
 *     /lora/value/NAME.lora_a   f32 [r,I], and .lora_b [O,r]
 *     /lora/STATE/NAME.lora_a   the optimizer's, likewise
 */
#include <stdio.h>

#include "experiments/checkpoint_parts.h"

static const char group[] = "lora", alpha[] = "alpha", value[] = "value";

static void name_of(char name[CHECKPOINT_NAME], const char *state, const char *factor)
{
    snprintf(name, CHECKPOINT_NAME, "%s/%s/%s", group, state, factor);
}

static int write_slab(struct h5file *f, const struct store *s, const char *state, const float *slab)
{
    for (int i = 0; i < s->n; i++) {
        const struct param *p = &s->p[i];
        char name[CHECKPOINT_NAME];
        name_of(name, state, p->name);
        if (h5file_write(f, name, H5_F32, 2, p->used.dim, slab + (p->latent - s->latent)))
            return -1;
    }
    return 0;
}

static int read_slab(struct h5file *f, const struct store *s, const char *state, float *slab)
{
    for (int i = 0; i < s->n; i++) {
        const struct param *p = &s->p[i];
        char name[CHECKPOINT_NAME];
        name_of(name, state, p->name);
        if (h5file_read(f, name, H5_F32, 2, p->used.dim, slab + (p->latent - s->latent)))
            return -1;
    }
    return 0;
}

int checkpoint_write_factors(struct h5file *f, const struct lora *l)
{
    const struct store *s = &l->factors;
    if (h5file_set_double(f, group, alpha, l->alpha) || write_slab(f, s, value, s->latent))
        return -1;
    for (int i = 0; i < s->n_states; i++)
        if (write_slab(f, s, s->state[i].name, s->state[i].slab))
            return -1;
    return 0;
}

int checkpoint_use_factors(struct checkpoint *c, struct transformer *m)
{
    double scale;
    for (int i = 0; i < m->store.n; i++) {
        const struct param *p = &m->store.p[i];
        char factor[2 * PARAM_NAME], name[CHECKPOINT_NAME];
        struct h5shape s;
        snprintf(factor, sizeof factor, "%s.lora_a", p->name);
        name_of(name, value, factor);
        const int there = h5file_has(c->file, name);
        if (!there)
            continue;
        if (there < 0)
            return -1;
        if (h5file_shape(c->file, name, &s) || lora_add(m, p, s.ndim == 2 ? s.dim[0] : 0))
            return err_in("%s", h5file_path(c->file));
    }
    if (!m->lora.factors.n)
        return err("%s: no factors in it", h5file_path(c->file));
    return h5file_get_double(c->file, group, alpha, &scale) ||
                   lora_attach(m, scale, STORE_FROZEN) ||
                   read_slab(c->file, &m->lora.factors, value, m->lora.factors.latent)
               ? -1
               : 0;
}

int checkpoint_load_factors(struct checkpoint *c, struct transformer *m)
{
    struct store *s = &m->lora.factors;
    if (read_slab(c->file, s, value, s->latent))
        return -1;
    for (int i = 0; checkpoint_state_names[i]; i++) {
        char name[CHECKPOINT_NAME];
        name_of(name, checkpoint_state_names[i], s->p[0].name);
        const int there = h5file_has(c->file, name);
        if (there < 0)
            return -1;
        if (!there)
            continue;
        float *slab = store_state(s, checkpoint_state_names[i]);
        if (!slab || read_slab(c->file, s, checkpoint_state_names[i], slab))
            return -1;
    }
    return 0;
}
