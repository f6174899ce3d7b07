/* tokenizer.json: writing. */
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/file.h"
#include "datasets/tokenizer.h"

static void write_text(const struct tokenizer *t, int32_t id, struct buf *scratch, struct buf *json)
{
    buf_clear(scratch);
    tokenizer_text(t, id, scratch);
    buf_json(json, scratch->p ? scratch->p : "", scratch->n);
    json->failed |= scratch->failed;
}

static void write_added(const struct tokenizer *t, struct buf *scratch, struct buf *json)
{
    const char *comma = "";
    buf_text(json, "  \"added_tokens\": [");
    for (size_t id = 0; id < t->vocab.n; id++) {
        const enum vocab_type type = t->vocab.token[id].type;
        if (type != VOCAB_CONTROL && type != VOCAB_USER)
            continue;
        buf_printf(json, "%s\n    {\"id\": %zu, \"content\": ", comma, id);
        write_text(t, (int32_t)id, scratch, json);
        buf_printf(json,
                   ", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, "
                   "\"normalized\": false, \"special\": %s}",
                   type == VOCAB_CONTROL ? "true" : "false");
        comma = ",";
    }
    buf_text(json, "\n  ],\n");
}

static void write_steps(const struct tokenizer *t, struct buf *json)
{
    const struct pretok *r = t->pre;
    buf_printf(json, "  \"normalizer\": %s,\n", t->nfc ? "{\"type\": \"NFC\"}" : "null");
    buf_text(json, "  \"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [\n");
    if (r->digits_step)
        buf_text(json, "    {\"type\": \"Digits\", \"individual_digits\": true},\n");
    if (!r->byte_level_regex) {
        buf_text(json, "    {\"type\": \"Split\", \"pattern\": {\"Regex\": ");
        buf_json(json, r->regex, strlen(r->regex));
        buf_text(json, "}, \"behavior\": \"Isolated\", \"invert\": false},\n");
    }
    buf_printf(json,
               "    {\"type\": \"ByteLevel\", \"add_prefix_space\": false, "
               "\"trim_offsets\": true, \"use_regex\": %s}\n  ]},\n",
               r->byte_level_regex ? "true" : "false");
}

static void write_template(const struct tokenizer *t, struct buf *scratch, struct buf *json)
{
    if (t->bos < 0) {
        buf_text(json, "  \"post_processor\": null,\n");
        return;
    }
    struct buf name = {0};
    write_text(t, t->bos, scratch, &name);
    buf_printf(json,
               "  \"post_processor\": {\"type\": \"TemplateProcessing\",\n"
               "    \"single\": [{\"SpecialToken\": {\"id\": %s, \"type_id\": 0}}, "
               "{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}],\n"
               "    \"pair\": [{\"SpecialToken\": {\"id\": %s, \"type_id\": 0}}, "
               "{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}, "
               "{\"SpecialToken\": {\"id\": %s, \"type_id\": 1}}, "
               "{\"Sequence\": {\"id\": \"B\", \"type_id\": 1}}],\n"
               "    \"special_tokens\": {%s: {\"id\": %s, \"ids\": [%d], \"tokens\": [%s]}}},\n",
               name.p, name.p, name.p, name.p, name.p, t->bos, name.p);
    json->failed |= name.failed;
    buf_free(&name);
}

static void write_model(const struct tokenizer *t, struct buf *scratch, struct buf *json)
{
    buf_printf(json,
               "  \"model\": {\n    \"type\": \"BPE\", \"dropout\": null, \"unk_token\": null, "
               "\"continuing_subword_prefix\": null, \"end_of_word_suffix\": null, "
               "\"fuse_unk\": false, \"byte_fallback\": false, \"ignore_merges\": %s,\n"
               "    \"vocab\": {",
               t->bpe.whole ? "true" : "false");
    const char *comma = "";
    for (size_t id = 0; id < t->vocab.n; id++) {
        if (t->vocab.token[id].type == VOCAB_HOLE)
            continue;
        buf_printf(json, "%s\n      ", comma);
        write_text(t, (int32_t)id, scratch, json);
        buf_printf(json, ": %zu", id);
        comma = ",";
    }
    buf_text(json, "\n    },\n    \"merges\": [");
    struct buf pair = {0};
    for (size_t k = 0; k < t->bpe.n_merges; k++) {
        buf_clear(&pair);
        tokenizer_text(t, t->bpe.merge[k].left, &pair);
        buf_text(&pair, " ");
        tokenizer_text(t, t->bpe.merge[k].right, &pair);
        buf_text(json, k ? ",\n      " : "\n      ");
        buf_json(json, pair.p ? pair.p : "", pair.n);
        json->failed |= pair.failed;
    }
    buf_free(&pair);
    buf_text(json, "\n    ]\n  }\n");
}

int tokenizer_write(const struct tokenizer *t, struct buf *json)
{
    struct buf scratch = {0};
    buf_text(json, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n");
    write_added(t, &scratch, json);
    write_steps(t, json);
    write_template(t, &scratch, json);
    buf_text(json, "  \"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, "
                   "\"trim_offsets\": true, \"use_regex\": true},\n");
    write_model(t, &scratch, json);
    buf_text(json, "}\n");
    buf_free(&scratch);
    return json->failed ? -1 : 0;
}

int tokenizer_save(const struct tokenizer *t, const char *path)
{
    struct buf json = {0};
    const int rc = tokenizer_write(t, &json) || file_replace(path, json.p, json.n);
    buf_free(&json);
    return rc ? -1 : 0;
}
