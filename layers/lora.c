#include "layers/lora.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/mem.h"
#include "autograd/kernels/gemm.h"
#include "autograd/kernels/rows.h"
#include "layers/transformer.h"

const char *const lora_targets[] = {"attn_q",   "attn_k", "attn_v",   "attn_qkv", "attn_output",
                                    "ffn_gate", "ffn_up", "ffn_down", NULL};

static const char suffix_a[] = ".lora_a", suffix_b[] = ".lora_b";

static int declare(struct store *s, const struct param *p, const char *suffix, int64_t O, int64_t I,
                   float std)
{
    char name[2 * PARAM_NAME];
    snprintf(name, sizeof name, "%s%s", p->name, suffix);
    if (store_add(s, name, 2, (int64_t[]){O, I}, std))
        return -1;
    s->p[s->n - 1].init_mean = 0;
    s->p[s->n - 1].product = false; // op_low_rank() reads them as they are
    return 0;
}

int lora_add(struct transformer *m, const struct param *p, int64_t rank)
{
    const int64_t O = tensor_rows(&p->used), I = tensor_cols(&p->used);
    if (p->used.nd != 2 || !p->product)
        return err("tensor '%s': nothing is multiplied with it", p->name);
    if (rank < 1 || rank > O || rank > I)
        return err("tensor '%s' is %lld x %lld: factors of rank %lld", p->name, (long long)O,
                   (long long)I, (long long)rank);
    // what comes out of a has the deviation of what went in
    return declare(&m->lora.factors, p, suffix_a, rank, I, 1 / sqrtf((float)I)) ||
                   declare(&m->lora.factors, p, suffix_b, O, rank, 0)
               ? -1
               : 0;
}

/* "attn_q" of "blk.3.attn_q.weight" [n]; NULL: no matrix of a block. */
static const char *target_of(const struct param *p, size_t *n)
{
    int layer, at = 0;
    if (p->used.nd != 2 || sscanf(p->name, "blk.%d.%n", &layer, &at) != 1 || !at)
        return NULL;
    *n = strcspn(p->name + at, ".");
    return p->name + at;
}

static bool is_one(const char *target, size_t n, const char *name)
{
    return strlen(name) == n && !memcmp(target, name, n);
}

int lora_add_targets(struct transformer *m, const struct lora_args *args)
{
    const struct texts *list = &args->targets;
    const bool all = list->n == 1 && !strcmp(list->value[0], "all");
    const int begin = m->lora.factors.n;
    for (int k = 0; k < list->n; k++) {
        bool found = false;
        for (int i = 0; i < m->store.n; i++) {
            size_t n;
            const char *target = target_of(&m->store.p[i], &n);
            if (!target || !(all || is_one(target, n, list->value[k])))
                continue;
            found = true;
            if (lora_add(m, &m->store.p[i], args->rank))
                return -1;
        }
        if (!found)
            return err("there is no matrix '%.40s' in the blocks of %s", list->value[k],
                       arch_rows[m->dims.arch].name);
    }
    return m->lora.factors.n > begin ? 0 : err("factors of nothing");
}

struct param *lora_base(const struct transformer *m, int i)
{
    char name[PARAM_NAME];
    const char *factor = m->lora.factors.p[2 * i].name;
    snprintf(name, sizeof name, "%.*s", (int)(strlen(factor) - strlen(suffix_a)), factor);
    return store_find(&m->store, name);
}

int lora_attach(struct transformer *m, double alpha, enum store_use use)
{
    struct lora *l = &m->lora;
    l->alpha = alpha;
    l->low = mem_new((size_t)l->factors.n / 2 + 1, sizeof *l->low);
    if (!l->low || store_alloc(&l->factors, use))
        return err_in("factors");
    for (int i = 0; i < m->store.n; i++)
        m->store.p[i].used.needs_grad = false;
    for (int i = 0; i < l->factors.n / 2; i++) {
        struct tensor *a = &l->factors.p[2 * i].used, *b = &l->factors.p[2 * i + 1].used;
        const double scale = alpha != 0 ? alpha / (double)tensor_rows(a) : 1;
        l->low[i] = (struct low_rank){a, b, (float)scale};
        lora_base(m, i)->used.plus = &l->low[i];
    }
    return 0;
}

void lora_free(struct transformer *m)
{
    for (int i = 0; i < m->store.n; i++)
        m->store.p[i].used.plus = NULL;
    store_free(&m->lora.factors);
    free(m->lora.low);
    m->lora = (struct lora){0};
}

int lora_merge(struct transformer *m)
{
    for (int i = 0; i < m->lora.factors.n / 2; i++) {
        const struct low_rank *l = &m->lora.low[i];
        const struct param *p = lora_base(m, i);
        const int64_t O = tensor_rows(&p->used), I = tensor_cols(&p->used), r = tensor_rows(l->a);
        float *b = mem_new((size_t)(O * r), sizeof *b);
        if (!b)
            return -1;
        rows->scale(O * r, l->scale, l->b->data, b);
        gemm(false, false, O, I, r, b, r, l->a->data, I, true, p->latent, I);
        free(b);
    }
    lora_free(m);
    return 0;
}
