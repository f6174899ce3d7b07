/* tokenizer.json: the steps around the model. */
#include <string.h>

#include "autograd/base/err.h"
#include "datasets/tokenizer_parse.h"

/* ---- SentencePiece's spaces: normalizer steps Prepend and Replace, or the pre-tokenizer
   Metaspace ---- */

static const char mark[] = "\xe2\x96\x81"; /* U+2581 */

static bool is_text(const json_t *o, const char *key, const char *text)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s && !strcmp(s, text);
}

static int read_spaces(struct tokenizer_reading *r, const json_t *step)
{
    const char *type = tokenizer_parse_type(step);
    if (!strcmp(type, "Prepend") && is_text(step, "prepend", mark) && !r->spaces) {
        r->t->space = TOKENIZER_SPACE_EACH;
        return 0;
    }
    if (!strcmp(type, "Replace") && is_text(json_object_get(step, "pattern"), "String", " ") &&
        is_text(step, "content", mark)) {
        r->spaces = true;
        return 0;
    }
    return err("normalizer %s is not supported beside byte_fallback; Prepend and then Replace of a "
               "space by U+2581 are",
               type);
}

static int read_metaspace(struct tokenizer_reading *r, const json_t *step)
{
    const json_t *scheme = json_object_get(step, "prepend_scheme");
    if (strcmp(tokenizer_parse_type(step), "Metaspace") || r->spaces)
        return err("pre_tokenizer %s is not supported beside byte_fallback; one Metaspace is",
                   tokenizer_parse_type(step));
    if (!is_text(step, "replacement", mark) || !json_is_false(json_object_get(step, "split")))
        return err("pre_tokenizer: Metaspace is supported with U+2581 and without split only");
    r->spaces = true;
    if (scheme ? is_text(step, "prepend_scheme", "always")
               : tokenizer_parse_set(step, "add_prefix_space"))
        r->t->space = TOKENIZER_SPACE_UNLESS;
    else if (is_text(step, "prepend_scheme", "first"))
        r->t->space = TOKENIZER_SPACE_FIRST;
    else if (scheme && !is_text(step, "prepend_scheme", "never"))
        return err("pre_tokenizer: Metaspace with an unknown prepend_scheme");
    return 0;
}

/* ---- the steps in their order ---- */

static int read_normalizer(struct tokenizer_reading *r, const json_t *step)
{
    if (!step || json_is_null(step))
        return 0;
    r->normalizes = true;
    if (!strcmp(tokenizer_parse_type(step), "Sequence")) {
        size_t i;
        json_t *inner;
        json_array_foreach(json_object_get(step, "normalizers"), i, inner)
        {
            if (!json_is_object(inner) || !strcmp(tokenizer_parse_type(inner), "Sequence"))
                return err("normalizer: a sequence in a sequence is not supported");
            if (read_normalizer(r, inner))
                return -1;
        }
        return 0;
    }
    if (r->t->spm)
        return read_spaces(r, step);
    if (strcmp(tokenizer_parse_type(step), "NFC") != 0)
        return err("normalizer %s is not supported; NFC and none are", tokenizer_parse_type(step));
    r->t->nfc = true;
    return 0;
}

/* The steps of a pre_tokenizer, flat. */
struct steps {
    bool digits, byte_level;
    const char *regex;     /* of the Split step */
    bool byte_level_regex; /* ByteLevel cuts with its own expression */
};

static int read_step(struct steps *s, const json_t *step)
{
    const char *type = tokenizer_parse_type(step);
    if (s->byte_level)
        return err("a step behind ByteLevel is not supported");
    if (!strcmp(type, "ByteLevel")) {
        if (tokenizer_parse_set(step, "add_prefix_space"))
            return err("add_prefix_space is not supported; set it to false if the model allows");
        s->byte_level = true;
        const json_t *own = json_object_get(step, "use_regex");
        s->byte_level_regex = !own || json_is_true(own);
        return 0;
    }
    if (s->regex)
        return err("a step %s behind Split is not supported", type);
    if (!strcmp(type, "Digits")) {
        if (!tokenizer_parse_set(step, "individual_digits"))
            return err("Digits is supported with individual_digits only");
        s->digits = true;
        return 0;
    }
    if (strcmp(type, "Split") != 0)
        return err("step %s is not supported; ByteLevel, Split and Digits are", type);
    s->regex = json_string_value(json_object_get(json_object_get(step, "pattern"), "Regex"));
    const char *behavior = json_string_value(json_object_get(step, "behavior"));
    const bool invert = tokenizer_parse_set(step, "invert");
    // what matches is everything: keeping the matches, or setting them apart, is the same
    if (!s->regex || !behavior ||
        !((!strcmp(behavior, "Isolated") && !invert) || (!strcmp(behavior, "Removed") && invert)))
        return err("Split is supported with a Regex that is Isolated, or Removed inverted");
    return 0;
}

static int read_pre_tokenizer(struct tokenizer_reading *r, const json_t *pre)
{
    struct steps s = {0};
    if (r->t->spm) {
        if (pre && !json_is_null(pre) && read_metaspace(r, pre))
            return -1;
        return r->spaces ? 0
                         : err("byte_fallback without a step that writes spaces as U+2581 is not "
                               "supported");
    }
    if (!strcmp(tokenizer_parse_type(pre), "Sequence")) {
        size_t i;
        json_t *step;
        json_array_foreach(json_object_get(pre, "pretokenizers"), i, step)
        {
            if (read_step(&s, step))
                return err_in("pre_tokenizer");
        }
    } else if (read_step(&s, pre)) {
        return err_in("pre_tokenizer");
    }
    if (!s.byte_level)
        return err("pre_tokenizer has no ByteLevel step; only byte-level BPE is supported");
    if (s.regex && s.byte_level_regex)
        return err("pre_tokenizer cuts twice, by Split and by ByteLevel; not supported");
    if (s.regex || s.byte_level_regex)
        r->t->pre = pretok_recognize(s.digits, s.regex);
    else
        return err("pre_tokenizer cuts nowhere (use_regex is false); not supported");
    if (!r->t->pre)
        return err("pre_tokenizer: not one of the rules gpt-2, llama-bpe, qwen2, smollm%s%s",
                   s.regex ? ": " : "", s.regex ? s.regex : "");
    return 0;
}

/* The id of a template's token; -1: it is none, with err() set. */
static int32_t template_token(const struct tokenizer_reading *r, const json_t *step,
                              const json_t *item)
{
    const char *name =
        json_string_value(json_object_get(json_object_get(item, "SpecialToken"), "id"));
    const json_t *token =
        json_object_get(json_object_get(step, "special_tokens"), name ? name : "");
    const json_t *ids = json_object_get(token, "ids");
    const json_t *id = json_array_get(ids, 0);
    if (json_array_size(ids) != 1 || !json_is_integer(id)) {
        err("post_processor: '%s' is not one id in special_tokens", name ? name : "");
        return -1;
    }
    const json_int_t n = json_integer_value(id);
    if (n < 0 || (size_t)n >= r->t->vocab.n || r->t->vocab.token[n].type == VOCAB_HOLE) {
        err("post_processor: no token has id %lld", (long long)n);
        return -1;
    }
    return (int32_t)n;
}

/* [BOS] text [EOS] */
static int read_template(struct tokenizer_reading *r, const json_t *step)
{
    const json_t *single = json_object_get(step, "single");
    const size_t n = json_array_size(single);
    size_t text = 0;
    while (text < n && !json_object_get(json_array_get(single, text), "Sequence"))
        text++;
    if (text > 1 || text == n || n - text > 2)
        return err("post_processor: a template other than one token before the text, and one "
                   "behind it, is not supported");
    if (text && (r->t->bos = template_token(r, step, json_array_get(single, 0))) < 0)
        return -1;
    if (n == text + 1)
        return 0;
    const int32_t eos = template_token(r, step, json_array_get(single, n - 1));
    r->t->role[TOKENIZER_EOS] = eos;
    r->t->add_eos = true;
    return eos < 0 ? -1 : 0;
}

static int read_post_processor(struct tokenizer_reading *r, const json_t *step)
{
    if (!step || json_is_null(step) || !strcmp(tokenizer_parse_type(step), "ByteLevel"))
        return 0;
    if (!strcmp(tokenizer_parse_type(step), "TemplateProcessing"))
        return read_template(r, step);
    if (strcmp(tokenizer_parse_type(step), "Sequence") != 0)
        return err("post_processor %s is not supported; TemplateProcessing is",
                   tokenizer_parse_type(step));
    size_t i;
    json_t *inner;
    json_array_foreach(json_object_get(step, "processors"), i, inner)
    {
        if (!strcmp(tokenizer_parse_type(inner), "Sequence"))
            return err("post_processor: a sequence in a sequence is not supported");
        if (read_post_processor(r, inner))
            return -1;
    }
    return 0;
}

/* What decoding does follows from the kind of the tokenizer; only what contradicts it is refused.
 */
static int read_decoder(const struct tokenizer_reading *r, const json_t *step)
{
    static const char *const known[] = {"Sequence", "Metaspace", "ByteFallback", "Fuse", "Replace",
                                        "Strip",    NULL};
    if (!step || json_is_null(step) || !strcmp(tokenizer_parse_type(step), "ByteLevel"))
        return 0;
    for (const char *const *type = known; *type && r->t->spm; type++)
        if (!strcmp(tokenizer_parse_type(step), *type))
            return 0;
    return err("decoder %s is not supported; ByteLevel is", tokenizer_parse_type(step));
}

int tokenizer_parse_steps(struct tokenizer_reading *r, const json_t *root)
{
    return read_normalizer(r, json_object_get(root, "normalizer")) ||
                   read_pre_tokenizer(r, json_object_get(root, "pre_tokenizer")) ||
                   read_post_processor(r, json_object_get(root, "post_processor")) ||
                   read_decoder(r, json_object_get(root, "decoder"))
               ? -1
               : 0;
}
