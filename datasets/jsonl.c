#include "datasets/jsonl.h"

#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/jsontext.h"

static int no_key(json_t *line, const char *text, const char *prompt, const char *completion)
{
    struct buf has = {0};
    const char *key;
    json_t *value;
    json_object_foreach(line, key, value)
    {
        if (has.n < 200)
            buf_printf(&has, "%s%s", has.n ? ", " : "", key);
    }
    const int r = err("no key `%s` (nor `%s` and `%s`) among its keys: %s; text_key, or "
                      "prompt_key and completion_key, name others",
                      text, prompt, completion, has.n ? has.p : "none");
    buf_free(&has);
    return r;
}

static int add(const json_t *value, const char *key, struct buf *out)
{
    if (!json_is_string(value))
        return err("`%s` is not a string", key);
    buf_add(out, json_string_value(value), json_string_length(value));
    return out->failed ? -1 : 0;
}

static int take(const struct jsonl_keys *keys, json_t *line, struct buf *out, struct jsonl_line *is)
{
    const char *text_key = keys->text ? keys->text : "text";
    const char *prompt_key = keys->prompt ? keys->prompt : "prompt";
    const char *completion_key = keys->completion ? keys->completion : "completion";
    const json_t *text = json_object_get(line, text_key);
    const json_t *before = json_object_get(line, prompt_key);
    const json_t *after = json_object_get(line, completion_key);
    if (!json_is_object(line))
        return err("is not a JSON object");
    is->both = text && before && after && keys->prompt && keys->completion;
    if (text && !is->both)
        return add(text, text_key, out);
    if (!before || !after)
        return no_key(line, text_key, prompt_key, completion_key);
    if (add(before, prompt_key, out))
        return -1;
    is->prompt = out->n;
    is->pair = true;
    return add(after, completion_key, out);
}

int jsonl_parse(const struct jsonl_keys *keys, const char *s, size_t n, struct buf *out,
                struct jsonl_line *is)
{
    buf_clear(out);
    *is = (struct jsonl_line){0};
    json_t *line = jsontext_line(s, n);
    if (!line)
        return -1;
    const int r = take(keys, line, out, is);
    json_decref(line);
    return r;
}
