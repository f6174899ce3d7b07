/*
 * The blocks in a checkpoint of a stage `qat`:
 *
 *     /blocks         attributes: mix ("Q3_K_M"), and for each tensor in blocks its type ("q3_k")
 *     /blocks/NAME    u8 [rows, bytes of a row]: what a GGUF file has
 *     /scales/value/NAME.s, .m      f32, learned scales: steps and mins of sub-blocks,
 *                   NAME.d, .dmin   or those of whole blocks
 *     /scales/STATE/NAME...         the optimizer's, likewise
 */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/mem.h"
#include "compress/codecs/codecs.h"
#include "experiments/checkpoint.h"
#include "experiments/checkpoint_parts.h"

static const char group[] = "blocks", mix_name[] = "mix";

static void name_of(char name[CHECKPOINT_NAME], const char *param)
{
    snprintf(name, CHECKPOINT_NAME, "%s/%s", group, param);
}

/* ---- learned scales ---- */

static void scale_name(char name[CHECKPOINT_NAME], const char *state, const struct param *p)
{
    snprintf(name, CHECKPOINT_NAME, "scales/%s/%s", state, p->name);
}

static int write_scales(struct h5file *f, const struct store *s, const char *state,
                        const float *slab)
{
    char name[CHECKPOINT_NAME];
    for (int i = 0; i < s->n; i++) {
        const struct param *p = &s->p[i];
        scale_name(name, state, p);
        if (h5file_write(f, name, H5_F32, 1, p->used.dim, slab + (p->latent - s->latent)))
            return -1;
    }
    return 0;
}

static int read_scales(struct h5file *f, const struct store *s, const char *state, float *slab)
{
    char name[CHECKPOINT_NAME];
    for (int i = 0; i < s->n; i++) {
        const struct param *p = &s->p[i];
        scale_name(name, state, p);
        if (h5file_read(f, name, H5_F32, 1, p->used.dim, slab + (p->latent - s->latent)))
            return -1;
    }
    return 0;
}

/* Values, and the states that the file has. */
static int load_scales(struct h5file *f, struct qat *q)
{
    char name[CHECKPOINT_NAME];
    if (!q->scales.n)
        return 0;
    if (read_scales(f, &q->scales, "value", q->value))
        return -1;
    for (int i = 0; checkpoint_state_names[i]; i++) {
        const char *state = checkpoint_state_names[i];
        scale_name(name, state, &q->scales.p[0]);
        const int there = h5file_has(f, name);
        if (there < 0)
            return -1;
        if (!there)
            continue;
        float *slab = store_state(&q->scales, state);
        if (!slab || read_scales(f, &q->scales, state, slab))
            return -1;
    }
    return 0;
}

/* ---- blocks ---- */

int checkpoint_write_blocks(struct h5file *f, const struct qat *q, const char *mix)
{
    if (h5file_set_text(f, group, mix_name, mix))
        return -1;
    for (int i = 0; i < q->n; i++) {
        const struct qat_weight *w = &q->weight[i];
        const int64_t dim[] = {tensor_rows(&w->blocks), (int64_t)tensor_row_bytes(&w->blocks)};
        char name[CHECKPOINT_NAME];
        name_of(name, w->p->name);
        if (h5file_write(f, name, H5_U8, 2, dim, w->blocks.data) ||
            h5file_set_text(f, group, w->p->name, w->blocks.dt->name))
            return -1;
    }
    if (write_scales(f, &q->scales, "value", q->value))
        return -1;
    for (int i = 0; i < q->scales.n_states; i++)
        if (write_scales(f, &q->scales, q->scales.state[i].name, q->scales.state[i].slab))
            return -1;
    return 0;
}

int checkpoint_read_mix(struct checkpoint *c)
{
    return h5file_get_text(c->file, group, mix_name, &c->mix);
}

/* 1: the tensor is in blocks of *dt; 0: it is not; -1 with err() set. */
static int read_type(struct h5file *f, const struct param *p, const struct dtype **dt)
{
    char name[CHECKPOINT_NAME];
    struct buf type = {0};
    name_of(name, p->name);
    const int there = h5file_has(f, name);
    if (there <= 0)
        return there;
    if (h5file_get_text(f, group, p->name, &type))
        return -1;
    *dt = codecs_find(type.p ? type.p : "");
    int rc = 1;
    if (!*dt || !(*dt)->decode || tensor_cols(&p->used) % (*dt)->block)
        rc = err_damaged("%s: %s of type '%.40s'", h5file_path(f), name, type.p ? type.p : "");
    buf_free(&type);
    return rc;
}

/* 1: t became the tensor's blocks, data to be freed; 0: it has none; -1 with err() set. */
static int read_blocks(struct h5file *f, const struct param *p, struct tensor *t)
{
    char name[CHECKPOINT_NAME];
    const struct dtype *dt;
    const int is = read_type(f, p, &dt);
    if (is <= 0)
        return is;
    name_of(name, p->name);
    *t = (struct tensor){.dt = dt, .nd = p->used.nd};
    memcpy(t->dim, p->used.dim, sizeof t->dim);
    const int64_t dim[] = {tensor_rows(t), (int64_t)tensor_row_bytes(t)};
    t->data = mem_slab(tensor_bytes(t), 1);
    if (!t->data)
        return -1;
    if (!h5file_read(f, name, H5_U8, 2, dim, t->data))
        return 1;
    free(t->data);
    return -1;
}

int checkpoint_shapes(struct checkpoint *c, struct transformer *m)
{
    if (transformer_init(m, &c->dims, STORE_SHAPES))
        return -1;
    for (int i = 0; i < m->store.n; i++)
        if (read_type(c->file, &m->store.p[i], &m->store.p[i].used.dt) < 0) {
            transformer_free(m);
            return -1;
        }
    return 0;
}

int checkpoint_decode_blocks(struct checkpoint *c, struct transformer *m)
{
    for (int i = 0; i < m->store.n; i++) {
        struct param *p = &m->store.p[i];
        struct tensor t;
        const int is = read_blocks(c->file, p, &t);
        if (is < 0)
            return -1;
        const int64_t rows = is ? tensor_rows(&t) : 0;
#pragma omp parallel for schedule(dynamic, 16)
        for (int64_t r = 0; r < rows; r++)
            t.dt->decode(&t, r, p->latent + r * tensor_cols(&t));
        if (is)
            free(t.data);
    }
    return 0;
}

int checkpoint_use_blocks(struct checkpoint *c, struct transformer *m)
{
    for (int i = 0; i < m->store.n; i++) {
        struct param *p = &m->store.p[i];
        struct tensor t;
        const int is = read_blocks(c->file, p, &t);
        if (is < 0)
            return -1;
        if (!is)
            continue;
        p->own = t.data;
        p->used = t;
    }
    return 0;
}

int checkpoint_give_blocks(struct checkpoint *c, struct qat *q)
{
    for (int i = 0; i < q->n; i++) {
        struct qat_weight *w = &q->weight[i];
        struct tensor t;
        const int is = read_blocks(c->file, w->p, &t);
        if (is < 0)
            return -1;
        w->given = is && t.dt == w->blocks.dt;
        if (w->given)
            memcpy(w->blocks.data, t.data, tensor_bytes(&t));
        if (is)
            free(t.data);
    }
    return 0;
}

int checkpoint_load_blocks(struct checkpoint *c, struct transformer *m, struct qat *q)
{
    if (checkpoint_give_blocks(c, q))
        return -1;
    for (int i = 0; i < q->n; i++)
        if (!q->weight[i].given)
            return err("%s: tensor '%s' is not in blocks of %s", h5file_path(c->file),
                       q->weight[i].p->name, q->weight[i].blocks.dt->name);
    if (load_scales(c->file, q) || qat_attach(q))
        return -1;
    store_project(&m->store);
    return qat_check(q);
}
