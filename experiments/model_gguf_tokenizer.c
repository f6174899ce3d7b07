#include <stdlib.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/mem.h"
#include "autograd/base/once.h"
#include "compress/gguf_meta.h"
#include "experiments/model_gguf.h"

#define TOKENIZER "tokenizer.ggml."

static const char *const role_keys[TOKENIZER_ROLES] = {
    [TOKENIZER_BOS] = TOKENIZER "bos_token_id",
    [TOKENIZER_EOS] = TOKENIZER "eos_token_id",
    [TOKENIZER_EOT] = TOKENIZER "eot_token_id",
    [TOKENIZER_EOM] = TOKENIZER "eom_token_id",
    [TOKENIZER_UNK] = TOKENIZER "unknown_token_id",
    [TOKENIZER_SEP] = TOKENIZER "seperator_token_id",
    [TOKENIZER_PAD] = TOKENIZER "padding_token_id",
};

/* What the parts point into. */
struct lists {
    struct tokenizer_text *token, *merge;
    float *score;
    int32_t *type;
};

/* Elements of a list of texts; NULL with err() set. They lie in the file's bytes. */
static struct tokenizer_text *texts(const struct gguf_pair *p)
{
    struct cursor c = {.base = p->data, .size = p->bytes};
    char number[32];
    struct tokenizer_text *t = mem_new((size_t)p->n, sizeof *t);
    for (uint64_t i = 0; t && i < p->n; i++) {
        const struct gguf_string s = gguf_text(p, &c, number);
        t[i] = (struct tokenizer_text){s.s, s.n};
    }
    return t;
}

/* A copy: the file's is not aligned. */
static void *numbers(const struct gguf_pair *p)
{
    void *copy = mem_new(p->bytes, 1);
    if (copy)
        memcpy(copy, p->data, p->bytes);
    return copy;
}

/* What a list is of: some writers have u32 for small numbers, the same bytes as i32. */
static enum gguf_kind kind_of_types(const struct gguf *g)
{
    const struct gguf_pair *p = gguf_find(g, TOKENIZER "token_type");
    return p && p->kind == GGUF_U32 ? GGUF_U32 : GGUF_I32;
}

/* Tokens that have to be: of the same number, of the kind they have to be. */
static int read_tokens(const struct gguf *g, struct tokenizer_parts *p, struct lists *l)
{
    const struct gguf_pair *list = NULL;
    int rc = gguf_meta_list(g, TOKENIZER "tokens", GGUF_TEXT, 0, &list);
    if (rc || !list->n)
        return rc < 0 ? -1 : err("metadata '" TOKENIZER "tokens' is missing or empty");
    p->n = (size_t)list->n;
    if (!(l->token = texts(list)))
        return -1;
    rc = gguf_meta_list(g, TOKENIZER "token_type", kind_of_types(g), p->n, &list);
    if (rc < 0 || (!rc && !(l->type = numbers(list))))
        return -1;
    rc = gguf_meta_list(g, TOKENIZER "scores", GGUF_F32, p->n, &list);
    if (rc < 0 || (!rc && !(l->score = numbers(list))))
        return -1;
    if (rc && p->spm)
        return err("metadata '" TOKENIZER "scores' is missing");
    rc = p->spm ? 1 : gguf_meta_list(g, TOKENIZER "merges", GGUF_TEXT, 0, &list);
    if (rc < 0 || (!rc && !(l->merge = texts(list))))
        return -1;
    if (rc && !p->spm)
        return err("metadata '" TOKENIZER "merges' is missing");
    p->n_merges = rc ? 0 : (size_t)list->n;
    p->token = l->token;
    p->type = l->type;
    p->score = l->score;
    p->merge = l->merge;
    return 0;
}

static int read_flags(const struct gguf *g, struct tokenizer_parts *p)
{
    struct gguf_string chat;
    bool space = p->spm, extra = false;
    p->add_bos = p->spm || p->pre->add_bos;
    if (p->spm) { // llama.cpp's defaults
        p->role[TOKENIZER_UNK] = 0;
        p->role[TOKENIZER_BOS] = p->n > 1 ? 1 : -1;
        p->role[TOKENIZER_EOS] = p->n > 2 ? 2 : -1;
    }
    for (int i = 0; i < TOKENIZER_ROLES; i++) {
        int64_t id = p->role[i];
        if (gguf_meta_int(g, role_keys[i], 0, UINT32_MAX, &id) < 0)
            return -1;
        if (id >= (int64_t)p->n && id != UINT32_MAX) // some writers' "none"
            return err("metadata '%s' is %lld, there are %zu tokens", role_keys[i], (long long)id,
                       p->n);
        p->role[i] = id < (int64_t)p->n ? (int32_t)id : -1;
    }
    if (gguf_meta_bool(g, TOKENIZER "add_bos_token", &p->add_bos) < 0 ||
        gguf_meta_bool(g, TOKENIZER "add_eos_token", &p->add_eos) < 0 ||
        gguf_meta_bool(g, TOKENIZER "add_space_prefix", &space) < 0 ||
        gguf_meta_bool(g, TOKENIZER "remove_extra_whitespaces", &extra) < 0)
        return -1;
    if (space && !p->spm)
        return err("metadata '" TOKENIZER "add_space_prefix' is true: byte-level BPE with a space "
                   "in front of text is not supported");
    if (extra)
        return err("metadata '" TOKENIZER "remove_extra_whitespaces' is true: not supported");
    if (p->add_bos && p->role[TOKENIZER_BOS] < 0)
        return err("BOS is wanted in front of texts, but metadata '%s' is missing",
                   role_keys[TOKENIZER_BOS]);
    p->space = space ? TOKENIZER_SPACE_EACH : TOKENIZER_NO_SPACE;
    const int rc = gguf_meta_text(g, "tokenizer.chat_template", &chat);
    if (!rc)
        p->chat_template = (struct tokenizer_text){chat.s, chat.n};
    return rc < 0 ? -1 : 0;
}

static int read_kind(const struct gguf *g, struct tokenizer_parts *p)
{
    struct gguf_string model, pre;
    int rc = gguf_meta_text(g, TOKENIZER "model", &model);
    if (rc)
        return rc < 0 ? -1 : err("metadata '" TOKENIZER "model' is missing");
    p->spm = model.n == 5 && !memcmp(model.s, "llama", 5);
    if (p->spm)
        return 0;
    if (model.n != 4 || memcmp(model.s, "gpt2", 4))
        return err("tokenizer '%.*s' is not supported; llama and gpt2 are",
                   (int)(model.n < 40 ? model.n : 40), model.s);
    rc = gguf_meta_text(g, TOKENIZER "pre", &pre);
    if (rc < 0)
        return -1;
    if (rc) { // old files; as llama.cpp does
        pre = (struct gguf_string){.s = "default", .n = 7};
        once_warn("metadata '" TOKENIZER
                  "pre' is missing: text is cut by the rule 'default', which "
                  "may not be what the model was trained with");
    }
    p->pre = pretok_named(pre.s, pre.n);
    return p->pre ? 0 : -1;
}

struct tokenizer *model_gguf_tokenizer(const struct gguf *g)
{
    struct tokenizer_parts p = {0};
    struct lists l = {0};
    struct tokenizer *t = NULL;
    memset(p.role, 0xff, sizeof p.role);
    if (!read_kind(g, &p) && !read_tokens(g, &p, &l) && !read_flags(g, &p))
        t = tokenizer_make(&p);
    free(l.token);
    free(l.merge);
    free(l.score);
    free(l.type);
    if (!t)
        err_in("tokenizer");
    return t;
}
