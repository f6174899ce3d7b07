#include "experiments/exam.h"

#include <math.h>
#include <stdio.h>

#include "autograd/base/clock.h"
#include "experiments/decode.h"
#include "experiments/interrupt.h"
#include "optim/ema.h"

/* Puts the average in the place of the weights, or back, if the stage has one. */
static void exchange(struct train *t)
{
    if (t->stage->train.ema > 0)
        ema_swap(&t->m->store);
}

/* The loss of the weights that are in place, and the text's bytes. 0; 1: interrupted; -1 with err()
 * set. */
static int measure(struct train *t, struct metrics_valid *v, double *bytes)
{
    struct loss loss = {0};
    const int64_t all = loader_windows(t->valid->loader), T = t->valid->T;
    const int64_t some = (t->stage->train.eval_tokens + T - 1) / T;
    const int64_t windows = t->stage->train.eval_tokens && some < all ? some : all;
    t->ctx.recording = t->ctx.training = false;
    const int rc = feed_evaluate(t->valid, t->m, &t->ctx, windows, "evaluate", &loss);
    // the bytes of the scored tokens: all of the part's, or in proportion
    *bytes =
        (double)t->valid_bytes * loader_share(t->valid->loader) * (double)windows / (double)all;
    *v = (struct metrics_valid){.step = t->state.step,
                                .loss = loss.count ? loss.nll / (double)loss.count : NAN,
                                .tokens = loss.count,
                                .bytes = (int64_t)(*bytes + 0.5),
                                .time = clock_seconds() - t->started};
    return rc;
}

int exam_validate(struct train *t)
{
    struct metrics_valid v;
    double bytes;
    if (!t->valid)
        return 0;
    progress_leave(&t->progress);
    int rc = measure(t, &v, &bytes);
    const double trained = v.loss;
    if (!rc && t->stage->train.ema > 0) {
        exchange(t);
        rc = measure(t, &v, &bytes);
        exchange(t);
        v.unaveraged = &trained;
    }
    progress_return(&t->progress, PROGRESS_VALIDATION);
    if (rc || !v.tokens)
        return rc;
    t->state.last_valid = v.loss;
    t->state.last_bpb = bytes > 0 ? v.loss * (double)v.tokens / log(2) / bytes : NAN;
    t->state.last_unaveraged = v.unaveraged ? trained : NAN;
    if (!(t->state.best_valid <= v.loss)) {
        t->state.best_valid = v.loss;
        t->state.best_step = t->state.step;
    }
    progress_clear(&t->progress);
    fprintf(stderr, "step %lld  validation loss %.4f  perplexity %.3f  bits per byte %.4f",
            (long long)v.step, v.loss, exp(v.loss), t->state.last_bpb);
    if (v.unaveraged)
        fprintf(stderr, "  (averaged weights; loss %.4f as trained)", trained);
    fprintf(stderr, "\n");
    return metrics_valid(&t->metrics, &v);
}

int exam_sample(struct train *t)
{
    const struct config_train *c = &t->stage->train;
    const struct sampler_args args = {.temp = c->sample_temp,
                                      .top_k = 40,
                                      .top_p = 0.95,
                                      .min_p = 0.05,
                                      .repeat_penalty = 1,
                                      .seed = t->config->seed};
    struct buf text = {0};
    const char *prompt = c->sample_prompt ? c->sample_prompt : "";
    progress_leave(&t->progress);
    exchange(t);
    int rc = decode_sample(t->m, t->tok, prompt, c->sample_tokens, &args, &interrupt_flag, &text);
    exchange(t);
    progress_return(&t->progress, PROGRESS_SAMPLE);
    if (!rc && interrupt_flag)
        rc = 1;
    if (!rc) {
        progress_clear(&t->progress);
        fprintf(stderr, "--- sample at step %lld ---\n%s%s\n---\n", (long long)t->state.step,
                prompt, text.p ? text.p : "");
        rc = metrics_sample(&t->metrics, t->state.step, prompt, text.p ? text.p : "", text.n);
    }
    buf_free(&text);
    return rc;
}
