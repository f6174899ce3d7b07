#include "autograd/autograd.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/arena.h"
#include "autograd/base/err.h"
#include "autograd/base/mem.h"
#include "autograd/base/rng.h"
#include "autograd/kernels/gemm_bf16.h"

enum { SLAB_ALIGN = 16 }; /* floats: a cache line */

/* Where the only link of p's chain keeps `used`; NULL: used is f32. */
static const struct tensor *value_of(const struct param *p)
{
    const bool alone = p->chain && !p->chain->next;
    return alone && p->latent_grad ? p->chain->value : NULL;
}

int store_add(struct store *s, const char *name, int nd, const int64_t *dim, float init_std)
{
    if (s->latent)
        BUG("store_add(%s) after store_alloc", name);
    if (strlen(name) >= PARAM_NAME)
        return err("parameter name %s is longer than %d bytes", name, PARAM_NAME - 1);
    if (store_find(s, name))
        return err("parameter %s is declared twice", name);
    size_t numel = 1;
    for (int i = 0; i < nd; i++)
        if (dim[i] < 1 || __builtin_mul_overflow(numel, (size_t)dim[i], &numel))
            return err("parameter %s: dimension %d is %lld", name, i, (long long)dim[i]);
    if (numel > (size_t)1 << 40 || s->len > (size_t)1 << 40)
        return err("parameter %s: %zu elements are more than this program handles", name, numel);
    if (mem_grow(&s->p, &s->cap, (size_t)s->n + 1, sizeof *s->p))
        return -1;
    struct param *p = &s->p[s->n++];
    snprintf(p->name, sizeof p->name, "%s", name);
    p->used = (struct tensor){.dt = &dtype_f32, .nd = nd};
    for (int i = 0; i < nd; i++)
        p->used.dim[i] = dim[i];
    p->init_std = init_std;
    p->init_mean = 1;
    p->decay = p->product = nd > 1;
    s->len += (numel + SLAB_ALIGN - 1) / SLAB_ALIGN * SLAB_ALIGN;
    return 0;
}

int store_alloc(struct store *s, enum store_use use)
{
    static float nowhere; // a measuring ctx wants to see that there is a gradient, never reads it
    const bool with_grad = use == STORE_TRAINED || use == STORE_SHAPES;
    s->shapes = use == STORE_SHAPES;
    if (use == STORE_MAPPED)
        return 0;
    if (use != STORE_SHAPES) {
        s->latent = mem_slab(s->len, sizeof(float));
        s->grad = with_grad ? mem_slab(s->len, sizeof(float)) : NULL;
        if (!s->latent || (with_grad && !s->grad))
            return err_in("parameters");
    }
    size_t at = 0;
    for (int i = 0; i < s->n; i++) {
        struct param *p = &s->p[i];
        p->used.data = p->latent = s->latent ? s->latent + at : &nowhere;
        p->used.needs_grad = with_grad;
        p->used.grad_f32 = with_grad;
        if (with_grad)
            p->used.grad = p->latent_grad = s->grad ? s->grad + at : &nowhere;
        const size_t numel = (size_t)tensor_numel(&p->used);
        at += (numel + SLAB_ALIGN - 1) / SLAB_ALIGN * SLAB_ALIGN;
    }
    return 0;
}

void store_free(struct store *s)
{
    for (int i = 0; i < s->n; i++) {
        struct param *p = &s->p[i];
        if (p->chain && !value_of(p))
            free(p->used.data);
        free(p->own);
        free(p->panels);
        for (struct reparam *r = p->chain, *next; r; r = next) {
            next = r->next;
            if (r->op->free)
                r->op->free(r);
            free(r);
        }
    }
    for (int i = 0; i < s->n_states; i++)
        free(s->state[i].slab);
    free(s->scratch);
    free(s->packed);
    free(s->latent);
    free(s->grad);
    free(s->p);
    free(s->copy);
    if (s->close)
        s->close(s->file);
    *s = (struct store){0};
}

int store_map(struct param *p, const struct dtype *dt, const void *data)
{
    p->used.dt = dt;
    p->used.data = (void *)(uintptr_t)data; // a frozen weight is only read
    if (p->used.nd > 1 || dt == &dtype_f32)
        return 0;
    if (!(p->own = mem_new((size_t)tensor_numel(&p->used), sizeof(float))))
        return err_in("parameter %s", p->name);
    dt->decode(&p->used, 0, p->own);
    p->used.dt = &dtype_f32;
    p->used.data = p->own;
    return 0;
}

int store_let_go(struct store *s)
{
    for (int i = 0; i < s->n; i++) {
        struct param *p = &s->p[i];
        if (p->used.data == p->latent) {
            if (!(p->own = mem_slab((size_t)tensor_numel(&p->used), sizeof(float))))
                return err_in("parameter %s", p->name);
            memcpy(p->own, p->latent, tensor_bytes(&p->used));
            p->used.data = p->own;
        }
        p->latent = NULL;
    }
    free(s->latent);
    s->latent = NULL;
    return 0;
}

/* By all threads. */
static void copy_bytes(char *to, const char *from, size_t n)
{
    enum { PIECE = 1 << 20 };
#pragma omp parallel for schedule(static)
    for (size_t at = 0; at < n; at += PIECE)
        memcpy(to + at, from + at, n - at < PIECE ? n - at : PIECE);
}

int store_copy(struct store *s)
{
    size_t bytes = 0, at = 0;
    if (!s->close)
        return 0;
    for (int i = 0; i < s->n; i++)
        bytes += s->p[i].own ? 0 : (tensor_bytes(&s->p[i].used) + ARENA_ALIGN - 1) / ARENA_ALIGN;
    if (!(s->copy = mem_slab(bytes, ARENA_ALIGN)))
        return err_in("a copy of the weights");
    for (int i = 0; i < s->n; i++) {
        struct tensor *t = &s->p[i].used;
        if (s->p[i].own)
            continue;
        copy_bytes(s->copy + at, t->data, tensor_bytes(t));
        t->data = s->copy + at;
        at += (tensor_bytes(t) + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    }
    s->close(s->file);
    s->close = NULL;
    s->file = NULL;
    return 0;
}

struct param *store_find(const struct store *s, const char *name)
{
    for (int i = 0; i < s->n; i++)
        if (!strcmp(s->p[i].name, name))
            return &s->p[i];
    return NULL;
}

float *store_state(struct store *s, const char *name)
{
    for (int i = 0; i < s->n_states; i++)
        if (!strcmp(s->state[i].name, name))
            return s->state[i].slab;
    if (s->n_states == STORE_STATES)
        BUG("more than %d optimizer states", STORE_STATES);
    float *slab = mem_slab(s->len, sizeof *slab);
    if (!slab) {
        err_in("optimizer state %s", name);
        return NULL;
    }
    s->state[s->n_states].name = name;
    s->state[s->n_states++].slab = slab;
    return slab;
}

int store_scratch(struct store *s, size_t n)
{
    if (n <= s->n_scratch)
        return 0;
    free(s->scratch);
    s->n_scratch = 0;
    s->scratch = mem_slab(n, sizeof *s->scratch);
    if (!s->scratch)
        return err_in("optimizer's scratch");
    s->n_scratch = n;
    return 0;
}

void store_init(struct store *s, uint64_t seed)
{
    for (int i = 0; i < s->n; i++) {
        struct param *p = &s->p[i];
        const size_t n = (size_t)tensor_numel(&p->used);
        if (p->init_std > 0)
            rng_normal(rng_key(seed, p->name), p->init_std, p->latent, n);
        else
            for (size_t j = 0; j < n; j++)
                p->latent[j] = p->init_mean;
    }
    store_project(s);
}

int param_chain(struct param *p, struct reparam *r)
{
    const bool kept = !p->chain && p->latent_grad && r->value;
    if (kept) {
        p->used.data = r->value->data;
        p->used.dt = r->value->dt;
    } else if (!p->chain || value_of(p)) {
        float *own = mem_slab((size_t)tensor_numel(&p->used), sizeof *own);
        if (!own)
            return err_in("parameter %s", p->name);
        p->used.data = own;
        p->used.dt = &dtype_f32;
    }
    r->cols = tensor_cols(&p->used);
    struct reparam **end = &p->chain;
    while (*end)
        end = &(*end)->next;
    r->next = NULL;
    *end = r;
    return 0;
}

void store_zero_grad(struct store *s)
{
    for (int i = 0; i < s->n; i++)
        s->p[i].used.stale = true;
}

/* y [n,cols] <- what the links before `end` make of rows [row, row + n) of the latents. */
static void project_until(const struct param *p, const struct reparam *end, int64_t row, int64_t n,
                          float *y)
{
    const float *x = p->latent + row * tensor_cols(&p->used);
    for (const struct reparam *r = p->chain; r != end; r = r->next, x = y)
        r->op->project(r, row, n, x, y);
}

/* ---- panels ---- */

/* Elements of a matrix' panels; 0: it has none. */
static int64_t packed_numel(const struct param *p)
{
    const int64_t O = tensor_rows(&p->used), I = tensor_cols(&p->used);
    return p->product && p->used.nd == 2 ? panels_numel(I, O) : 0;
}

size_t store_panels_bytes(const struct store *s)
{
    size_t n = 0;
    for (int i = 0; i < s->n; i++)
        n += (size_t)packed_numel(&s->p[i]);
    return n * sizeof *s->packed;
}

/* Rows of a group: a panel's. */
static int64_t group(int64_t O, int64_t g)
{
    return O - g * PANEL < PANEL ? O - g * PANEL : PANEL;
}

/* The panels of a matrix that is not of f32, which stays as it is. 0 or -1. */
static int pack_decoded(const struct param *p)
{
    const struct tensor *t = &p->used;
    const int64_t O = tensor_rows(t), I = tensor_cols(t);
    bool no_memory = false;
#pragma omp parallel reduction(|| : no_memory)
    {
        float *x = malloc((size_t)(PANEL * I) * sizeof *x);
        no_memory = !x;
#pragma omp for schedule(static)
        for (int64_t g = 0; g < panel_count(O); g++) {
            for (int64_t i = 0; x && i < group(O, g); i++)
                t->dt->decode(t, g * PANEL + i, x + i * I);
            if (x)
                gemm_bf16->pack(true, x, false, I, I, group(O, g), 0, 1,
                                p->panels->forward + g * PANEL * panel_depth(I));
        }
        free(x);
    }
    return no_memory ? err("out of memory: weights in bf16") : 0;
}

int store_panels(struct store *s)
{
    size_t at = 0;
    if (!s->shapes && !(s->packed = mem_slab(store_panels_bytes(s), 1)))
        return err_in("weights in bf16");
    for (int i = 0; i < s->n; i++) {
        struct param *p = &s->p[i];
        const size_t n = (size_t)packed_numel(p);
        if (!n)
            continue;
        p->panels = mem_new(1, sizeof *p->panels);
        if (!p->panels)
            return -1;
        p->used.panels = p->panels;
        if (s->packed)
            p->panels->forward = s->packed + at;
        if (s->packed && !p->chain && p->used.dt != &dtype_f32 && pack_decoded(p))
            return -1;
        at += n;
    }
    return 0;
}

/* By the team that calls it: rows are projected and packed while the cache has them. Rows that are
   kept elsewhere pass through `own`, if anybody reads them. */
static void project(const struct param *p, bool packs, float *own)
{
    const int64_t O = tensor_rows(&p->used), I = tensor_cols(&p->used);
    const int64_t stride = panel_depth(I) * PANEL;
    const bool kept = value_of(p);
#pragma omp for schedule(dynamic, 4) nowait
    for (int64_t g = 0; g < panel_count(O); g++) {
        const int64_t n = group(O, g);
        float *y = kept ? packs ? own : NULL : (float *)p->used.data + g * PANEL * I;
        if (p->chain)
            project_until(p, NULL, g * PANEL, n, y);
        if (packs)
            gemm_bf16->pack(true, y, false, I, I, n, 0, 1, p->panels->forward + g * stride);
    }
}

/* Floats of the largest group of rows that a thread keeps to itself; 0: there is none. */
static size_t own_rows(const struct store *s)
{
    size_t most = 0;
    for (int i = 0; i < s->n; i++) {
        const struct tensor *t = &s->p[i].used;
        const size_t n = (size_t)(group(tensor_rows(t), 0) * tensor_cols(t));
        if (value_of(&s->p[i]) && n > most)
            most = n;
    }
    return (most + SLAB_ALIGN - 1) / SLAB_ALIGN * SLAB_ALIGN;
}

/* What lies between parameters in the slab of gradients, and is summed with them, is 0 again. */
static void clear_gaps(const struct store *s)
{
    for (int i = 0; i < s->n; i++) {
        const struct param *p = &s->p[i];
        const float *end = i + 1 < s->n ? s->p[i + 1].latent_grad : s->grad + s->len;
        float *from = p->latent_grad + tensor_numel(&p->used);
        memset(from, 0, (size_t)(end - from) * sizeof *from);
    }
}

void store_project(struct store *s)
{
    bool any = s->packed;
    for (int i = 0; i < s->n; i++)
        any |= s->p[i].chain != NULL;
    // gradients have been used by now: their slab has room for the rows that threads have in hand
    const size_t own = own_rows(s), room = own ? s->len / own : SIZE_MAX;
    const int most = omp_get_max_threads(), team = room < (size_t)most ? (int)room : most;
#pragma omp parallel num_threads(team) if (any)
    for (int i = 0; i < s->n; i++) {
        const struct param *p = &s->p[i];
        const bool stays = !p->chain && p->used.dt != &dtype_f32; // store_panels() has packed it
        const bool packs = s->packed && p->panels && !stays;
        if (packs || s->p[i].chain)
            project(&s->p[i], packs, own ? s->grad + (size_t)omp_get_thread_num() * own : NULL);
    }
    if (own)
        clear_gaps(s);
}

/* The links from r on, the last one first, for some rows. */
static void pullback_from(const struct param *p, const struct reparam *r, int64_t row, int64_t n)
{
    const int64_t at = row * tensor_cols(&p->used);
    const float *x = p->latent + at;
    if (r->next)
        pullback_from(p, r->next, row, n);
    if (r != p->chain) {
        // the link's input is made again in `used`, which the next projection overwrites anyway
        float *y = (float *)p->used.data + at;
        project_until(p, r, row, n, y);
        x = y;
    }
    r->op->pullback(r, row, n, x, p->latent_grad + at);
}

static void pullback(const struct param *p)
{
    const int64_t O = tensor_rows(&p->used);
#pragma omp for schedule(dynamic, 4) nowait
    for (int64_t g = 0; g < panel_count(O); g++)
        pullback_from(p, p->chain, g * PANEL, group(O, g));
}

void store_pullback(struct store *s)
{
    bool any = false;
    for (int i = 0; i < s->n; i++) {
        struct tensor *t = &s->p[i].used;
        if (t->stale)
            memset(t->grad, 0, tensor_grad_bytes(t));
        t->stale = false;
        any |= s->p[i].chain != NULL;
    }
#pragma omp parallel if (any)
    for (int i = 0; i < s->n; i++)
        if (s->p[i].chain)
            pullback(&s->p[i]);
}

int64_t store_numel(const struct store *s)
{
    int64_t n = 0;
    for (int i = 0; i < s->n; i++)
        n += tensor_numel(&s->p[i].used);
    return n;
}

size_t store_bytes(const struct store *s)
{
    const size_t slabs = (size_t)s->n_states + (s->latent ? 1 : 0) + (s->grad ? 1 : 0);
    size_t n = (slabs * s->len + s->n_scratch) * sizeof(float);
    n += s->packed ? store_panels_bytes(s) : 0;
    for (int i = 0; i < s->n; i++) {
        const struct param *p = &s->p[i];
        const bool own = p->own || (p->chain && !value_of(p));
        n += own ? (size_t)tensor_numel(&p->used) * sizeof(float) : 0;
    }
    return n;
}
