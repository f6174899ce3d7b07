#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/spell.h"
#include "compress/recipe.h"
#include "experiments/config_parts.h"
#include "layers/arch.h"

bool config_sound(const struct yaml *map, const char *key)
{
    const struct yaml *node = yaml_get(map, key);
    return !node || !node->bad;
}

struct place config_place(const struct yaml *map, const char *key)
{
    const struct yaml *node = yaml_get(map, key);
    return node ? node->at : map->at;
}

void config_nearest(int64_t v, int64_t unit, const struct field *f, struct buf *out)
{
    int64_t below = v / unit * unit, above = below + unit;
    while ((double)below > f->max)
        below -= unit;
    if ((double)below >= f->min && below > 0 && (double)above <= f->max)
        buf_printf(out, ": the nearest are %" PRId64 " and %" PRId64, below, above);
    else if ((double)below >= f->min && below > 0)
        buf_printf(out, ": the nearest is %" PRId64, below);
    else if ((double)above <= f->max)
        buf_printf(out, ": the least is %" PRId64, above);
}

void config_useless(const struct yaml *map, const char *key, const char *why, struct mistakes *bad)
{
    const struct yaml *node = yaml_get(map, key);
    if (node && !node->bad)
        mistake_add(bad, node->key_at, "%s has no effect: %s", key, why);
}

static bool made_of(const char *s, const char *signs)
{
    static const char alnum[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    for (; *s; s++)
        if (!strchr(alnum, *s) && !strchr(signs, *s))
            return false;
    return true;
}

static bool ends_in(const char *ref, const char *tail)
{
    const size_t n = strlen(ref), m = strlen(tail);
    return n > m && !strcmp(ref + n - m, tail);
}

static bool is_checkpoint(const char *ref)
{
    return ends_in(ref, ".h5");
}

static void rules_top(const struct config *c, const struct yaml *root, struct mistakes *bad)
{
    const struct place name = config_place(root, "name");
    if (c->name && config_sound(root, "name")) {
        if (!*c->name || !made_of(c->name, "._-") || strlen(c->name) > 100)
            mistake_add(bad, name, "name: '%.60s' is not 1 to 100 letters, digits, . _ -", c->name);
        else if (*c->name == '.' || *c->name == '-')
            mistake_add(bad, name,
                        "name: '%.60s' begins with '%c', which hides the folder or "
                        "looks like a flag",
                        c->name, *c->name);
    }
    if (!*c->out && config_sound(root, "out"))
        mistake_add(bad, config_place(root, "out"), "out: the folder's name is empty");
}

static void rules_stage_name(const struct config *c, int i, struct yaml *const *nodes,
                             struct mistakes *bad)
{
    const char *name = c->stages[i].name;
    const struct place at = config_place(nodes[i], "name");
    if (!*name || !made_of(name, "_-") || strlen(name) > 60)
        mistake_add(bad, at, "name: '%.60s' is not 1 to 60 letters, digits, _ -", name);
    else if (strspn(name, "0123456789") == strlen(name))
        mistake_add(bad, at, "name: '%s' is a number: overrides could not tell it from an index",
                    name);
    else if (field_find(config_fields, name) || !strcmp(name, "stages") ||
             !strcmp(name, CONFIG_SCRATCH))
        mistake_add(bad, at, "name: '%s' means something else in a config: choose another", name);
    for (int k = 0; k < i; k++) {
        if (strcmp(c->stages[k].name, name))
            continue;
        mistake_add(bad, at,
                    "the name '%.60s' is taken by the stage at line %d: give this one "
                    "another `name`",
                    name, nodes[k]->key_at.line);
        return;
    }
}

size_t config_compare_name(const char *name, const char **type)
{
    const char *at = strrchr(name, '@');
    *type = at ? at + 1 : NULL;
    return at ? (size_t)(at - name) : strlen(name);
}

/* What names no stage may be meant as a file: says what is needed in its place. */
static bool is_other_file(const char *ref, const char *key, struct place at, struct mistakes *bad)
{
    const char *colon = *key ? ": " : "";
    if (ends_in(ref, ".gguf"))
        mistake_add(
            bad, at,
            "%s%s'%.200s' is a GGUF file: `attar import %.200s NAME.h5` makes a checkpoint of "
            "it, whose path is wanted here",
            key, colon, ref, ref);
    else if (strchr(ref, '/') || ends_in(ref, ".safetensors"))
        mistake_add(bad, at,
                    "%s%s'%.200s' is no checkpoint .h5; a stage's folder has checkpoint.h5, and "
                    "`attar import` makes one of a Hugging Face folder or a GGUF file",
                    key, colon, ref);
    else
        return false;
    return true;
}

/* Resolves a reference made by stage i: the index of an earlier stage, -1 for a checkpoint, -2
   after a mistake. */
static int resolve(const struct config *c, int i, const char *ref, struct place at, bool silent,
                   struct mistakes *bad)
{
    struct spell near = {.word = ref};
    if (is_checkpoint(ref))
        return -1;
    const int k = config_stage_find(c, ref);
    if (k >= 0 && k < i && config_kinds[c->stages[k].kind].makes_model)
        return k;
    for (int s = 0; s < i; s++)
        if (config_kinds[c->stages[s].kind].makes_model)
            spell_offer(&near, c->stages[s].name);
    if (c->stages[i].kind == STAGE_PRETRAIN)
        spell_offer(&near, CONFIG_SCRATCH);
    if (k >= i)
        mistake_add(bad, at, "'%s' %s", ref,
                    k == i ? "is this stage itself"
                           : "comes later: a stage builds on earlier ones");
    else if (k >= 0)
        mistake_add(bad, at, "'%s' makes no model", ref);
    else if (is_other_file(ref, "", at, bad))
        return -2;
    else if (near.best)
        mistake_add(bad, at, "there is no stage '%.60s'; did you mean '%s'?", ref, near.best);
    else if (!silent)
        mistake_add(bad, at,
                    "there is no stage '%.60s' before this one, and a checkpoint's path "
                    "ends in .h5",
                    ref);
    return -2;
}

static void rules_from(const struct config *c, int i, int before, const struct yaml *node,
                       bool all_known, struct mistakes *bad)
{
    struct config_stage *s = &c->stages[i];
    if (!config_sound(node, "from"))
        return;
    const struct place at = config_place(node, "from");
    if (!s->from && before < 0 && s->kind != STAGE_PRETRAIN) {
        if (all_known)
            mistake_add(bad, node->key_at,
                        "%s: no stage before makes a model: give `from` the "
                        "path of a checkpoint .h5",
                        s->name);
        return;
    }
    if (!s->from)
        s->from = before >= 0 ? c->stages[before].name : CONFIG_SCRATCH;
    if (!strcmp(s->from, CONFIG_SCRATCH)) {
        if (s->kind != STAGE_PRETRAIN)
            mistake_add(bad, at, "only pretrain can start from scratch");
        return;
    }
    const int parent = resolve(c, i, s->from, at, !all_known, bad);
    if (parent >= 0)
        s->parent = parent;
    else if (parent == -1)
        s->checkpoint = s->from;
}

/* A name in `compare`: a stage or a checkpoint, which may be quantized first; or a GGUF file, also
   by the stage that exports it. */
static void rules_compared(struct config *c, int i, const char *name, struct place at, bool silent,
                           struct mistakes *bad)
{
    const char *type, *model = pool_text(&c->pool, name, config_compare_name(name, &type));
    const int k = model ? config_stage_find(c, model) : -1;
    const bool file = k >= 0 && k < i && c->stages[k].kind == STAGE_EXPORT;
    const bool gguf = file || (model && ends_in(model, ".gguf"));
    if (model && !gguf)
        resolve(c, i, model, at, silent, bad);
    if (type && gguf)
        mistake_add(bad, at,
                    "'%.60s': a GGUF file is measured as it is; make the other with "
                    "`attar quantize`",
                    name);
    else if (type && !recipe_mix_find(type))
        mistake_add(bad, at, "'%.60s': %s", name, err_text());
}

static void rules_evaluate(struct config *c, int i, int before, const struct yaml *node,
                           bool all_known, struct mistakes *bad)
{
    struct config_stage *s = &c->stages[i];
    struct texts *list = &s->evaluate.compare;
    if (c->data.valid_fraction == 0)
        mistake_add(bad, node->key_at,
                    "%s: there is nothing to measure on: data.valid_fraction "
                    "is 0",
                    s->name);
    const char *reference = s->evaluate.reference;
    if (reference && config_sound(node, "reference") && !ends_in(reference, ".gguf"))
        resolve(c, i, reference, config_place(node, "reference"), !all_known, bad);
    if (!config_sound(node, "compare"))
        return;
    if (list->n) {
        config_useless(node, "from", "compare says what is measured", bad);
    } else {
        static const struct field row = {FIELD_AT(config_evaluate, compare), .type = FIELD_TEXTS};
        rules_from(c, i, before, node, all_known, bad);
        if (s->from && field_set(&row, &s->evaluate, s->from, strlen(s->from), &c->pool))
            mistake_add(bad, node->at, "%s", err_text());
    }
    const struct yaml *given = yaml_get(node, "compare");
    const struct yaml *element = given ? given->first : NULL;
    for (int k = 0; given && k < list->n; k++) {
        const struct place at = element ? element->at : given->at;
        rules_compared(c, i, list->value[k], at, !all_known, bad);
        for (int j = 0; j < k; j++)
            if (!strcmp(list->value[j], list->value[k]))
                mistake_add(bad, at, "'%.60s' is listed twice", list->value[k]);
        element = element ? element->next : NULL;
    }
    s->from = NULL; // `compare` holds it now
    s->parent = -1;
    s->checkpoint = NULL;
}

static void rules_finetune(const struct config *c, struct config_stage *s, const struct yaml *node,
                           struct mistakes *bad)
{
    struct config_finetune *f = &s->finetune;
    (void)c;
    if (!f->data || !config_sound(node, "data"))
        return;
    const char *dot = strrchr(f->data, '.');
    if (strstr(f->data, "${")) {
        mistake_add(bad, config_place(node, "data"),
                    "data: variables are expanded in data.corpus "
                    "only");
    } else if (dot && !strcmp(dot, ".jsonl")) {
        f->prompt_key = f->prompt_key ? f->prompt_key : "prompt";
        f->completion_key = f->completion_key ? f->completion_key : "completion";
        if (!strcmp(f->prompt_key, f->completion_key))
            mistake_add(bad, config_place(node, "completion_key"),
                        "completion_key: the same as prompt_key");
    } else if (dot && !strcmp(dot, ".txt")) {
        config_useless(node, "prompt_key", "a .txt has no keys", bad);
        config_useless(node, "completion_key", "a .txt has no keys", bad);
    } else {
        mistake_add(bad, config_place(node, "data"),
                    "data: '%.80s' ends neither in .txt nor in "
                    ".jsonl",
                    f->data);
    }
}

/* A model of the config's own shape that llama.cpp has no architecture for; of one from a file
   `attar check` says it. */
static void rules_widths(const struct config *c, const struct config_stage *s,
                         const struct yaml *node, struct mistakes *bad)
{
    const struct config_model *m = &c->model;
    if (arch_rows[m->arch].varied || (m->n_heads.n < 2 && m->n_kv_heads.n < 2 && m->d_ff.n < 2))
        return;
    while (s->parent >= 0)
        s = &c->stages[s->parent];
    if (!s->checkpoint)
        mistake_add(
            bad, config_place(node, "type"),
            "export: layers differ in heads or widths, and llama.cpp's %s has one width for "
            "all; its llama may differ",
            arch_rows[m->arch].name);
}

static void rules_export(const struct config_stage *s, const struct yaml *node,
                         struct mistakes *bad)
{
    const struct mix_args *m = &s->export.mix;
    struct recipe r;
    if (s->export.type && config_sound(node, "type") && !recipe_mix_find(s->export.type))
        mistake_add(bad, config_place(node, "type"), "type: %s", err_text());
    if (m->output_tensor_type && !recipe_type(m->output_tensor_type))
        mistake_add(bad, config_place(node, "output_tensor_type"), "output_tensor_type: %s",
                    err_text());
    if (m->token_embedding_type && !recipe_type(m->token_embedding_type))
        mistake_add(bad, config_place(node, "token_embedding_type"), "token_embedding_type: %s",
                    err_text());
    const struct recipe_options o = {.type = "F16",
                                     .rules = m->tensor_type.value,
                                     .n_rules = m->tensor_type.n};
    if (recipe_init(&r, &o))
        mistake_add(bad, config_place(node, "tensor_type"), "tensor_type: %s", err_text());
    else
        recipe_free(&r);
}

/* The teacher: none, a file, or the last model before the weights went into blocks. */
static void rules_teacher(const struct config *c, struct config_stage *s, const struct yaml *node,
                          struct mistakes *bad)
{
    struct config_qat *q = &s->qat;
    q->teacher_stage = -1;
    if (s->train.continues && !yaml_get(node, "teacher"))
        q->teacher = "none"; // the model is not yet the one to be like
    if (!config_sound(node, "teacher") || !config_sound(node, "from"))
        return;
    if (!strcmp(q->teacher, "none")) {
        if (q->kl_weight > 0) // 0 is what a resolved config says
            config_useless(node, "kl_weight", "there is no teacher", bad);
        q->kl_weight = 0;
    } else if (q->kl_weight <= 0) {
        config_useless(node, "teacher", "kl_weight is 0", bad);
        q->teacher = "none";
    } else if (is_checkpoint(q->teacher)) {
        q->teacher_path = q->teacher;
    } else if (strcmp(q->teacher, "true") != 0 &&
               !is_other_file(q->teacher, "teacher", config_place(node, "teacher"), bad)) {
        mistake_add(bad, config_place(node, "teacher"),
                    "teacher: '%.60s' is neither true nor none, nor the path of a checkpoint .h5",
                    q->teacher);
    } else {
        const struct config_stage *from = s;
        do {
            q->teacher_stage = from->parent;
            q->teacher_path = from->parent < 0 ? from->checkpoint : NULL;
            from = from->parent < 0 ? NULL : &c->stages[from->parent];
        } while (from && from->kind == STAGE_QAT);
    }
}

static void rules_qat(const struct config *c, struct config_stage *s, const struct yaml *node,
                      struct mistakes *bad)
{
    struct recipe r;
    rules_teacher(c, s, node, bad);
    config_rules_params(s, node, bad);
    if (config_sound(node, "ema") && s->train.ema > 0)
        mistake_add(bad, config_place(node, "ema"),
                    "ema: an average of weights in blocks is in no blocks");
    if (!s->qat.type || !config_sound(node, "type"))
        return;
    if (mix_args_recipe(&s->qat.mix, s->qat.type, &r)) {
        mistake_add(bad, config_place(node, "type"), "type: %s", err_text());
        return;
    }
    if (r.mix->base->block == 1 && s->qat.params != PARAMS_LORA)
        mistake_add(bad, config_place(node, "type"), "type: %s has no blocks to train in",
                    r.mix->name);
    recipe_free(&r);
}

static void rules_model_needed(struct config *c, const struct yaml *root, bool all_known,
                               struct mistakes *bad)
{
    const struct yaml *node = yaml_get(root, "model");
    bool needed = false, unsure = !all_known;
    for (int i = 0; i < c->n_stages; i++) {
        const struct config_stage *s = &c->stages[i];
        const bool scratch = s->from && !strcmp(s->from, CONFIG_SCRATCH);
        needed |= scratch;
        unsure |= config_kinds[s->kind].makes_model && !scratch && s->parent < 0 && !s->checkpoint;
    }
    if (needed && !node)
        mistake_add(bad, root->at,
                    "missing key 'model': the shape of the model that is trained "
                    "from scratch");
    if (!needed && !unsure)
        config_useless(root, "model", "every stage starts from a checkpoint, whose shape counts",
                       bad);
}

/* `pairs` is the same as false where no text can hold any: the config says so then. */
static void rules_pairs(struct config *c)
{
    bool may = c->data.text_key; // there may be .jsonl in the corpus
    for (int i = 0; i < c->n_stages; i++)
        may |= c->stages[i].kind == STAGE_FINETUNE && c->stages[i].finetune.prompt_key;
    if (!may && c->data.mask_documents == PAIRS_ALONE)
        c->data.mask_documents = PAIRS_FALSE;
    if (!may && c->data.parse_special == PAIRS_ALONE)
        c->data.parse_special = PAIRS_FALSE;
}

void config_rules(struct config *c, const struct yaml *root, struct yaml *const *nodes,
                  bool all_known, struct mistakes *bad)
{
    if (root->kind != YAML_TREE)
        return;
    rules_top(c, root, bad);
    const struct yaml *data = yaml_get(root, "data"), *model = yaml_get(root, "model");
    if (data && !data->bad)
        config_rules_data(c, data, bad);
    if (model && !model->bad)
        config_rules_model(c, model, bad);
    int before = -1; // the last stage that makes a model
    for (int i = 0; i < c->n_stages; i++) {
        struct config_stage *s = &c->stages[i];
        if (nodes[i]->kind != YAML_TREE)
            continue;
        rules_stage_name(c, i, nodes, bad);
        if (s->kind == STAGE_EVALUATE) {
            rules_evaluate(c, i, before, nodes[i], all_known, bad);
            continue;
        }
        rules_from(c, i, before, nodes[i], all_known, bad);
        if (s->kind == STAGE_EXPORT) {
            rules_export(s, nodes[i], bad);
            rules_widths(c, s, nodes[i], bad);
            config_rules_merge(c, s, nodes[i], bad);
            continue;
        }
        config_rules_train(c, s, nodes[i], bad);
        if (s->kind == STAGE_FINETUNE)
            rules_finetune(c, s, nodes[i], bad);
        if (s->kind == STAGE_QAT)
            rules_qat(c, s, nodes[i], bad);
        before = i;
    }
    rules_pairs(c);
    if (c->n_stages)
        rules_model_needed(c, root, all_known, bad);
}
