#include "experiments/lesson.h"

void lesson_run(struct ctx *ctx, const struct lesson *l, const struct batch *b,
                const int32_t *target, struct loss *loss)
{
    struct head_voice voice = {0};
    if (l->teacher) {
        ctx->recording = ctx->training = false;
        voice.hidden = transformer_forward(ctx, l->teacher, b);
        voice.w = &l->teacher->output->used;
    }
    ctx->recording = ctx->training = true;
    const float kl = voice.hidden ? l->kl : 0;
    const struct head_loss_args args = {.target = target,
                                        .weight = 1 - kl,
                                        .label_smoothing = l->label_smoothing,
                                        .z_loss = l->z_loss,
                                        .teacher = voice.hidden ? &voice : NULL,
                                        .kl = kl};
    struct tensor *hidden = transformer_forward(ctx, l->m, b);
    if (!op_head_loss(ctx, hidden, &l->m->output->used, &args, loss))
        tape_backward(ctx, NULL);
}
