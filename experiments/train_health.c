#include "experiments/train_health.h"

#include <math.h>
#include <stdio.h>

/* The newest checkpoint whose weights were seen to work: the step after it went well. */
static void name_good(const struct train *t, char text[4200])
{
    enum { MOST = 64 };
    int64_t steps[MOST];
    const int n = checkpoint_list(t->folder, steps, MOST);
    snprintf(text, 4200, "there is no checkpoint from before it");
    for (int i = 0; i < n; i++) {
        char path[4096];
        if (steps[i] >= t->state.step)
            continue;
        checkpoint_name(path, t->folder, steps[i]);
        snprintf(text, 4200, "the last good checkpoint is step %lld, %s", (long long)steps[i],
                 path);
        return;
    }
}

int train_look_healthy(struct train *t, double loss, double norm, double smooth)
{
    const double limit = t->stage->train.loss_limit;
    const long long step = (long long)t->state.step + 1;
    char good[4200];
    const char *what = NULL;
    if (!isfinite(loss))
        what = "the loss is not finite";
    else if (!isfinite(norm))
        what = "the gradient is not finite";
    else if (limit > 0 && smooth > t->state.smooth_min + limit)
        what = "the loss exploded";
    if (!what)
        return 0;
    name_good(t, good);
    if (metrics_event(&t->metrics, t->state.step, "stopped",
                      "step %lld: %s (loss %g, gradient norm %g)", step, what, loss, norm))
        err_warn("%s", err_text());
    return err("step %lld: %s (loss %g, smoothed %g after a minimum of %g, gradient norm %g); %s. "
               "Lower lr or grad_clip and start over (--fresh), or from that checkpoint (from:)",
               step, what, loss, smooth, t->state.smooth_min, norm, good);
}
