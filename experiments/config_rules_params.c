/* What a stage `qat` trains: all, scales alone, or factors over frozen blocks. */
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/spell.h"
#include "compress/recipe.h"
#include "experiments/config_parts.h"
#include "layers/lora.h"

static void rules_frozen(const struct config_stage *s, const struct yaml *node,
                         struct mistakes *bad)
{
    const struct config_qat *q = &s->qat;
    if (q->params == PARAMS_LORA && q->refit)
        config_useless(node, "refit", "blocks under factors stay as they are", bad);
}

static void rules_scales(const struct config_stage *s, const struct yaml *node,
                         struct mistakes *bad)
{
    const struct config_qat *q = &s->qat;
    if (q->params != PARAMS_SCALES || !config_sound(node, "params"))
        return;
    if (s->train.weight_decay > 0)
        config_useless(node, "weight_decay", "weights are not trained (params)", bad);
    if (q->scales == SCALES_FROZEN && config_sound(node, "scales"))
        mistake_add(bad, config_place(node, "scales"),
                    "params: scales trains nothing but scales: give scales: learned, or super");
}

static void rules_lora(const struct config_stage *s, const struct yaml *node, struct mistakes *bad)
{
    const struct texts *t = &s->qat.lora.targets;
    const struct yaml *map = yaml_get(node, "lora");
    if (s->qat.params != PARAMS_LORA || (map && (map->bad || !config_sound(map, "targets"))))
        return;
    for (int i = 0; i < t->n; i++) {
        struct spell near = {.word = t->value[i]};
        bool known = t->n == 1 && !strcmp(t->value[i], "all");
        for (int k = 0; lora_targets[k]; k++) {
            known = known || !strcmp(t->value[i], lora_targets[k]);
            spell_offer(&near, lora_targets[k]);
        }
        for (int k = 0; k < i; k++)
            known = known && strcmp(t->value[i], t->value[k]) != 0;
        if (!known)
            mistake_add(bad, config_place(map ? map : node, "targets"),
                        "targets: '%.40s' is no matrix of a block, or there twice%s%s%s",
                        t->value[i], near.best ? "; did you mean '" : "",
                        near.best ? near.best : "", near.best ? "'?" : "");
    }
}

void config_rules_params(const struct config_stage *s, const struct yaml *node,
                         struct mistakes *bad)
{
    rules_frozen(s, node, bad);
    rules_scales(s, node, bad);
    rules_lora(s, node, bad);
}

/* Factors are merged, or go with the very blocks that they were trained over. */
void config_rules_merge(const struct config *c, const struct config_stage *s,
                        const struct yaml *node, struct mistakes *bad)
{
    const struct config_stage *from = s->parent >= 0 ? &c->stages[s->parent] : NULL;
    if (!from || !config_sound(node, "type") || !config_sound(node, "merge"))
        return;
    const bool lora = from->kind == STAGE_QAT && from->qat.params == PARAMS_LORA;
    if (s->export.merge && !lora)
        mistake_add(bad, config_place(node, "merge"), "merge: '%s' has no factors", from->name);
    if (!lora || s->export.merge || !s->export.type || !from->qat.type)
        return;
    const struct recipe_mix *to = recipe_mix_find(s->export.type);
    const struct recipe_mix *of = recipe_mix_find(from->qat.type);
    if (to && of && to != of)
        mistake_add(bad, config_place(node, "type"),
                    "type: the factors of '%s' are over weights in %s: give that type, or merge: "
                    "true",
                    from->name, of->name);
}
