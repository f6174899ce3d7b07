#include "experiments/feed.h"

#include <stdlib.h>

#include "autograd/base/mem.h"
#include "experiments/interrupt.h"
#include "experiments/progress.h"

int feed_init(struct feed *f, struct loader *loader, int64_t T, int64_t most)
{
    const size_t n = (size_t)(T * most);
    *f = (struct feed){.loader = loader, .T = T, .most = most, .apart = loader_apart(loader)};
    f->tok = mem_new(n, sizeof *f->tok);
    f->pos = mem_new(n, sizeof *f->pos);
    f->target = mem_new(n, sizeof *f->target);
    f->row_id = mem_new(n, sizeof *f->row_id);
    f->seqs = mem_new(f->apart ? n : (size_t)most, sizeof *f->seqs);
    if (!f->tok || !f->pos || !f->target || !f->row_id || !f->seqs) {
        feed_free(f);
        return err_in("batch of %lld tokens", (long long)(T * most));
    }
    return 0;
}

void feed_free(struct feed *f)
{
    free(f->tok);
    free(f->pos);
    free(f->target);
    free(f->row_id);
    free(f->seqs);
    *f = (struct feed){0};
}

/* Sequences of window w, whose rows start at `row`: one, or one for each document in it. */
static int cut(struct feed *f, int64_t sample, int64_t row, int n)
{
    int32_t *starts = f->pos + row; // free until the positions are written
    int parts = 1;
    starts[0] = 0;
    if (f->apart) {
        const int32_t end = loader_length(f->loader, sample);
        parts = loader_starts(f->loader, sample, starts);
        if (end < f->T)
            starts[parts++] = end;
    }
    for (int i = 0; i < parts; i++) {
        const int64_t start = starts[i], end = i + 1 < parts ? starts[i + 1] : f->T;
        f->seqs[n + i] = (struct sequence){.start = row + start, .len = end - start};
    }
    for (int i = 0; i < parts; i++)
        for (int64_t t = 0; t < f->seqs[n + i].len; t++)
            f->pos[f->seqs[n + i].start + t] = (int32_t)t;
    return n + parts;
}

int feed_fill(struct feed *f, int64_t first, int64_t n)
{
    if (loader_batch(f->loader, first, (int)n, f->tok, f->target))
        return -1;
    int n_seqs = 0;
    for (int64_t w = 0; w < n; w++) {
        n_seqs = cut(f, first + w, w * f->T, n_seqs);
        for (int64_t t = 0; t < f->T; t++)
            f->row_id[w * f->T + t] = (uint64_t)((first + w) * f->T + t);
    }
    f->batch = (struct batch){.n = n * f->T,
                              .tok = f->tok,
                              .pos = f->pos,
                              .row_id = f->row_id,
                              .seqs = f->seqs,
                              .n_seqs = n_seqs};
    return 0;
}

int feed_evaluate(struct feed *f, struct transformer *m, struct ctx *ctx, int64_t windows,
                  const char *label, struct loss *loss)
{
    struct progress progress;
    int rc = 0;
    progress_open(&progress, 2, label);
    for (int64_t w = 0; w < windows && !rc; w += f->most) {
        const int64_t n = windows - w < f->most ? windows - w : f->most;
        rc = feed_fill(f, w, n);
        if (rc)
            break;
        ctx_reset(ctx);
        const struct head_loss_args args = {.target = f->target, .weight = 1};
        op_head_loss(ctx, transformer_forward(ctx, m, &f->batch), &m->output->used, &args, loss);
        if (ctx->stop && *ctx->stop)
            rc = 1;
        else if (ctx->failed)
            rc = err("evaluation: %s", ctx->text);
        progress_update(&progress, (double)((w + n) * f->T), (double)(windows * f->T), "tokens");
    }
    progress_close(&progress);
    return rc;
}
