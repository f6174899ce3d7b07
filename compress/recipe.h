/*
 * Which type each tensor of a model gets, by the rules of llama-quantize (recipe.def): a pure
 * function of the tensor's name and shape, of facts about the model, and of options. Quantizing,
 * exporting, training on a grid and `attar check` all ask it.
 */
#ifndef ATTAR_COMPRESS_RECIPE_H
#define ATTAR_COMPRESS_RECIPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "autograd/autograd.h"
#include "autograd/base/buf.h"

/* A file type: "Q4_K_M". */
struct recipe_mix {
    const char *name;
    uint32_t id; /* general.file_type */
    const struct dtype *base;
};

/* What a user may ask for; texts as llama-quantize takes them, types in any case. */
struct recipe_options {
    const char *type;         /* a mix by name or number: "q4_k_m", "15" */
    bool pure;                /* the base type for all matrices */
    bool leave_output;        /* output.weight stays as it is */
    const char *output;       /* type of the head, NULL: the mix' */
    const char *embedding;    /* of token_embd.weight, NULL: the mix' */
    const char *const *rules; /* [n_rules] REGEX=TYPE; of several that match the first counts */
    int n_rules;
};

struct recipe_rule;

struct recipe {
    const struct recipe_mix *mix;
    const struct dtype *output, *embedding; /* NULL: the mix' */
    bool pure, leave_output;
    struct recipe_rule *rule; /* [n_rules] */
    int n_rules;
};

/* Of the model, as its metadata says. */
struct recipe_facts {
    int n_layers, n_heads, n_kv_heads; /* heads of the first layer */
    bool tied;                         /* the head is token_embd.weight */
    bool weighed;                      /* there is an importance matrix */
    bool is_70b;                       /* recipe_is_70b(): these have a rule of their own */
};

struct recipe_tensor {
    const char *name;
    int nd;
    int64_t cols;             /* elements of a row */
    const struct dtype *from; /* what it is now; NULL: a type that cannot be decoded */
};

struct recipe_choice {
    const struct dtype *dt;     /* `from` where it stays as it is */
    const struct dtype *wanted; /* what the rules said; another than dt: rows are no whole blocks */
    bool matrix;                /* the rules are for it: no norm, bias or position */
};

/* Does llama.cpp take a model of general.architecture `arch`, with so many layers and heads (of its
   first layer), for Llama-2 70B or its like? */
bool recipe_is_70b(const char *arch, int n_layers, int n_heads, int n_kv_heads);

/* Parses the options. 0, or -1 with err() set (what is unknown, the nearest name). recipe_free()
   after 0. */
int recipe_init(struct recipe *r, const struct recipe_options *o);
void recipe_free(struct recipe *r);

/* 0, or -1 with err() set: a type that was asked for by name does not fit the rows, a layer that
   the model has not, Q2_K_S without importance. */
int recipe_choose(const struct recipe *r, const struct recipe_facts *facts,
                  const struct recipe_tensor *t, struct recipe_choice *choice);

/* By name in any case, alias or number; NULL with err() set if there is none. */
const struct recipe_mix *recipe_mix_find(const char *name);

/* The i-th mix of the table, NULL behind the last. */
const struct recipe_mix *recipe_mix_at(int i);

/* A type that tensors may get, by name in any case; NULL with err() set. */
const struct dtype *recipe_type(const char *name);

#endif
