#include "experiments/mix_args.h"

int mix_args_recipe(const struct mix_args *a, const char *type, struct recipe *r)
{
    const struct recipe_options o = {.type = type,
                                     .pure = a->pure,
                                     .leave_output = a->leave_output_tensor,
                                     .output = a->output_tensor_type,
                                     .embedding = a->token_embedding_type,
                                     .rules = a->tensor_type.value,
                                     .n_rules = a->tensor_type.n};
    return recipe_init(r, &o);
}

int mix_args_imatrix(const struct mix_args *a, struct imatrix *own, const struct imatrix **m)
{
    *own = (struct imatrix){0};
    *m = NULL;
    if (!a->imatrix)
        return 0;
    if (imatrix_read(own, a->imatrix))
        return -1;
    *m = own;
    return 0;
}
