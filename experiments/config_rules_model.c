#include <inttypes.h>
#include <string.h>

#include "experiments/config_parts.h"
#include "layers/arch.h"

/* A count for all layers that is written as a list of equal ones becomes one count. */
static void simplify(struct ints *list)
{
    for (int i = 1; i < list->n; i++)
        if (list->value[i] != list->value[0])
            return;
    list->n = list->n > 1 ? 1 : list->n;
}

static bool check_length(const struct config_model *m, const char *key, struct ints *list,
                         const struct yaml *node, struct mistakes *bad)
{
    if (!config_sound(node, key) || !config_sound(node, "n_layers") || !m->n_layers)
        return false;
    if (list->n > 1 && list->n != m->n_layers) {
        mistake_add(bad, config_place(node, key),
                    "%s: a list of %d for %" PRId64 " layers: give one count, or one a layer", key,
                    list->n, m->n_layers);
        return false;
    }
    simplify(list);
    return list->n > 0;
}

/* The divisors of n on both sides of k, which is none. */
static void nearest_divisors(int64_t n, int64_t k, struct buf *out)
{
    int64_t below = k < n ? k : n;
    while (n % below)
        below--;
    int64_t above = k + 1;
    while (above <= n && n % above)
        above++;
    if (above <= n)
        buf_printf(out, ": the nearest are %" PRId64 " and %" PRId64, below, above);
    else
        buf_printf(out, ": the nearest is %" PRId64, below);
}

static void rules_heads(struct config_model *m, const struct yaml *node, struct mistakes *bad)
{
    const bool heads = check_length(m, "n_heads", &m->n_heads, node, bad);
    if (heads && !m->n_kv_heads.n && config_sound(node, "n_kv_heads"))
        m->n_kv_heads = m->n_heads;
    const bool kv = check_length(m, "n_kv_heads", &m->n_kv_heads, node, bad);
    if (!heads || !kv)
        return;
    for (int l = 0; l < m->n_layers; l++) {
        const int64_t q = ints_at(&m->n_heads, l), k = ints_at(&m->n_kv_heads, l);
        if (q % k == 0)
            continue;
        struct buf near = {0};
        if (m->n_heads.n == 1 && m->n_kv_heads.n == 1)
            nearest_divisors(q, k, &near);
        mistake_add(bad, config_place(node, "n_kv_heads"),
                    "n_kv_heads: %" PRId64 " heads of layer %d are no multiple of %" PRId64 "%s", q,
                    l, k, near.n && !near.failed ? near.p : "");
        buf_free(&near);
        return;
    }
}

/* d_model is no multiple of the heads, or of twice the heads, as it has to be. */
static void wrong_width(const struct config_model *m, const struct yaml *node, int64_t unit,
                        bool may, struct mistakes *bad)
{
    const struct field *model = field_find(config_fields, "model")->fields;
    const int64_t heads = m->n_heads.value[0];
    struct buf near = {0};
    config_nearest(m->d_model, unit, field_find(model, "d_model"), &near);
    const char *list = near.failed ? "" : near.p, * or = may ? ", or give head_dim" : "";
    if (m->d_model % heads)
        mistake_add(bad, config_place(node, "d_model"),
                    "d_model: %" PRId64 " is no multiple of %" PRId64 " heads%s%s", m->d_model,
                    heads, list, or);
    else
        mistake_add(bad, config_place(node, "d_model"),
                    "d_model: %" PRId64 " makes %" PRId64 " heads of %" PRId64
                    ", which is odd, and rotary positions turn pairs%s%s",
                    m->d_model, heads, m->d_model / heads, list, or);
    buf_free(&near);
}

static void rules_head_dim(struct config_model *m, const struct yaml *node, struct mistakes *bad)
{
    if (!m->n_heads.n || !config_sound(node, "n_heads") || !config_sound(node, "head_dim"))
        return;
    const struct field *model = field_find(config_fields, "model")->fields;
    const int64_t pairs =
        arch_rows[m->arch].traits & ARCH_LEARNED ? 1 : 2; // rotary ones turn pairs
    if (!m->head_dim) {
        const int64_t heads = m->n_heads.value[0];
        if (!m->d_model || !config_sound(node, "d_model"))
            return;
        const bool may = field_applies(model, field_find(model, "head_dim"), m);
        if (m->n_heads.n > 1 && may)
            mistake_add(bad, config_place(node, "n_heads"),
                        "missing key 'head_dim' in model: needed where n_heads differ by layer");
        else if (m->n_heads.n > 1)
            mistake_add(bad, config_place(node, "n_heads"),
                        "n_heads: %s has heads of d_model / n_heads, so one count for all layers",
                        arch_rows[m->arch].name);
        else if (m->d_model % (heads * pairs))
            wrong_width(m, node, heads * pairs, may, bad);
        else
            m->head_dim = m->d_model / heads;
    } else if (m->head_dim % pairs) {
        struct buf near = {0};
        config_nearest(m->head_dim, pairs, field_find(model, "head_dim"), &near);
        mistake_add(bad, config_place(node, "head_dim"),
                    "head_dim: %" PRId64 " is odd, and rotary positions turn pairs%s", m->head_dim,
                    near.failed ? "" : near.p);
        buf_free(&near);
    }
}

void config_rules_model(struct config *c, const struct yaml *node, struct mistakes *bad)
{
    struct config_model *m = &c->model;
    if (!yaml_get(node, "tie_embeddings"))
        m->tie_embeddings = arch_rows[m->arch].traits & ARCH_TIED;
    rules_heads(m, node, bad);
    rules_head_dim(m, node, bad);
    check_length(m, "d_ff", &m->d_ff, node, bad);
    const struct yaml *rope = yaml_get(node, "rope_scaling");
    const struct config_rope_scaling *r = &m->rope_scaling;
    if (rope && r->type == ROPE_SCALING_LLAMA3 && config_sound(rope, "low_freq_factor") &&
        config_sound(rope, "high_freq_factor") && r->low_freq_factor >= r->high_freq_factor)
        mistake_add(bad, config_place(rope, "high_freq_factor"),
                    "high_freq_factor: %g is not above low_freq_factor, %g", r->high_freq_factor,
                    r->low_freq_factor);
}
