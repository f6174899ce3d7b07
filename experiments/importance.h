/* Mean squared inputs of a model's linears, collected while it reads text: a tap. */
#ifndef ATTAR_EXPERIMENTS_IMPORTANCE_H
#define ATTAR_EXPERIMENTS_IMPORTANCE_H

#include "compress/imatrix.h"
#include "layers/transformer.h"

struct importance {
    struct tap tap; /* for ctx->tap; the struct stays where it is */
    const struct transformer *m;
    bool head;       /* of the head's input too */
    double **sum;    /* [store.n] of [cols], NULL: not looked at */
    int64_t *rows;   /* [store.n] of input that were added up */
    double *squares; /* [cols] of one op */
    bool failed;     /* the activations were not f32 */
};

/* 0, or -1 with err() set. importance_close() after 0. */
int importance_open(struct importance *i, const struct transformer *m, bool head);
void importance_close(struct importance *i);

/* Adds what was collected to the entries of out. 0, or -1 with err() set. */
int importance_add(const struct importance *i, struct imatrix *out);

#endif
