#include "experiments/stage_words.h"

#include "autograd/base/number.h"
#include "compress/recipe.h"

/* "4", or "2 to 8" where layers differ. */
static void print_each(const int *value, int n, struct buf *out)
{
    int least = value[0], most = value[0];
    for (int i = 1; i < n; i++) {
        least = value[i] < least ? value[i] : least;
        most = value[i] > most ? value[i] : most;
    }
    number_print_count(least, out);
    if (most > least) {
        buf_text(out, " to ");
        number_print_count(most, out);
    }
}

void stage_words_model(const struct transformer_dims *d, struct buf *out)
{
    buf_printf(out, "%s: %d layer%s, ", arch_rows[d->arch].name, d->n_layers,
               d->n_layers > 1 ? "s" : "");
    number_print_count(d->d_model, out);
    buf_text(out, " wide, ");
    print_each(d->n_heads, d->n_layers, out);
    buf_text(out, " heads (");
    print_each(d->n_kv_heads, d->n_layers, out);
    buf_text(out, " for keys and values), feed-forward ");
    print_each(d->d_ff, d->n_layers, out);
    buf_text(out, ", vocabulary ");
    number_print_count(d->vocab, out);
    buf_text(out, d->tied ? " (tied), context " : ", context ");
    number_print_count(d->context, out);
}

void stage_words_corpus(const struct config *config, const struct config_stage *s,
                        const struct corpus *c, struct buf *out)
{
    const struct corpus_part *t = &c->part[CORPUS_TRAIN], *v = &c->part[CORPUS_VALID];
    const struct texts *names = &config->data.corpus;
    if (s->kind == STAGE_FINETUNE)
        buf_text(out, s->finetune.data);
    for (int i = 0; i < names->n && i < 3 && s->kind != STAGE_FINETUNE; i++)
        buf_printf(out, "%s%s", i ? ", " : "", names->value[i]);
    if (names->n > 3 && s->kind != STAGE_FINETUNE)
        buf_printf(out, " and %d more", names->n - 3);
    buf_text(out, ": ");
    number_print_count(t->tokens, out);
    buf_text(out, " tokens to train on, ");
    number_print_count(v->tokens, out);
    buf_text(out, " to validate with");
    if (t->tokens + v->tokens > 0)
        buf_printf(out, ", %.3f bytes a token",
                   (double)(t->bytes + v->bytes) / (double)(t->tokens + v->tokens));
}

void stage_words_trained(const struct config_stage *s, int64_t trained, int64_t all,
                         struct buf *out)
{
    const struct config_qat *q = &s->qat;
    if (s->kind != STAGE_QAT) {
        buf_text(out, "all ");
        number_print_count(all, out);
        buf_text(out, " parameters");
        return;
    }
    const struct recipe_mix *mix = recipe_mix_find(q->type);
    if (q->params == PARAMS_LORA)
        buf_text(out, "factors (LoRA) of ");
    buf_text(out, q->params == PARAMS_ALL ? "all " : "");
    number_print_count(trained, out);
    buf_text(out, q->params == PARAMS_SCALES ? " scales" : " parameters");
    buf_printf(out, q->params == PARAMS_LORA ? ", rank %lld, over weights in " : ", in blocks of ",
               (long long)q->lora.rank);
    buf_text(out, mix ? mix->name : q->type);
    if (q->params == PARAMS_ALL)
        buf_text(out, q->scales == SCALES_SUPER     ? ", d and dmin of the blocks with them"
                      : q->scales == SCALES_LEARNED ? ", the blocks' scales with them"
                                                    : ", scales as fitted");
    if (q->params != PARAMS_ALL) {
        buf_text(out, "; the model has ");
        number_print_count(all, out);
        buf_text(out, " parameters");
    }
    buf_text(out,
             q->teacher_stage >= 0 || q->teacher_path ? "; with a teacher" : "; without a teacher");
}
