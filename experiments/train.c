#include "experiments/train.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "autograd/base/clock.h"
#include "autograd/base/cpu.h"
#include "autograd/kernels/gemm.h"
#include "autograd/kernels/gemm_bf16.h"
#include "experiments/exam.h"
#include "experiments/interrupt.h"
#include "experiments/lesson.h"
#include "experiments/rehearsal.h"
#include "experiments/stage_plan.h"
#include "experiments/train_health.h"
#include "experiments/train_length.h"
#include "optim/ema.h"
#include "optim/optimizer.h"
#include "optim/schedule.h"

/* ---- checkpoints ---- */

/* A save that fails does not end the run: the last good checkpoint stays, a warning says so, and it
   is tried again. 0, or -1 with err() set. */
static int save(struct train *t)
{
    char path[4096];
    const int64_t step = t->state.step;
    t->state.seconds = clock_seconds() - t->started;
    checkpoint_name(path, t->folder, step);
    t->saved_at = clock_seconds();
    if (metrics_sync(&t->metrics) || checkpoint_save(path, t->m, &t->state, t->source) ||
        checkpoint_link(t->folder, step, "checkpoint.h5"))
        return -1;
    t->saved_step = step;
    t->retry = 0;
    if (t->state.best_step == step && checkpoint_link(t->folder, step, "best.h5"))
        err_warn("%s", err_text());
    checkpoint_prune(t->folder, t->stage->train.keep_last, step, t->state.best_step);
    return 0;
}

static void save_or_warn(struct train *t)
{
    enum { FIRST_RETRY = 10, LAST_RETRY = 600 }; // seconds
    if (!save(t))
        return;
    t->retry = t->retry > 0 ? fmin(2 * t->retry, LAST_RETRY) : FIRST_RETRY;
    err_warn("step %lld was not saved: %s. The run goes on and tries again in %.0f s; the last "
             "good checkpoint is step %lld",
             (long long)t->state.step, err_text(), t->retry, (long long)t->saved_step);
    if (metrics_event(&t->metrics, t->state.step, "save failed", "%s", err_text()))
        err_warn("%s", err_text());
}

static bool save_is_due(const struct train *t)
{
    const struct config_train *c = &t->stage->train;
    const double since = clock_seconds() - t->saved_at;
    if (t->retry > 0)
        return since >= t->retry;
    return (c->save_every && t->state.step % c->save_every == 0) ||
           (c->save_minutes > 0 && since >= 60 * c->save_minutes);
}

/* ---- a step ---- */

/* What gradients arrive at: the weights, or the factors over them. */
static struct store *trained(const struct train *t)
{
    return t->m->lora.factors.n ? &t->m->lora.factors : &t->m->store;
}

/* Scales of blocks are moved, and nothing else. */
static bool scales_only(const struct train *t)
{
    return t->blocks && t->stage->qat.params == PARAMS_SCALES;
}

/* Sums gradients and losses of the step's micro-batches. 0; 1: interrupted; -1 with err() set. */
static int accumulate(struct train *t, int64_t batch, struct loss *loss)
{
    const struct config_train *c = &t->stage->train;
    const struct lesson lesson = {.m = t->m,
                                  .teacher = t->teacher,
                                  .kl = (float)t->stage->qat.kl_weight,
                                  .label_smoothing = (float)c->label_smoothing,
                                  .z_loss = (float)c->z_loss};
    for (int64_t done = 0; done < batch; done += t->train->most) {
        const int64_t left = batch - done, n = left < t->train->most ? left : t->train->most;
        if (feed_fill(t->train, t->state.sample + done, n))
            return -1;
        ctx_reset(&t->ctx);
        lesson_run(&t->ctx, &lesson, &t->train->batch, t->train->target, loss);
        if (interrupt_flag)
            return 1;
        if (t->ctx.failed)
            return err("step %lld: %s", (long long)t->state.step + 1, t->ctx.text);
    }
    return 0;
}

/* Learned scales by the stage's rule at a rate of their own; Muon has no business with them. */
static int move_scales(const struct train *t, const struct optimizer_args *weights)
{
    const struct config_stage *s = t->stage;
    const bool muon = s->train.optimizer == OPTIMIZER_MUON;
    struct optimizer_args args = *weights;
    if (!t->blocks || !t->blocks->qat.attached || !t->blocks->qat.scales.n)
        return 0;
    args.lr = (muon ? args.adam_lr : args.lr) * (float)s->qat.scale_lr;
    args.weight_decay = 0;
    args.step = t->state.step + 1; // their moments are this stage's
    return optimizers[muon ? OPTIMIZER_ADAMW : s->train.optimizer].step(&t->blocks->qat.scales,
                                                                        &args);
}

/* Frozen scales follow their weights, but not behind the last step, nor where the rate has fallen
   below half of the stage's: what a refit costs has to be made good by weights that still move. */
static int refit(struct train *t, int64_t step, double lr)
{
    const int64_t every = t->stage->qat.refit;
    int64_t moved, all;
    if (!t->blocks || !t->blocks->qat.attached || !every || step % every || step == t->steps ||
        lr < 0.5 * t->stage->train.lr)
        return 0;
    if (blocks_refit(t->blocks, &moved, &all))
        return -1;
    return metrics_event(&t->metrics, step, "refit", "%lld of %lld scales moved", (long long)moved,
                         (long long)all);
}

static int optimize(struct train *t, double lr, double norm, int64_t tokens)
{
    const struct config_train *c = &t->stage->train;
    const double clip = c->grad_clip > 0 ? fmin(1, c->grad_clip / (norm + 1e-6)) : 1;
    const struct schedule adam = train_schedule(t, t->steps, c->adam_lr);
    const struct ema_args ema = {.decay = c->ema, .warmup = c->ema_warmup};
    const struct optimizer_args args = {.step = t->before + t->state.step + 1,
                                        .lr = (float)lr,
                                        .adam_lr = (float)schedule_lr(&adam, t->state.step),
                                        .muon_scale = c->muon_scale,
                                        .grad_scale = (float)(clip / (double)tokens),
                                        .weight_decay = (float)c->weight_decay,
                                        .beta1 = (float)c->beta1,
                                        .beta2 = (float)c->beta2,
                                        .eps = (float)c->eps,
                                        .momentum = (float)c->momentum,
                                        .nesterov = c->nesterov};
    if ((!scales_only(t) && optimizers[c->optimizer].step(trained(t), &args)) ||
        (c->ema > 0 && ema_update(&t->m->store, &ema, args.step)))
        return -1;
    const int64_t step = t->state.step + 1;
    if (move_scales(t, &args) || refit(t, step, lr))
        return -1;
    store_project(trained(t));
    return t->blocks && qat_check(&t->blocks->qat) ? err_in("step %lld", (long long)step) : 0;
}

/* Weights are put into blocks when their step has come. 0, or -1 with err() set. */
static int begin_blocks(struct train *t)
{
    const int64_t first = t->blocks ? llround(t->stage->qat.start * (double)t->steps) : 0;
    if (!t->blocks || t->blocks->qat.attached || t->state.step < first)
        return 0;
    const double begin = clock_seconds();
    if (blocks_begin(t->blocks, t->m))
        return -1;
    progress_clear(&t->progress);
    fprintf(stderr, "%s: %d matrices in blocks of %s from step %lld on, fitted in %.1f s\n",
            t->stage->name, t->blocks->qat.n, t->blocks->recipe.mix->name,
            (long long)t->state.step + 1, clock_seconds() - begin);
    return metrics_event(&t->metrics, t->state.step, "blocks", "%d matrices in blocks of %s",
                         t->blocks->qat.n, t->blocks->recipe.mix->name);
}

/* The part of the time that the step's products take at the speed measured for them; 0: not yet
   known, as the first step is not kept waiting for it. */
static double gemm_share(struct train *t, double rate)
{
    const double reached = 1e-9 * t->flops / (double)t->stage->train.batch_tokens * rate;
    double (*peak)(int64_t, int64_t, int64_t, double) =
        t->ctx.act == &dtype_bf16 ? gemm_bf16_peak : gemm_peak;
    if (t->seconds_to_first == 0)
        return 0;
    if (reached > 0.9 * t->gemm_peak) // not measured yet, or in a busy moment: look again
        t->gemm_peak = fmax(t->gemm_peak, fmax(reached, peak(1024, 1024, 256, 0.02)));
    return reached / t->gemm_peak;
}

static int64_t left_validations(const struct train *t)
{
    const int64_t every = t->stage->train.eval_every;
    return t->valid ? progress_left(every ? every : t->steps, t->state.step, t->steps) : 0;
}

static void show(struct train *t, double loss, double lr, double norm, double rate)
{
    const struct progress_step p = {.step = t->state.step,
                                    .steps = t->steps,
                                    .loss = loss,
                                    .smooth = t->state.smooth,
                                    .lr = lr,
                                    .grad_norm = norm,
                                    .tokens_per_s = rate,
                                    .gemm_share = gemm_share(t, rate),
                                    .mem_bytes = (double)cpu_rss(),
                                    .left = {left_validations(t),
                                             progress_left(t->stage->train.sample_every,
                                                           t->state.step, t->steps)}};
    progress_step(&t->progress, &p);
}

/* accumulate(), which counts what the first step multiplies. */
static int counted(struct train *t, int64_t batch, struct loss *loss)
{
    struct profile profile = {0};
    t->ctx.profile = t->flops > 0 ? NULL : &profile;
    const int rc = accumulate(t, batch, loss);
    if (t->ctx.profile && !rc)
        t->flops = rehearsal_flops(&profile);
    t->ctx.profile = NULL;
    profile_free(&profile);
    return rc;
}

/* The step is taken: what comes next is the batch behind it. */
static void advance(struct train *t, int64_t batch)
{
    t->state.step++;
    t->state.left = LEFT_EVALUATION;
    t->state.sample += batch;
    t->state.tokens += batch * t->train->T;
}

/* A batch that is all prompt teaches nothing: its step is over, and the run goes on behind it. */
static int skip(struct train *t, int64_t batch)
{
    advance(t, batch);
    if (!t->skipped)
        err_warn("step %lld: no token of the batch has a target: it is skipped, as later ones are "
                 "(metrics.jsonl names them)",
                 (long long)t->state.step);
    t->skipped = true;
    return metrics_event(&t->metrics, t->state.step, "skipped",
                         "no token of the batch has a target");
}

/* One optimizer step. 0; 1: interrupted, nothing has changed; -1 with err() set. */
static int step(struct train *t, const struct schedule *schedule)
{
    const int64_t batch = t->stage->train.batch_tokens / t->train->T;
    const double lr = schedule_lr(schedule, t->state.step), begin = clock_seconds();
    struct loss sum = {0};
    if (begin_blocks(t))
        return -1;
    store_zero_grad(trained(t));
    const int rc = counted(t, batch, &sum);
    if (rc)
        return rc;
    if (!sum.count)
        return skip(t, batch);
    store_pullback(trained(t));
    const double loss = sum.nll / (double)sum.count;
    const struct store *moved = scales_only(t) ? &t->blocks->qat.scales : trained(t);
    const double norm = grad_norm(moved) / (double)sum.count;
    const double keep = 0.95, old = t->state.smooth;
    const double smooth = isnan(old) ? loss : keep * old + (1 - keep) * loss;
    if (train_look_healthy(t, loss, norm, smooth) || optimize(t, lr, norm, sum.count))
        return -1;
    advance(t, batch);
    t->state.smooth = smooth;
    t->state.smooth_min = isnan(old) ? smooth : fmin(smooth, t->state.smooth_min);
    const double rate = (double)(batch * t->train->T) / (clock_seconds() - begin);
    const struct metrics_term kl = {"kl", sum.kl / (double)sum.count};
    const struct metrics_step line = {.step = t->state.step,
                                      .loss = loss,
                                      .lr = lr,
                                      .grad_norm = norm,
                                      .tokens = t->state.tokens,
                                      .tokens_per_s = rate,
                                      .time = clock_seconds() - t->started,
                                      .term = &kl,
                                      .n_terms = t->teacher ? 1 : 0};
    show(t, loss, lr, norm, rate);
    return metrics_step(&t->metrics, &line);
}

/* What happens between steps; state.left says what of it is still to be done, so that a run that
   was stopped in between goes on there. Every line of a step is written before its checkpoint. */
static int after_step(struct train *t)
{
    const struct config_train *c = &t->stage->train;
    const int64_t s = t->state.step;
    const bool last = s == t->steps;
    if (t->state.left == LEFT_EVALUATION) {
        const int rc = last || (c->eval_every && s % c->eval_every == 0) ? exam_validate(t) : 0;
        if (rc)
            return rc;
        t->state.left = LEFT_SAMPLE;
    }
    if (c->sample_every && (last || s % c->sample_every == 0)) {
        const int rc = exam_sample(t);
        if (rc)
            return rc;
    }
    t->state.left = LEFT_NOTHING;
    if (last)
        return save(t) ? err_in("the last checkpoint could not be saved (the last good one is step "
                                "%lld; the same command goes on from there)",
                                (long long)t->saved_step)
                       : 0;
    if (save_is_due(t) || (t->valid && t->state.best_step == s))
        save_or_warn(t);
    return 0;
}

/* ---- the loop ---- */

static size_t arena_size(const struct train *t)
{
    const bool acts = t->blocks && t->stage->qat.activations;
    struct lora_args lora;
    struct plan_args args = stage_plan_pass(t->stage, t->train->T, t->train->apart, &lora);
    args.n_seqs = t->train->most;
    args.teacher = t->teacher ? &t->teacher->dims : NULL;
    args.rounds = acts ? &t->blocks->recipe : NULL;
    args.weighed = acts && t->blocks->imatrix;
    const size_t train = plan_train(&t->m->dims, &args), eval = plan_eval(&t->m->dims, &args);
    return !train || !eval ? 0 : train > eval ? train : eval;
}

/* A signal arrived: the last completed step is saved, whatever was under way. */
static int leave(struct train *t)
{
    char path[4096];
    const char *why = interrupt_name();
    progress_clear(&t->progress);
    if (t->saved_step != t->state.step && save(t))
        return err_in("%s: step %lld could not be saved (the last good checkpoint is step %lld)",
                      why, (long long)t->state.step, (long long)t->saved_step);
    checkpoint_name(path, t->folder, t->state.step);
    err("%s: saved step %lld of %lld to %s; the same command goes on from there", why,
        (long long)t->state.step, (long long)t->steps, path);
    return TRAIN_STOPPED;
}

static int loop(struct train *t)
{
    const struct schedule schedule = train_schedule(t, t->steps, t->stage->train.lr);
    const double begin = clock_seconds();
    int rc = t->state.left ? after_step(t) : 0;
    while (!rc && t->state.step < t->steps && !interrupt_flag) {
        rc = step(t, &schedule);
        if (t->seconds_to_first == 0)
            t->seconds_to_first = clock_seconds() - begin;
        if (!rc)
            rc = after_step(t);
    }
    if (rc < 0 && !interrupt_flag)
        return -1;
    return t->saved_step == t->steps ? TRAIN_DONE : leave(t);
}

/* A copy of the metrics for TensorBoard: without it the run goes on. */
static void open_events(struct train *t)
{
    char path[4200];
    struct timespec now;
    snprintf(path, sizeof path, "%s/tensorboard", t->folder);
    clock_gettime(CLOCK_REALTIME, &now);
    const double wall = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    if (events_open(&t->events, &t->metrics, path, wall - t->state.seconds))
        err_warn("%s; nothing is written for TensorBoard", err_text());
}

/* Keys of the lines that the last step has yet to write. */
static const char *const *undone_lines(int left)
{
    static const char *const keys[] = {"valid_loss", "sample", NULL};
    return left == LEFT_EVALUATION ? keys : left == LEFT_SAMPLE ? keys + 1 : keys + 2;
}

int train_run(struct train *t)
{
    char path[4200];
    t->arena_bytes = arena_size(t);
    if (!t->arena_bytes || ctx_init(&t->ctx, t->arena_bytes))
        return -1;
    t->ctx.stop = &interrupt_flag;
    t->ctx.recompute = t->stage->train.recompute == RECOMPUTE_BLOCKS;
    if (config_bf16(&t->stage->train)) {
        t->ctx.act = &dtype_bf16;
        if (store_panels(&t->m->store) || (t->teacher && store_panels(&t->teacher->store))) {
            ctx_free(&t->ctx);
            return -1;
        }
        store_project(&t->m->store);
        if (t->teacher)
            store_project(&t->teacher->store);
    }
    t->started = clock_seconds() - t->state.seconds;
    t->saved_at = clock_seconds();
    t->saved_step = t->state.step > 0 ? t->state.step : -1;
    snprintf(path, sizeof path, "%s/metrics.jsonl", t->folder);
    int rc = metrics_reopen(&t->metrics, path, t->state.step > 0 ? t->state.step : -1,
                            undone_lines(t->state.left));
    if (!rc) {
        if (t->stage->train.tensorboard)
            open_events(t);
        progress_open(&t->progress, 2, t->stage->name);
        if (t->state.step > 0)
            rc = metrics_event(&t->metrics, t->state.step, "resume", "from step %lld",
                               (long long)t->state.step);
        if (!rc && t->steps_was)
            rc = train_longer(t);
        if (!rc)
            rc = loop(t);
        progress_close(&t->progress);
        if (metrics_close(&t->metrics) && !rc)
            rc = -1;
        events_close(&t->events);
    }
    t->arena_peak = t->ctx.arena.peak;
    t->memory =
        transformer_bytes(t->m) + (t->teacher ? transformer_bytes(t->teacher) : 0) + t->arena_bytes;
    t->state.seconds = clock_seconds() - t->started;
    ctx_free(&t->ctx);
    return rc;
}
