/* A tokenizer as GGUF's metadata has it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/mem.h"
#include "autograd/base/names.h"
#include "experiments/export.h"

#define TOKENIZER "tokenizer.ggml."

static const char *const role_keys[TOKENIZER_ROLES] = {
    [TOKENIZER_BOS] = TOKENIZER "bos_token_id",       [TOKENIZER_EOS] = TOKENIZER "eos_token_id",
    [TOKENIZER_EOT] = TOKENIZER "eot_token_id",       [TOKENIZER_EOM] = TOKENIZER "eom_token_id",
    [TOKENIZER_UNK] = TOKENIZER "unknown_token_id",
    [TOKENIZER_SEP] = TOKENIZER "seperator_token_id", // so it is spelled
    [TOKENIZER_PAD] = TOKENIZER "padding_token_id",
};

/* Ids that are no token, behind the tokenizer's last one too: a text of their own each, which
   nothing becomes. */
static bool is_token(const struct tokenizer *t, int id)
{
    return (size_t)id < t->vocab.n && t->vocab.token[id].type != VOCAB_HOLE;
}

static void put_tokens(const struct tokenizer *t, int vocab, struct gguf_write *w)
{
    struct buf text = {0};
    gguf_write_texts(w, TOKENIZER "tokens", (size_t)vocab);
    for (int id = 0; id < vocab; id++) {
        buf_clear(&text);
        if (is_token(t, id))
            tokenizer_text(t, id, &text);
        else
            buf_printf(&text, "[PAD%d]", id);
        gguf_write_item(w, text.p ? text.p : "", text.n);
    }
    w->failed |= text.failed;
    buf_free(&text);
}

static void put_numbers(const struct tokenizer *t, int vocab, struct gguf_write *w)
{
    int32_t *type = mem_new((size_t)vocab, sizeof *type);
    float *score = mem_new((size_t)vocab, sizeof *score);
    w->failed |= !type || !score;
    for (int id = 0; id < vocab && !w->failed; id++) {
        type[id] = is_token(t, id) ? (int32_t)t->vocab.token[id].type : VOCAB_UNUSED;
        score[id] = t->spm && is_token(t, id) ? tokenizer_score(t, id) : 0;
    }
    if (!w->failed)
        gguf_write_list(w, TOKENIZER "token_type", GGUF_I32, (size_t)vocab, type);
    if (!w->failed && t->spm)
        gguf_write_list(w, TOKENIZER "scores", GGUF_F32, (size_t)vocab, score);
    free(type);
    free(score);
}

static void put_merges(const struct tokenizer *t, struct gguf_write *w)
{
    struct buf pair = {0};
    gguf_write_texts(w, TOKENIZER "merges", t->bpe.n_merges);
    for (size_t k = 0; k < t->bpe.n_merges; k++) {
        buf_clear(&pair);
        tokenizer_text(t, t->bpe.merge[k].left, &pair);
        buf_text(&pair, " ");
        tokenizer_text(t, t->bpe.merge[k].right, &pair);
        gguf_write_item(w, pair.p ? pair.p : "", pair.n);
    }
    w->failed |= pair.failed;
    buf_free(&pair);
}

/* What the file that it came from does not say is what it does; and without a BOS llama.cpp would
   take a number of its own. */
static int32_t role(const struct tokenizer *t, int r)
{
    if (t->role[r] >= 0)
        return t->role[r];
    if (r == TOKENIZER_BOS)
        return t->bos >= 0 ? t->bos : t->eot;
    return r == TOKENIZER_EOS ? t->eot : -1;
}

void export_declare_tokenizer(const struct tokenizer *t, int vocab, struct gguf_write *w)
{
    gguf_write_text(w, TOKENIZER "model", t->spm ? "llama" : "gpt2");
    gguf_write_text(w, TOKENIZER "pre", tokenizer_pre(t));
    put_tokens(t, vocab, w);
    put_numbers(t, vocab, w);
    if (!t->spm)
        put_merges(t, w);
    for (int r = 0; r < TOKENIZER_ROLES; r++)
        if (role(t, r) >= 0)
            gguf_write_u32(w, role_keys[r], (uint32_t)role(t, r));
    gguf_write_bool(w, TOKENIZER "add_bos_token", t->bos >= 0);
    gguf_write_bool(w, TOKENIZER "add_eos_token", t->add_eos);
    gguf_write_bool(w, TOKENIZER "add_space_prefix", t->spm && t->space != TOKENIZER_NO_SPACE);
    if (t->chat_template)
        gguf_write_text(w, "tokenizer.chat_template", t->chat_template);
}

void export_warn_tokenizer(const struct tokenizer *t)
{
    struct names behind = {0};
    for (size_t id = 0; id < t->behind.n; id++)
        if (t->behind.token[id].type != VOCAB_HOLE)
            names_add(&behind, t->vocab.bytes + t->vocab.token[id].at, t->vocab.token[id].len);
    if (behind.n)
        err_warn("added tokens %s are found behind the normalizer here ('normalized'), which GGUF "
                 "cannot say: in the file they are found everywhere in text",
                 names_text(&behind));
    names_free(&behind);
}
