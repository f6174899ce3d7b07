#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/kernels/gemm_bf16.h"
#include "experiments/config_parts.h"

enum { MICRO_TOKENS = 2048 };

int config_batch_check(const struct config_train *t, int64_t context)
{
    const int64_t batch = t->batch_tokens, micro = t->micro_batch_tokens;
    if (batch % context) {
        const int64_t unit =
            micro % context || !micro ? context : micro; // suits micro batches, too
        struct buf near = {0};
        config_nearest(batch, unit,
                       field_find(config_kinds[STAGE_PRETRAIN].parts[1].table, "batch_tokens"),
                       &near);
        err("batch_tokens: %" PRId64 " is %s the context %" PRId64 "%s", batch,
            batch < context ? "below" : "no multiple of", context, near.failed ? "" : near.p);
        buf_free(&near);
        return -1;
    }
    if (micro % context)
        return err("micro_batch_tokens: %" PRId64 " is no multiple of the context %" PRId64
                   ": %" PRId64 " would do",
                   micro, context, config_micro_batch(t, context));
    if (micro && batch % micro)
        return err("micro_batch_tokens: %" PRId64 " does not divide batch_tokens, %" PRId64
                   ": %" PRId64 " would do",
                   micro, batch, config_micro_batch(t, context));
    return 0;
}

int64_t config_sequence(const struct config_train *t, int64_t context)
{
    const int64_t micro = t->micro_batch_tokens ? t->micro_batch_tokens : t->batch_tokens;
    const int64_t least = micro < t->batch_tokens ? micro : t->batch_tokens;
    return least < context ? least : context;
}

bool config_bf16(const struct config_train *t)
{
    return t->precision == PRECISION_BF16 || (t->precision == PRECISION_AUTO && gemm_bf16_native());
}

int64_t config_micro_batch(const struct config_train *t, int64_t context)
{
    const int64_t limit = t->micro_batch_tokens ? t->micro_batch_tokens : MICRO_TOKENS;
    const int64_t sequences = t->batch_tokens / context;
    int64_t part = limit / context < sequences ? limit / context : sequences;
    while (part > 1 && sequences % part)
        part--;
    return (part > 1 ? part : 1) * context;
}

int64_t config_steps(const struct config_train *t, int64_t corpus_tokens)
{
    if (t->steps)
        return t->steps;
    if (t->tokens)
        return (t->tokens - 1) / t->batch_tokens + 1;
    const double steps = ceil(t->epochs * (double)corpus_tokens / (double)t->batch_tokens);
    return steps < 1 ? 1 : steps > 1e15 ? (int64_t)1e15 : (int64_t)steps;
}

/* Exactly one of three; an override takes the place of what the file says. */
static bool rules_length(struct config_train *t, const struct yaml *node, struct mistakes *bad)
{
    static const char *const keys[] = {"tokens", "steps", "epochs"};
    const struct yaml *given[3] = {0}, *last = NULL;
    int n = 0, n_overrides = 0;
    for (int i = 0; i < 3; i++) {
        given[i] = yaml_get(node, keys[i]);
        if (!given[i])
            continue;
        n++;
        n_overrides += given[i]->key_at.override > 0;
        last = given[i];
    }
    if (n > 1 && n_overrides == 1) {
        for (int i = 0; i < 3; i++)
            last = given[i] && given[i]->key_at.override ? given[i] : last;
        t->tokens = last == given[0] ? t->tokens : 0;
        t->steps = last == given[1] ? t->steps : 0;
        t->epochs = last == given[2] ? t->epochs : 0;
        n = 1;
    }
    if (n == 0)
        mistake_add(bad, node->at, "missing key in %s: one of tokens, steps, epochs", node->key);
    if (n > 1)
        mistake_add(bad, last->key_at, "%s: only one of tokens, steps, epochs can be given",
                    last->key);
    return n == 1 && !last->bad;
}

static void rules_schedule(const struct config_train *t, const struct yaml *node,
                           struct mistakes *bad)
{
    if (!config_sound(node, "warmup") || !config_sound(node, "decay") ||
        !config_sound(node, "batch_tokens") || !config_sound(node, "schedule"))
        return;
    const bool wsd = t->schedule == SCHEDULE_WSD;
    const bool known = t->steps || t->tokens; // with epochs the corpus decides
    const int64_t steps = known ? config_steps(t, 0) : 0;
    const char *key = wsd && yaml_get(node, "decay") ? "decay" : "warmup";
    if (known) {
        const int64_t up = share_of(t->warmup, steps), down = wsd ? share_of(t->decay, steps) : 0;
        if (up + down > steps)
            mistake_add(bad, config_place(node, key),
                        "%s: %" PRId64 " steps of warm-up%s are more than the stage's %" PRId64,
                        key, up + down, wsd ? " and decay" : "", steps);
    } else if (wsd && t->warmup.relative && t->decay.relative &&
               t->warmup.value + t->decay.value > 1) {
        mistake_add(bad, config_place(node, key), "%s: warm-up and decay are more than 100%%", key);
    }
}

/* Defaults that differ from the tables', and what muon's original scale asks for. */
static void rules_optimizer(struct config_stage *s, const struct yaml *node, struct mistakes *bad)
{
    struct config_train *t = &s->train;
    const bool muon = t->optimizer == OPTIMIZER_MUON, lion = t->optimizer == OPTIMIZER_LION;
    const bool lr = yaml_get(node, "lr"), adam_lr = yaml_get(node, "adam_lr");
    if (!config_sound(node, "optimizer"))
        return;
    if (muon && !yaml_get(node, "momentum"))
        t->momentum = 0.95;
    if (muon && !yaml_get(node, "nesterov"))
        t->nesterov = t->momentum > 0;
    if (muon && t->muon_scale == MUON_ORIGINAL && !(lr && adam_lr))
        mistake_add(bad, config_place(node, "muon_scale"),
                    "muon_scale: original needs lr and adam_lr, which have nothing to do with each "
                    "other then: 0.02 and 1e-3 are a start");
    else if (muon && !adam_lr)
        t->adam_lr = t->lr;
    if (lion && !yaml_get(node, "beta2"))
        t->beta2 = 0.99;
    if (lion && !lr &&
        !t->continues) // as Chen et al. advise: the rate a tenth of AdamW's, the decay tenfold
        t->lr /= 10;
    if (s->kind == STAGE_QAT && !yaml_get(node, "warmup") &&
        !t->continues) // Adam's first steps move all weights
        t->warmup = (struct share){.value = 0.1, .relative = true};
    if (s->kind == STAGE_QAT && !yaml_get(node, "min_lr_ratio") &&
        !t->continues) // a weight that still moves is rounded by chance
        t->min_lr_ratio = 0;
    if (!yaml_get(node, "weight_decay") && !t->continues)
        t->weight_decay = s->kind == STAGE_QAT ? 0 : lion ? 1 : t->weight_decay;
    if (t->nesterov && t->momentum == 0 && (muon || t->optimizer == OPTIMIZER_SGD))
        config_useless(node, "nesterov", "momentum is 0", bad);
}

/* The learning rate that a stage ends with. */
static double last_lr(const struct config_train *t)
{
    const bool falls = t->schedule == SCHEDULE_COSINE || t->schedule == SCHEDULE_LINEAR ||
                       (t->schedule == SCHEDULE_WSD && t->decay.value > 0);
    return t->lr * (falls ? t->min_lr_ratio : 1);
}

static bool trains_some(const struct config_stage *s)
{
    return s->kind == STAGE_QAT && s->qat.params != PARAMS_ALL;
}

/* A stage that goes on with another's optimizer: what it has to share with it, and defaults, by
   which it lets the learning rate fall from where that one left it. */
static void rules_continues(const struct config *c, struct config_stage *s, const struct yaml *node,
                            struct mistakes *bad)
{
    struct config_train *t = &s->train;
    const struct place at = config_place(node, "continues");
    if (!t->continues || !config_sound(node, "continues") || !config_sound(node, "from"))
        return;
    if (s->kind == STAGE_FINETUNE || s->parent < 0) {
        mistake_add(bad, at, "continues: %s",
                    s->kind == STAGE_FINETUNE ? "a stage with a text of its own has no place in "
                                                "that of `from`"
                                              : "`from` has to be a stage of this config");
        return;
    }
    const struct config_stage *from = &c->stages[s->parent];
    if (from->kind == STAGE_FINETUNE)
        mistake_add(bad, at, "continues: '%s' has a text of its own", from->name);
    if (from->train.optimizer != t->optimizer)
        mistake_add(bad, at, "continues: the optimizer of '%s' is another one", from->name);
    else if (trains_some(from) || trains_some(s))
        mistake_add(bad, at, "continues: '%s' has no optimizer of all weights (params)",
                    trains_some(s) ? s->name : from->name);
    if ((from->train.ema > 0) != (t->ema > 0))
        mistake_add(bad, at,
                    "continues: weights are averaged (ema) here and in '%s', or in neither",
                    from->name);
    if (!yaml_get(node, "lr"))
        t->lr = last_lr(&from->train);
    if (t->lr <= 0 && !yaml_get(node, "lr"))
        mistake_add(bad, at, "continues: '%s' ends with a learning rate of 0: give lr", from->name);
    if (!yaml_get(node, "weight_decay"))
        t->weight_decay = from->train.weight_decay;
    if (!yaml_get(node, "warmup"))
        t->warmup = (struct share){0};
    if (yaml_get(node, "schedule"))
        return;
    t->schedule = SCHEDULE_WSD;
    t->decay = (struct share){.value = 1, .relative = true};
}

static void rules_validation(const struct config *c, const struct config_train *t,
                             const struct yaml *node, struct mistakes *bad)
{
    static const char why[] = "there is no validation part: data.valid_fraction is 0";
    if (c->data.valid_fraction == 0 && t->eval_every)
        config_useless(node, "eval_every", why, bad);
    if (c->data.valid_fraction == 0 && t->eval_tokens)
        config_useless(node, "eval_tokens", why, bad);
}

void config_rules_train(const struct config *c, struct config_stage *s, const struct yaml *node,
                        struct mistakes *bad)
{
    struct config_train *t = &s->train;
    const bool length = rules_length(t, node, bad);
    rules_continues(c, s, node, bad);
    if (length)
        rules_schedule(t, node, bad);
    rules_validation(c, t, node, bad);
    rules_optimizer(s, node, bad);
    if (c->model.context && config_sound(node, "batch_tokens") &&
        config_sound(node, "micro_batch_tokens") && config_batch_check(t, c->model.context)) {
        const bool micro = !strncmp(err_text(), "micro", 5);
        mistake_add(bad, config_place(node, micro ? "micro_batch_tokens" : "batch_tokens"), "%s",
                    err_text());
    }
}
