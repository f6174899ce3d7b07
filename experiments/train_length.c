#include "experiments/train_length.h"

#include <math.h>
#include <stdio.h>

struct schedule train_schedule(const struct train *t, int64_t steps, double lr)
{
    const struct config_train *c = &t->stage->train;
    return (struct schedule){.kind = (enum schedule_kind)c->schedule,
                             .lr = lr,
                             .min = lr * c->min_lr_ratio,
                             .power = c->decay_power,
                             .steps = steps,
                             .warmup = share_of(c->warmup, steps),
                             .decay = share_of(c->decay, steps)};
}

int train_longer(struct train *t)
{
    const struct schedule was = train_schedule(t, t->steps_was, t->stage->train.lr),
                          now = train_schedule(t, t->steps, t->stage->train.lr);
    const int64_t step = t->state.step, refit = t->stage->qat.refit;
    const double start = t->blocks ? t->stage->qat.start : 0;
    bool same = llround(start * (double)t->steps_was) == llround(start * (double)t->steps) &&
                !(t->blocks && refit && step == t->steps_was && step % refit == 0);
    for (int64_t s = 0; s < step && same; s++)
        same = schedule_lr(&was, s) == schedule_lr(&now, s);
    char text[300];
    if (same)
        snprintf(text, sizeof text,
                 "%lld steps instead of %lld; all of them are as if it had been "
                 "so long from the start",
                 (long long)t->steps, (long long)t->steps_was);
    else
        snprintf(text, sizeof text,
                 "%lld steps instead of %lld: from step %lld on it has the longer one's schedule, "
                 "with a learning rate of %.3g (the last step's was %.3g); its first steps had the "
                 "shorter one's",
                 (long long)t->steps, (long long)t->steps_was, (long long)step,
                 schedule_lr(&now, step), schedule_lr(&was, step > 0 ? step - 1 : 0));
    progress_clear(&t->progress);
    fprintf(stderr, "%s: longer, %s\n", t->stage->name, text);
    return metrics_event(&t->metrics, step, "longer", "%s", text);
}
