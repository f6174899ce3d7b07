/* tokenizer.json: what attar keeps in it beside what Hugging Face's library reads. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/mem.h"
#include "datasets/tokenizer_parse.h"

/* Scores make the merges anew: those of the file cannot tell which have the same rank. */
static int read_scores(struct tokenizer *t, const json_t *scores)
{
    size_t i;
    json_t *x;
    if (!scores)
        return 0;
    if (!t->spm || !json_is_array(scores) || json_array_size(scores) != t->vocab.n)
        return err("scores: not one for each of the %zu ids", t->vocab.n);
    if (!(t->score = mem_new(t->vocab.n, sizeof *t->score)))
        return -1;
    json_array_foreach(scores, i, x)
    {
        t->score[i] = (float)json_number_value(x);
        if (!json_is_number(x) || !isfinite(t->score[i]))
            return err("scores[%zu] is no finite number", i);
    }
    t->bpe.n_merges = 0;
    return 0;
}

/* An id that has a token. */
static int read_id(const struct tokenizer *t, const json_t *value, int32_t *id)
{
    const json_int_t x = json_integer_value(value);
    if (!json_is_integer(value) || x < 0 || (size_t)x >= t->vocab.n ||
        t->vocab.token[x].type == VOCAB_HOLE)
        return err("%lld is no token's id", (long long)x);
    *id = (int32_t)x;
    return 0;
}

static int read_unused(struct tokenizer *t, const json_t *unused)
{
    size_t i;
    json_t *x;
    json_array_foreach(unused, i, x)
    {
        int32_t id = 0;
        if (read_id(t, x, &id))
            return err_in("unused[%zu]", i);
        struct vocab_token *token = &t->vocab.token[id];
        struct buf text = {0};
        if (token->type != VOCAB_NORMAL) // then it is what it is
            continue;
        tokenizer_text(t, id, &text);
        token->type = VOCAB_HOLE;
        const int rc = text.failed ? -1 : vocab_set(&t->vocab, id, text.p, text.n, VOCAB_UNUSED);
        buf_free(&text);
        if (rc)
            return -1;
    }
    return 0;
}

int tokenizer_parse_extras(struct tokenizer_reading *r, const json_t *extras)
{
    struct tokenizer *t = r->t;
    const json_t *roles = json_object_get(extras, "roles");
    const json_t *chat = json_object_get(extras, "chat_template");
    const json_t *pre = json_object_get(extras, "pre");
    if (!extras)
        return 0;
    if (read_unused(t, json_object_get(extras, "unused")) ||
        read_scores(t, json_object_get(extras, "scores")))
        return err_in("model.attar");
    for (int i = 0; i < TOKENIZER_ROLES; i++) {
        const json_t *id = json_object_get(roles, tokenizer_roles[i]);
        if (id && read_id(t, id, &t->role[i]))
            return err_in("model.attar.roles.%s", tokenizer_roles[i]);
    }
    t->add_eos = t->add_eos || json_is_true(json_object_get(extras, "add_eos"));
    if (json_is_string(pre)) {
        const struct pretok_name *name =
            pretok_named(json_string_value(pre), json_string_length(pre));
        if (!name || name->rule != t->pre)
            return name
                       ? err("model.attar.pre: '%s' does not cut as pre_tokenizer does", name->name)
                       : err_in("model.attar.pre");
        t->pre_name = name->name;
    }
    if (json_is_string(chat)) {
        t->chat_template = mem_text(json_string_value(chat), json_string_length(chat));
        return t->chat_template ? 0 : -1;
    }
    return 0;
}
