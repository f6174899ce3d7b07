/* What all that makes a file of some type may be told about it: `attar quantize`, `attar export`
   and the stage `export`, in llama-quantize's words. */
#ifndef ATTAR_EXPERIMENTS_MIX_ARGS_H
#define ATTAR_EXPERIMENTS_MIX_ARGS_H

#include "autograd/base/field.h"
#include "compress/imatrix.h"
#include "compress/recipe.h"

struct mix_args {
    struct texts tensor_type;                              /* REGEX=TYPE */
    const char *output_tensor_type, *token_embedding_type; /* NULL: the mix' */
    const char *imatrix;                                   /* a file; NULL: none */
    bool pure, leave_output_tensor;
};

/* The rows of a table of struct `tag`, whose member is a struct mix_args. */
#define MIX_ARGS_AT(tag, member, name_) .name = #name_, .offset = offsetof(struct tag, member.name_)
#define MIX_ARGS_FIELDS(tag, member)                                                               \
    {MIX_ARGS_AT(tag, member, tensor_type), .type = FIELD_TEXTS,                                   \
     .doc = "REGEX=TYPE: the type of tensors whose names match; the first that does counts"},      \
        {MIX_ARGS_AT(tag, member, output_tensor_type), .type = FIELD_TEXT,                         \
         .doc = "type of the head (token_embd.weight, if they are one)"},                          \
        {MIX_ARGS_AT(tag, member, token_embedding_type), .type = FIELD_TEXT,                       \
         .doc = "type of token_embd.weight"},                                                      \
        {MIX_ARGS_AT(tag, member, imatrix), .type = FIELD_TEXT,                                    \
         .doc = "importance matrix to weigh errors with, GGUF or .dat"},                           \
        {MIX_ARGS_AT(tag, member, pure), .type = FIELD_BOOL,                                       \
         .doc = "the base type for all matrices, no mix"},                                         \
    {                                                                                              \
        MIX_ARGS_AT(tag, member, leave_output_tensor), .type = FIELD_BOOL,                         \
                                                       .doc = "leave output.weight as it is"       \
    }

/* Parses them for the file type `type`. 0, or -1 with err() set. recipe_free() after 0. The
   recipe refers to the texts. */
int mix_args_recipe(const struct mix_args *a, const char *type, struct recipe *r);

/* Reads the importance matrix, if there is one: *m is then `own`, otherwise NULL. 0, or -1 with
   err() set; after 0 imatrix_free(own). */
int mix_args_imatrix(const struct mix_args *a, struct imatrix *own, const struct imatrix **m);

#endif
