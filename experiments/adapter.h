/*
 * LoRA adapters as GGUF files, llama.cpp's: general.type adapter, adapter.type lora,
 * adapter.lora.alpha, and for each weight NAME.lora_a, rows [r,I], and NAME.lora_b, rows [O,r].
 */
#ifndef ATTAR_EXPERIMENTS_ADAPTER_H
#define ATTAR_EXPERIMENTS_ADAPTER_H

#include "autograd/base/field.h"
#include "experiments/export.h"
#include "layers/transformer.h"

/* Gives m, a model without gradients of any types, the factors of a file, `scale` times. Refused:
   another architecture's, a weight or a shape that m does not have, and factors of token_embd
   (which llama.cpp turns the other way and does not take where the head is the same matrix). 0, or
   -1 with err() set. */
int adapter_use(struct transformer *m, const char *path, double scale);

/* Writes m's factors in f32; atomic, verified. 0, or -1 with err() set and `path` as it was. */
int adapter_write(const char *path, const struct transformer *m, const struct export_origin *o);

/* ---- flags of the commands that use a model, by llama.cpp's names ---- */

struct adapter_args {
    const char *lora, *lora_scaled;
};

#define ADAPTER_FIELDS(tag, member)                                                                \
    {.name = "lora",                                                                               \
     .offset = offsetof(struct tag, member.lora),                                                  \
     .type = FIELD_TEXT,                                                                           \
     .doc = "adapter to use with the model: a GGUF file, of llama.cpp's or of export"},            \
    {                                                                                              \
        .name = "lora_scaled", .offset = offsetof(struct tag, member.lora_scaled),                 \
        .type = FIELD_TEXT, .doc = "the same, FILE:SCALE: its part counts so many times"           \
    }

/* What the flags ask for. 0, or -1 with err() set. */
int adapter_args_use(const struct adapter_args *a, struct transformer *m);

#endif
