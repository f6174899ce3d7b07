#include "datasets/corpus_write.h"

#include <stdlib.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/mem.h"
#include "datasets/corpus_format.h"

enum { BATCH_BYTES = 8 << 20, FLUSH = 1 << 20 };

int corpus_batch_add(struct corpus_batch *b, const struct document *doc, bool valid)
{
    if (mem_grow(&b->job, &b->cap, b->n + 1, sizeof *b->job))
        return -1;
    struct corpus_job *j = &b->job[b->n];
    j->doc = *doc;
    j->at = b->text.n;
    j->side = valid ? CORPUS_VALID : CORPUS_TRAIN;
    buf_add(&b->text, doc->text, doc->n);
    if (b->text.failed)
        return -1;
    b->n++;
    return b->text.n >= BATCH_BYTES;
}

void corpus_batch_free(struct corpus_batch *b)
{
    for (size_t i = 0; i < b->cap; i++) {
        tokens_free(&b->job[i].tokens);
        free(b->job[i].error);
    }
    free(b->job);
    buf_free(&b->text);
    *b = (struct corpus_batch){0};
}

/* ---- encoding ---- */

static bool parses(const struct corpus_write *w, const struct corpus_job *j)
{
    return w->parse_special == CORPUS_SPECIAL_ALL ||
           (w->parse_special == CORPUS_SPECIAL_PAIRS && j->doc.pair);
}

/* What `generate` makes of the prompt; *started: a token is in front. */
static int encode_prompt(const struct tokenizer *t, const char *text, size_t n, bool special,
                         struct tokens *tokens, bool *started)
{
    const int32_t start = tokenizer_start(t, n);
    *started = start >= 0;
    return (*started && tokens_add(tokens, &start, 1)) ||
                   tokenizer_encode(t, text, n, special, tokens)
               ? -1
               : 0;
}

int64_t corpus_prompt_tokens(const struct tokenizer *t, enum corpus_special parse,
                             const struct document *doc)
{
    struct tokens tokens = {0};
    bool started;
    const int rc =
        encode_prompt(t, doc->text, doc->prompt, parse != CORPUS_SPECIAL_NONE, &tokens, &started);
    const int64_t n = rc ? -1 : (int64_t)tokens.n;
    tokens_free(&tokens);
    return n;
}

/* The prompt, then the completion. */
static int encode_pair(const struct tokenizer *t, const char *text, bool special,
                       struct corpus_job *j)
{
    const size_t prompt = j->doc.prompt, n = j->doc.n - prompt;
    if (encode_prompt(t, text, prompt, special, &j->tokens, &j->started))
        return -1;
    j->prompt_tokens = j->tokens.n;
    if (prompt ? tokenizer_encode_on(t, text + prompt, n, special, &j->tokens)
               : tokenizer_encode(t, text, n, special, &j->tokens))
        return -1;
    j->ended = tokenizer_ends(t, j->tokens.id[j->tokens.n - 1]);
    return 0;
}

static void encode(const struct corpus_write *w, const char *text, struct corpus_job *j)
{
    const struct tokenizer *t = w->tokenizer;
    const bool special = parses(w, j);
    text += j->at;
    j->tokens.n = j->prompt_tokens = 0;
    j->started = j->ended = false;
    const int r = j->doc.pair ? encode_pair(t, text, special, j)
                              : tokenizer_encode(t, text, j->doc.n, special, &j->tokens);
    j->special = tokenizer_count_special(t, text, j->doc.n, &j->one);
    if (r)
        j->error = mem_text(err_text(), strlen(err_text()));
    else if (j->error)
        BUG("corpus_write: an error was left behind");
}

/* What the batch's pieces had in them that the corpus is to know. */
static void note(struct corpus_write *w, const struct corpus_job *j)
{
    w->started |= j->started;
    if (!j->special)
        return;
    if (parses(w, j)) {
        w->parsed = true;
    } else {
        w->plain_one = w->plain ? w->plain_one : j->one;
        w->plain += j->special;
    }
}

static int encode_all(struct corpus_write *w, struct corpus_batch *b)
{
    struct corpus_job *job = b->job;
    const char *text = b->text.n ? b->text.p : "";
    const long n = (long)b->n;
#pragma omp parallel for schedule(dynamic, 1)
    for (long i = 0; i < n; i++)
        encode(w, text, &job[i]);
    for (long i = 0; i < n; i++) {
        if (job[i].error)
            return err("%s", job[i].error);
        note(w, &job[i]);
    }
    return 0;
}

/* ---- writing ---- */

static int flush_tokens(struct corpus_write *w, enum corpus_side side)
{
    char name[CORPUS_NAME];
    struct corpus_write_side *s = &w->side[side];
    const enum h5type type = corpus_token_type(tokenizer_vocab_size(w->tokenizer));
    const void *data = s->token;
    if (type == H5_U16) {
        if (mem_grow(&s->narrow, &s->cap_narrow, s->n * sizeof(uint16_t), 1))
            return -1;
        for (size_t i = 0; i < s->n; i++) {
            const uint16_t v = (uint16_t)s->token[i];
            memcpy(s->narrow + sizeof v * i, &v, sizeof v);
        }
        data = s->narrow;
    }
    if (h5file_append(w->file, corpus_name(name, side, "tokens"), type, data, s->n))
        return -1;
    if (w->masked && h5file_append(w->file, corpus_name(name, side, "mask"), H5_U8, s->mask, s->n))
        return -1;
    s->n = 0;
    return 0;
}

static int flush_starts(struct corpus_write *w, enum corpus_side side)
{
    char name[CORPUS_NAME];
    struct corpus_write_side *s = &w->side[side];
    const int r =
        h5file_append(w->file, corpus_name(name, side, "documents"), H5_I64, s->start, s->n_starts);
    s->n_starts = 0;
    return r;
}

static int add_tokens(struct corpus_write_side *s, const int32_t *token, size_t n, uint8_t mask)
{
    if (mem_grow(&s->token, &s->cap, s->n + n, sizeof *s->token) ||
        mem_grow(&s->mask, &s->cap_mask, s->n + n, 1))
        return -1;
    if (n) {
        memcpy(s->token + s->n, token, n * sizeof *token);
        memset(s->mask + s->n, mask, n);
    }
    s->n += n;
    s->part.tokens += (int64_t)n;
    return 0;
}

static int add_end(struct corpus_write *w, struct corpus_write_side *s)
{
    const int32_t eot = tokenizer_eot(w->tokenizer);
    s->open = false;
    return eot < 0 ? 0 : add_tokens(s, &eot, 1, 1);
}

static int add_piece(struct corpus_write *w, const struct corpus_job *j)
{
    struct corpus_write_side *s = &w->side[j->side];
    if (j->doc.first) {
        if (s->open && add_end(w, s))
            return -1;
        if (mem_grow(&s->start, &s->cap_starts, s->n_starts + 1, sizeof *s->start))
            return -1;
        s->start[s->n_starts++] = s->part.tokens;
        s->part.documents++;
    }
    if (add_tokens(s, j->tokens.id, j->prompt_tokens, 0) ||
        add_tokens(s, j->tokens.id + j->prompt_tokens, j->tokens.n - j->prompt_tokens, 1))
        return -1;
    s->part.bytes += (int64_t)j->doc.n;
    s->part.loss_bytes += (int64_t)(j->doc.n - j->doc.prompt);
    s->open = true;
    if (j->ended)
        s->open = false;
    else if (j->doc.pair && add_end(w, s))
        return -1;
    if (s->n >= FLUSH && flush_tokens(w, j->side))
        return -1;
    return s->n_starts >= FLUSH ? flush_starts(w, j->side) : 0;
}

int corpus_write_batch(struct corpus_write *w, struct corpus_batch *b)
{
    int r = encode_all(w, b);
    for (size_t i = 0; !r && i < b->n; i++)
        r = add_piece(w, &b->job[i]);
    b->n = 0;
    buf_clear(&b->text);
    return r;
}

int corpus_write_finish(struct corpus_write *w)
{
    for (enum corpus_side i = CORPUS_TRAIN; i <= CORPUS_VALID; i++) {
        struct corpus_part *p = &w->side[i].part;
        const char *at = corpus_side_names[i];
        p->masked = w->masked;
        if (flush_tokens(w, i) || flush_starts(w, i) ||
            h5file_set_int(w->file, at, "tokens", p->tokens) ||
            h5file_set_int(w->file, at, "documents", p->documents) ||
            h5file_set_int(w->file, at, "bytes", p->bytes) ||
            h5file_set_int(w->file, at, "loss_bytes", p->loss_bytes) ||
            h5file_set_int(w->file, at, "masked", p->masked))
            return -1;
    }
    return 0;
}

void corpus_write_free(struct corpus_write *w)
{
    for (int i = 0; i < 2; i++) {
        free(w->side[i].token);
        free(w->side[i].mask);
        free(w->side[i].start);
        free(w->side[i].narrow);
    }
    *w = (struct corpus_write){0};
}
