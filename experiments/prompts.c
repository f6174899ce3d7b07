#include "experiments/prompts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/file.h"
#include "autograd/base/jsontext.h"
#include "autograd/base/mem.h"
#include "autograd/base/spell.h"
#include "experiments/decode.h"

enum { FILE_MOST = 1 << 30, NUMBER = 40 };

#define AT(member)      FIELD_AT(prompt_options, member)
#define IN_SAMPLER(key) .name = #key, .offset = offsetof(struct prompt_options, sampler.key)
static const struct field fields[] = {
    {AT(n_predict), .type = FIELD_INT, .min = -1, .max = 1e9},
    {AT(seed), .type = FIELD_INT, .min = 0, .max = 9007199254740992},
    {AT(samples), .type = FIELD_INT, .min = 1, .max = 1e6},
    {IN_SAMPLER(temp), .type = FIELD_FLOAT, .min = 0, .max = 100},
    {IN_SAMPLER(top_k), .type = FIELD_INT, .min = 0, .max = 1e9},
    {IN_SAMPLER(top_p), .type = FIELD_FLOAT, .min = 0, .max = 1},
    {IN_SAMPLER(min_p), .type = FIELD_FLOAT, .min = 0, .max = 1},
    {IN_SAMPLER(repeat_penalty), .type = FIELD_FLOAT, .min = 0.01, .max = 100},
    {IN_SAMPLER(repeat_last_n), .type = FIELD_INT, .min = -1, .max = 1e9},
    {0},
};

static int unknown(const char *key)
{
    struct spell near = {.word = key};
    spell_offer(&near, "prompt");
    spell_offer(&near, "id");
    spell_offer(&near, "stop");
    for (const struct field *f = fields; f->name; f++)
        spell_offer(&near, f->name);
    return near.best ? err("unknown key `%.40s`; did you mean `%s`?", key, near.best)
                     : err("unknown key `%.40s`", key);
}

static int take_number(const struct field *f, const json_t *value, struct prompt *p,
                       struct pool *pool)
{
    char text[NUMBER];
    if (json_is_integer(value))
        snprintf(text, sizeof text, "%lld", (long long)json_integer_value(value));
    else if (json_is_real(value))
        snprintf(text, sizeof text, "%.17g", json_real_value(value));
    else
        return err("`%s` is not a number", f->name);
    if (field_set(f, &p->o, text, strlen(text), pool))
        return err_in("`%s`", f->name);
    p->seeded |= f->offset == offsetof(struct prompt_options, seed);
    return 0;
}

static int take_stop(const json_t *list, struct prompt *p, struct pool *pool)
{
    const size_t n = json_array_size(list);
    const char **words = pool_new(pool, n, sizeof *words);
    if (!json_is_array(list) || n > TEXTS_MAX)
        return err("`stop` is not a list of at most %d texts", TEXTS_MAX);
    for (size_t i = 0; words && i < n; i++) {
        const json_t *word = json_array_get(list, i);
        if (!json_is_string(word) || !json_string_length(word))
            return err("`stop` holds something else than texts");
        if (strlen(json_string_value(word)) != json_string_length(word))
            return err("`stop` holds a text with \\u0000: not supported");
        if (!(words[i] = pool_text(pool, json_string_value(word), json_string_length(word))))
            return -1;
    }
    p->o.stop = (struct texts){(int)n, words};
    return words ? 0 : -1;
}

static int take_id(const json_t *value, struct prompt *p, struct pool *pool)
{
    if (!json_is_string(value) && !json_is_number(value))
        return err("`id` is neither a text nor a number");
    char *text = json_dumps(value, JSON_ENCODE_ANY);
    p->id = text ? pool_text(pool, text, strlen(text)) : NULL;
    free(text);
    return p->id ? 0 : err("`id` cannot be written");
}

static int take(json_t *line, const struct tokenizer *t, int64_t context, struct prompt *p,
                struct pool *pool)
{
    const json_t *text = json_object_get(line, "prompt");
    const char *key;
    json_t *value;
    int rc = 0;
    if (!json_is_object(line))
        return err("is not a JSON object");
    json_object_foreach(line, key, value)
    {
        const struct field *f = field_find(fields, key);
        if (!rc && f)
            rc = take_number(f, value, p, pool);
        else if (!rc && !strcmp(key, "stop"))
            rc = take_stop(value, p, pool);
        else if (!rc && !strcmp(key, "id"))
            rc = take_id(value, p, pool);
        else if (!rc && strcmp(key, "prompt") != 0)
            rc = unknown(key);
    }
    if (rc)
        return rc;
    if (!json_is_string(text))
        return text ? err("`prompt` is not a text") : err("no key `prompt`");
    if (decode_prompt(t, json_string_value(text), json_string_length(text), &p->tokens))
        return -1;
    if ((int64_t)p->tokens.n > context)
        return err("the prompt has %zu tokens, the context is %lld: shorten it", p->tokens.n,
                   (long long)context);
    return p->o.n_predict ? 0 : err("`n_predict` is 0: no text is wanted");
}

static int add(struct prompts *out, const char *s, size_t n, const struct prompt_options *defaults,
               const struct tokenizer *t, int64_t context)
{
    if (mem_grow(&out->p, &out->cap, out->n + 1, sizeof *out->p))
        return -1;
    struct prompt *p = &out->p[out->n++];
    *p = (struct prompt){.o = *defaults};
    json_t *line = jsontext_line(s, n);
    if (!line)
        return -1;
    size_t id_bytes = 0;
    const char *id = jsontext_member(s, n, "id", &id_bytes);
    int rc = take(line, t, context, p, &out->pool);
    if (!rc && id && !(p->id = pool_text(&out->pool, id, id_bytes))) // as it is written
        rc = -1;
    json_decref(line);
    return rc;
}

int prompts_load(struct prompts *out, const char *path, const struct prompt_options *defaults,
                 const struct tokenizer *t, int64_t context)
{
    struct buf text = {0};
    *out = (struct prompts){0};
    int rc = file_read_argument(path, FILE_MOST, &text);
    const char *s = text.p, *end = s ? s + text.n : s;
    for (long number = 1; !rc && s < end; number++) {
        const char *stop = memchr(s, '\n', (size_t)(end - s));
        stop = stop ? stop : end;
        size_t n = (size_t)(stop - s);
        if (strspn(s, " \t\r") < n && add(out, s, n, defaults, t, context))
            rc = s[strspn(s, " \t\r")] == '{'
                     ? err_in("%s: line %ld", file_argument_name(path), number)
                     : err("%s: line %ld: no JSON object, such as {\"prompt\": \"In the "
                           "beginning\"}",
                           file_argument_name(path), number);
        s = stop + 1;
    }
    if (!rc && !out->n)
        rc = err("%s: no prompts", file_argument_name(path));
    buf_free(&text);
    if (rc)
        prompts_free(out);
    return rc;
}

void prompts_free(struct prompts *p)
{
    for (size_t i = 0; i < p->n; i++)
        tokens_free(&p->p[i].tokens);
    free(p->p);
    pool_free(&p->pool);
    *p = (struct prompts){0};
}
