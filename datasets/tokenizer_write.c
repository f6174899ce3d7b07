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
        if (type != VOCAB_CONTROL && type != VOCAB_USER && type != VOCAB_UNKNOWN)
            continue;
        buf_printf(json, "%s\n    {\"id\": %zu, \"content\": ", comma, id);
        write_text(t, (int32_t)id, scratch, json);
        buf_printf(json,
                   ", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, "
                   "\"normalized\": %s, \"special\": %s}",
                   t->vocab.token[id].normalized ? "true" : "false",
                   type == VOCAB_USER ? "false" : "true");
        comma = ",";
    }
    buf_text(json, "\n  ],\n");
}

/* SentencePiece's: spaces become U+2581 in one of the two ways that Hugging Face has for it. */
static void write_spaces(const struct tokenizer *t, struct buf *json)
{
    static const char *const scheme[] = {
        [TOKENIZER_SPACE_FIRST] = "first", [TOKENIZER_SPACE_UNLESS] = "always"};
    if (t->space == TOKENIZER_SPACE_FIRST || t->space == TOKENIZER_SPACE_UNLESS) {
        buf_printf(json,
                   "  \"normalizer\": null,\n  \"pre_tokenizer\": {\"type\": \"Metaspace\", "
                   "\"replacement\": \"\u2581\", \"prepend_scheme\": \"%s\", \"split\": "
                   "false},\n",
                   scheme[t->space]);
        return;
    }
    buf_text(json, "  \"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [\n");
    if (t->space == TOKENIZER_SPACE_EACH)
        buf_text(json, "    {\"type\": \"Prepend\", \"prepend\": \"\u2581\"},\n");
    buf_text(json, "    {\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": "
                   "\"\u2581\"}\n  ]},\n  \"pre_tokenizer\": null,\n");
}

static void write_decoder(const struct tokenizer *t, struct buf *json)
{
    if (!t->spm) {
        buf_text(json, "  \"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, "
                       "\"trim_offsets\": true, \"use_regex\": true},\n");
        return;
    }
    buf_text(json, "  \"decoder\": {\"type\": \"Sequence\", \"decoders\": [\n"
                   "    {\"type\": \"Replace\", \"pattern\": {\"String\": \"\u2581\"}, "
                   "\"content\": \" \"},\n    {\"type\": \"ByteFallback\"},\n"
                   "    {\"type\": \"Fuse\"}");
    if (t->space != TOKENIZER_NO_SPACE)
        buf_text(json, ",\n    {\"type\": \"Strip\", \"content\": \" \", \"start\": 1, "
                       "\"stop\": 0}");
    buf_text(json, "\n  ]},\n");
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

static void write_item(struct buf *json, const struct buf *name, int type)
{
    if (name->n)
        buf_printf(json, "{\"SpecialToken\": {\"id\": %s, \"type_id\": %d}}, ", name->p, type);
}

/* What goes in front of a text, and behind it. */
static void write_template(const struct tokenizer *t, struct buf *scratch, struct buf *json)
{
    const int32_t eos = t->add_eos ? t->role[TOKENIZER_EOS] : -1, id[] = {t->bos, eos};
    if (t->bos < 0 && eos < 0) {
        buf_text(json, "  \"post_processor\": null,\n");
        return;
    }
    struct buf name[2] = {{0}, {0}};
    for (int i = 0; i < 2; i++)
        if (id[i] >= 0)
            write_text(t, id[i], scratch, &name[i]);
    buf_text(json, "  \"post_processor\": {\"type\": \"TemplateProcessing\"");
    for (int pair = 0; pair < 2; pair++) {
        buf_printf(json, ",\n    \"%s\": [", pair ? "pair" : "single");
        for (int text = 0; text <= pair; text++) {
            write_item(json, &name[0], text);
            buf_printf(json, "{\"Sequence\": {\"id\": \"%c\", \"type_id\": %d}}, ", 'A' + text,
                       text);
            write_item(json, &name[1], text);
        }
        json->n -= json->failed ? 0 : 2; // the last ", "
        buf_text(json, "]");
    }
    buf_text(json, ",\n    \"special_tokens\": {");
    for (int i = 0; i < 2; i++)
        if (name[i].n && (!i || id[0] != id[1]))
            buf_printf(json, "%s%s: {\"id\": %s, \"ids\": [%d], \"tokens\": [%s]}",
                       i && name[0].n ? ", " : "", name[i].p, name[i].p, id[i], name[i].p);
    buf_text(json, "}},\n");
    json->failed |= name[0].failed || name[1].failed;
    buf_free(&name[0]);
    buf_free(&name[1]);
}

/* ---- what Hugging Face's library does not read: an object of our own in the model ---- */

static void write_list(const struct tokenizer *t, bool scores, struct buf *json)
{
    const char *comma = "";
    for (size_t id = 0; id < t->vocab.n; id++) {
        if (!scores && t->vocab.token[id].type != VOCAB_UNUSED)
            continue;
        if (scores)
            buf_printf(json, "%s%.9g", comma, (double)t->score[id] + 0.0); // -0 is 0
        else
            buf_printf(json, "%s%zu", comma, id);
        comma = ", ";
    }
}

/* Its first member or a later one. */
static void write_key(struct buf *json, const char *key, int *members)
{
    buf_printf(json, "%s\n      \"%s\": ", (*members)++ ? "," : ",\n    \"attar\": {", key);
}

static void write_extras(const struct tokenizer *t, struct buf *json)
{
    int members = 0, roles = 0;
    bool unused = false;
    for (size_t id = 0; id < t->vocab.n && t->spm; id++)
        unused = unused || t->vocab.token[id].type == VOCAB_UNUSED;
    if (t->spm && !t->merges_given) {
        write_key(json, "scores", &members);
        buf_text(json, "[");
        write_list(t, true, json);
        buf_text(json, "]");
    }
    if (unused) {
        write_key(json, "unused", &members);
        buf_text(json, "[");
        write_list(t, false, json);
        buf_text(json, "]");
    }
    for (int i = 0; i < TOKENIZER_ROLES; i++) {
        if (t->role[i] < 0)
            continue;
        if (!roles++)
            write_key(json, "roles", &members);
        buf_printf(json, "%s\"%s\": %d", roles > 1 ? ", " : "{", tokenizer_roles[i], t->role[i]);
    }
    if (roles)
        buf_text(json, "}");
    if (t->add_eos && t->role[TOKENIZER_EOS] < 0) { // the template has no token to say it with
        write_key(json, "add_eos", &members);
        buf_text(json, "true");
    }
    if (t->pre_name && strcmp(t->pre_name, t->pre->name)) {
        write_key(json, "pre", &members);
        buf_printf(json, "\"%s\"", t->pre_name);
    }
    if (t->chat_template) {
        write_key(json, "chat_template", &members);
        buf_json(json, t->chat_template, strlen(t->chat_template));
    }
    if (members)
        buf_text(json, "\n    }");
}

static void write_merges(const struct tokenizer *t, struct buf *json)
{
    const char *comma = "\n      ";
    struct buf pair = {0};
    for (size_t k = 0; k < t->bpe.n_merges; k++) {
        const struct bpe_merge *m = &t->bpe.merge[k];
        if ((size_t)m->left >= t->vocab.n || (size_t)m->right >= t->vocab.n)
            continue; // characters that are no tokens: scores say more than merges can
        buf_clear(&pair);
        tokenizer_text(t, m->left, &pair);
        buf_text(&pair, " ");
        tokenizer_text(t, m->right, &pair);
        buf_text(json, comma);
        buf_json(json, pair.p ? pair.p : "", pair.n);
        json->failed |= pair.failed;
        comma = ",\n      ";
    }
    buf_free(&pair);
}

static void write_model(const struct tokenizer *t, struct buf *scratch, struct buf *json)
{
    buf_text(json, "  \"model\": {\n    \"type\": \"BPE\", \"dropout\": null, \"unk_token\": ");
    if (t->bpe.unk >= 0)
        write_text(t, t->bpe.unk, scratch, json);
    else
        buf_text(json, "null");
    buf_printf(json,
               ", \"continuing_subword_prefix\": null, \"end_of_word_suffix\": null, "
               "\"fuse_unk\": %s, \"byte_fallback\": %s, \"ignore_merges\": %s,\n"
               "    \"vocab\": {",
               t->spm ? "true" : "false", t->spm ? "true" : "false",
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
    write_merges(t, json);
    buf_text(json, "\n    ]");
    write_extras(t, json);
    buf_text(json, "\n  }\n");
}

int tokenizer_write(const struct tokenizer *t, struct buf *json)
{
    struct buf scratch = {0};
    buf_text(json, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n");
    write_added(t, &scratch, json);
    if (t->spm)
        write_spaces(t, json);
    else
        write_steps(t, json);
    write_template(t, &scratch, json);
    write_decoder(t, json);
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
