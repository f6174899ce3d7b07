/*
 * The engine in one header: dtypes, tensors, ops on a tape, the ctx they run in, parameters.
 *
 *   forward    an op (ops/ops.h) pushes its outputs on the arena, computes them at once, and, while
 *              the ctx records, pushes a node on the tape
 *   backward   tape_backward() pops the nodes in reverse; a gradient exists from the first op that
 *              contributes to it until its tensor's own node has run
 *   memory     everything of a step lives in the ctx's arena: data at its low end, gradients and
 *              scratch at its high end; ctx_segment() and ctx->brief decide what a block leaves
 *              behind
 *
 *   precision  parameters, their gradients and the residual stream are f32; what an op makes
 *              for the next one (what linears read and write) has dtype ctx->act: f32, or bf16 to
 *              train on bf16 units; the gradient of a tensor has its dtype, a parameter's is f32
 *
 * Letters for shapes, everywhere: B batch, T tokens of a sequence, N tokens in all, C model width,
 * H heads, D head width, F feed-forward width, V vocabulary, L layers. All arrays are row-major.
 */
#ifndef ATTAR_AUTOGRAD_AUTOGRAD_H
#define ATTAR_AUTOGRAD_AUTOGRAD_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "autograd/base/arena.h"
#include "autograd/base/err.h"

/* ---- dtypes: an open interface; only linear and embedding look at it ---- */

struct tensor;

struct dtype {
    const char *name; /* "f32" */
    int gguf_id;      /* the type's number in a GGUF file */
    int block;        /* elements of a block; a row is a whole number of blocks */
    int bytes;        /* bytes of a block */
    /* All functions are NULL for types that hold no reals (i32). Rows are independent: different
       rows of one tensor may be written by different threads.
       x [cols] <- row of t. */
    void (*decode)(const struct tensor *t, int64_t row, float *x);
    /* row of t <- x [cols], any floats: scales are fitted so that the sum over columns of
       importance [cols], >= 0 (NULL: 1), times the squared error is small. What it wrote before and
       decode read is written again without a change. */
    void (*encode)(struct tensor *t, int64_t row, const float *x, const float *importance);
    /* row of t <- the level nearest to each x [cols] on the grid that the row's scales, which stay,
       already span; types without scales: encode. */
    void (*round)(struct tensor *t, int64_t row, const float *x);
    /* What rows of activations are encoded to for `product`; NULL: there is no product. */
    const struct dtype *dot_with;
    /* y[i * ldy + r] <- row (row + r) of t, r < rows, times a row i < n of activations: a [n] rows
       of dot_with, one behind the other. NULL: decode rows and multiply in f32. */
    void (*product)(const struct tensor *t, int64_t row, int64_t rows, const void *a, int64_t n,
                    float *y, int64_t ldy);
};

extern const struct dtype dtype_f32, dtype_f16, dtype_bf16, dtype_i32;

/* By name, or NULL. */
const struct dtype *dtype_find(const char *name);

/* ---- tensors ---- */

enum { TENSOR_DIMS = 4 };

struct tensor {
    const struct dtype *dt;
    int nd;
    int64_t dim[TENSOR_DIMS]; /* dim[nd - 1] is contiguous */
    void *data;               /* not owned: arena, slab, or mapped file */
    void *grad;               /* same shape, of dtype dt, or f32; NULL: none has arrived (yet) */
    bool needs_grad;
    bool grad_f32;               /* grad is f32 whatever dt is: a parameter's */
    bool stale;                  /* grad holds what does not count: a parameter's of last step */
    struct tensor *whole;        /* this one is a part of it (ctx_part()), as its gradient is */
    const struct panels *panels; /* a weight's copy for bf16 products (store_panels()), or NULL */
    const struct dtype *input;   /* what it is multiplied with is rounded to first; NULL: nothing */
    const struct low_rank *plus; /* linears multiply with this as well; NULL: nothing more */
    struct node *maker; /* runs again in backward, for whoever reads data; NULL: it stays */
    bool again;         /* it has */
};

/* A term of a weight [O,I]: scale b a, two thin matrices. Hu et al., "LoRA: Low-Rank Adaptation of
   Large Language Models", 2022, eq. 3. */
struct low_rank {
    struct tensor *a, *b; /* f32 [r,I], [O,r] */
    float scale;
};

/* The tensor as a matrix: the last dimension is a row. */
int64_t tensor_cols(const struct tensor *t);
int64_t tensor_rows(const struct tensor *t);
int64_t tensor_numel(const struct tensor *t);
size_t tensor_bytes(const struct tensor *t);
size_t tensor_row_bytes(const struct tensor *t);
size_t tensor_grad_bytes(const struct tensor *t);
bool tensor_same_shape(const struct tensor *a, const struct tensor *b);

/* ---- the ctx ---- */

struct ctx {
    struct arena arena;
    struct node *tape; /* the last node pushed; NULL: nothing is recorded */
    bool recording;    /* push nodes: gradients are wanted */
    bool measuring;    /* push sizes, compute nothing */
    bool recompute;    /* segments drop what they computed and run again in backward */
    bool brief;        /* what ops make meanwhile is dropped when its segment ends, and made
                          again in backward by running them again: for what is cheap, is a
                          function of data that stays, and is not changed in place */
    bool inside;       /* a segment that keeps what it computes */
    bool in_segment;   /* one that will have a backward, or has it now: no roots */
    const struct segment *undone; /* whose backward runs; NULL: none */
    bool training;                /* dropout is active */
    bool steady;             /* weights in blocks and halves give a row the same bits beside any
                                number of others: some products have a faster way for many */
    const struct dtype *act; /* of activations: dtype_f32 (as made by ctx_init), dtype_bf16 */
    struct profile *profile; /* where time and cost of what runs go; NULL: not measured */
    struct tap *tap;         /* sees what linears multiply; NULL: nobody wants to */
    const volatile sig_atomic_t *stop; /* polled between ops; set: the ctx fails with "stopped" */
    bool failed;
    char text[240]; /* of the first failure */
};

/* An observer of linears, for calibration. Called before each linear op computes (never in a
   measuring ctx): x [N,I] is what all of the n weights [O,I] are multiplied with; a weight may be
   a part of another tensor (w->whole). */
struct tap {
    void (*see)(struct tap *tap, int n, struct tensor *const w[], const struct tensor *x);
};

/* An arena of `bytes`; 0 makes a measuring ctx. 0, or -1 with err() set. */
int ctx_init(struct ctx *ctx, size_t bytes);
void ctx_free(struct ctx *ctx);

/* Drops tape, failure and everything pushed; the peak is kept. */
void ctx_reset(struct ctx *ctx);

/* Records the first failure. Ops that see a failed ctx, or NULL for an input, do nothing and return
   NULL; the caller looks once per step. Always returns NULL. */
void *ctx_fail(struct ctx *ctx, const char *fmt, ...) ERR_PRINTF(2, 3);

/* Memory of the step: at the low end, popped by backward, segments or ctx_reset(). NULL: failed. */
void *ctx_push(struct ctx *ctx, size_t bytes);
struct tensor *ctx_tensor(struct ctx *ctx, const struct dtype *dt, int nd, const int64_t *dim);
struct tensor *ctx_matrix(struct ctx *ctx, const struct dtype *dt, int64_t rows, int64_t cols);
struct tensor *ctx_like(struct ctx *ctx, const struct tensor *t); /* shape and dtype of t */

/* Indices [i, i + n) of t's first dimension, in t's memory, t's panels too where they can be cut,
   and of its `plus`. What gradient it gets is added to t's. NULL: failed. */
struct tensor *ctx_part(struct ctx *ctx, struct tensor *t, int64_t i, int64_t n);

/* Memory of one op: on the high end, popped by ctx_release(ctx, mark). NULL: failed. */
size_t ctx_mark(const struct ctx *ctx);
void *ctx_scratch(struct ctx *ctx, size_t bytes);
void ctx_release(struct ctx *ctx, size_t mark);

/* Scratch for every thread of a team: thread i of an op's parallel region owns
   p + i * bytes rounded up to ARENA_ALIGN. */
char *ctx_thread_scratch(struct ctx *ctx, size_t *bytes);

/* ---- ops on the tape ---- */

enum { NODE_IN = 8, NODE_OUT = 3 };

struct cost; /* cost.h */

struct op {
    const char *name;
    /* Fill out[] from in[]; a measuring ctx only wants the scratch pushed. */
    void (*forward)(struct ctx *ctx, struct node *node);
    /* Add to the gradients of in[] what those of out[] imply; out[i]->grad may be NULL: zero. */
    void (*backward)(struct ctx *ctx, struct node *node);
    /* Adds to *cost what forward or backward takes, by the node's shapes alone. */
    void (*cost)(const struct ctx *ctx, const struct node *node, bool backward, struct cost *cost);
};

struct node {
    const struct op *op;
    struct node *prev;
    struct tensor *in[NODE_IN]; /* NULL: not used */
    struct tensor *out[NODE_OUT];
    void *saved; /* the op's own: attributes, statistics */
};

/* Runs the op on a node that the caller built, and records a copy if the ctx records and an input
   needs a gradient; its outputs then need one as well. Returns node->out[0], NULL if it failed. */
struct tensor *ctx_run(struct ctx *ctx, struct node *node);

/* The gradient of t to add to: allocated at the high end if there is none. *fresh says that the
   memory is new and must be written, not added to. NULL if t (or NULL) needs no gradient. */
void *ctx_grad(struct ctx *ctx, struct tensor *t, bool *fresh);

/* As ctx_grad, but new memory is zeroed: for weights, whose gradients many rows add to. */
void *ctx_grad_sum(struct ctx *ctx, struct tensor *t);

/* As ctx_grad for in, but where in has no gradient yet, and out's dtype, it takes over the buffer
   of out's, which is dead once out's node has run. *taken: the buffer is the same, out's values are
   in it. */
void *ctx_grad_take(struct ctx *ctx, struct tensor *out, struct tensor *in, bool *fresh,
                    bool *taken);

/* Pops the tape down to `until` (NULL: all of it), running backward. The caller has set the
   gradients of the last outputs (loss ops do). */
void tape_backward(struct ctx *ctx, struct node *until);

/* Asked by an op that puts gradients into its inputs at once: false, and the ctx failed, inside a
   segment, where they would be taken back with its memory, or put twice. */
bool ctx_root(struct ctx *ctx, const char *name);

/* ---- segments: the only memory hook ---- */

struct segment; /* tape.c */

/* Would a new gradient of t, at the high end, be released by the segment whose backward runs? */
bool tape_takes_back(const struct ctx *ctx, const struct tensor *t);

/* A block of the model: makes a tensor of x's shape from x. The ctx fails where a gradient would
   not outlive the segment, or would count twice: a loss is made inside, or another tensor of the
   step that needs a gradient reaches it through arg. */
typedef struct tensor *segment_fn(struct ctx *ctx, const void *arg, struct tensor *x);

/* Runs fn. Not recording: frees all that it pushed but its result. Recording: keeps all for
   backward; or, with ctx->recompute, keeps the result alone and runs fn again in backward (Chen,
   Xu, Zhang, Guestrin, "Training Deep Nets with Sublinear Memory Cost", 2016). arg [arg_bytes] is
   copied. */
struct tensor *ctx_segment(struct ctx *ctx, segment_fn *fn, const void *arg, size_t arg_bytes,
                           struct tensor *x);

/* ---- parameters ---- */

/* One link of the chain latent -> used. `state` is the link's own. */
struct reparam {
    const struct reparam_op *op;
    void *state;
    /* Where the link itself keeps what it makes, as rows of a dtype that decode to it to the bit;
       or NULL. Of a link that is alone, and of a parameter that is trained, this is `used`: no f32
       copy exists. */
    const struct tensor *value;
    int64_t cols;         /* of the parameter: param_chain() says it */
    struct reparam *next; /* applied after this one */
};

/* Both work on rows [row, row + n) of the parameter, [n,cols]; threads call them for different
   rows at the same time. */
struct reparam_op {
    const char *name;
    /* y from x, once per optimizer step; x == y is allowed. y NULL: only the link's value is
       wanted. */
    void (*project)(const struct reparam *r, int64_t row, int64_t n, const float *x, float *y);
    /* g, the gradient of y, becomes that of x, what the rows were projected from; the gradients of
       the link's own parameters that belong to these rows are written, or added to. */
    void (*pullback)(const struct reparam *r, int64_t row, int64_t n, const float *x, float *g);
    void (*free)(struct reparam *r);
};

enum { PARAM_NAME = 64 }; /* GGUF names are shorter than 64 bytes */

struct param {
    char name[PARAM_NAME]; /* GGUF's: "blk.0.attn_q.weight" */
    struct tensor used;    /* what forward reads; used.grad is where its gradient arrives */
    float *latent;         /* what the optimizer owns: a view of the store's slab, used's shape */
    float *latent_grad;    /* likewise; the memory of used.grad */
    struct reparam *chain; /* NULL: used is latent */
    bool product;          /* linears multiply with it: it has panels under bf16 */
    struct panels *panels; /* NULL until store_panels() */
    void *own;             /* memory of used's where that is neither latent nor a file's */
    float init_std;        /* normal with this deviation; 0: init_mean everywhere */
    float init_mean;       /* 1, as norm gains are, unless the caller says otherwise */
    bool decay;            /* weight decay applies (matrices) */
};

enum { STORE_STATES = 4 };

struct store {
    struct param *p; /* n parameters in the order of the file */
    int n;
    size_t cap;
    size_t len;           /* floats in a slab; every parameter starts at a multiple of 16 */
    float *latent, *grad; /* slabs [len] */
    bool shapes;          /* of STORE_SHAPES: no parameter has memory */
    uint16_t *packed;     /* panels of all parameters that have them */
    struct {
        const char *name; /* "adam.m": a slab of the optimizer's, saved with the checkpoint */
        float *slab;
    } state[STORE_STATES];
    int n_states;
    float *scratch; /* [n_scratch]: the optimizer's, within a step */
    size_t n_scratch;
    void *file; /* what the parameters of store_map() lie in, or NULL */
    void (*close)(void *file);
    char *copy; /* of store_copy(), or NULL */
};

/* Declares a parameter, before store_alloc(). 0 or -1. */
int store_add(struct store *s, const char *name, int nd, const int64_t *dim, float init_std);

/* What a store is for: reading, training, only its shapes (in a measuring ctx), or reading where
   the parameters lie in a file: no latent, and store_map() for each of them. */
enum store_use { STORE_FROZEN, STORE_TRAINED, STORE_SHAPES, STORE_MAPPED };

/* Makes the slabs that the use wants. 0 or -1. */
int store_alloc(struct store *s, enum store_use use);
void store_free(struct store *s); /* and closes s->file */

/* Of STORE_MAPPED: `used` is from now on what lies at data, rows of dt, in the memory of s->file,
   or in other memory that outlives its use; a matrix of STORE_FROZEN likewise. Vectors, which ops
   read as f32, are decoded into memory of their own if they are not. 0, or -1 with err() set. */
int store_map(struct param *p, const struct dtype *dt, const void *data);

/* Of STORE_FROZEN, some of whose matrices store_map() has since put into other memory: what is left
   in the latents moves to memory of its own, and the latents are freed. 0, or -1 with err() set. */
int store_let_go(struct store *s);

/* Behind store_map() for all parameters: those that lie in the file are copied into memory of the
   store's own, in large pages, and the file is closed. One token more is as much reading as there
   are weights, and a CPU reads large pages faster. 0 (also where nothing lies in a file), or -1
   with err() set and all as it was. */
int store_copy(struct store *s);

struct param *store_find(const struct store *s, const char *name);

/* The slab of that name, zeroed when new; NULL with err() set if memory is short. */
float *store_state(struct store *s, const char *name);

/* Makes s->scratch hold at least n floats. 0, or -1 with err() set. */
int store_scratch(struct store *s, size_t n);

/* Initial values: a pure function of (seed, the parameter's name). */
void store_init(struct store *s, uint64_t seed);

/* From now on every store_project() also packs `used` of the parameters that are multiplied with
   (p->product), of any dtype, rounded to bf16, for ctx->act == dtype_bf16. To be called between
   store_alloc() and the first store_project(), or followed by one. A panel is a private cache of
   used: never saved, exported or compared. 0, or -1 with err() set. */
int store_panels(struct store *s);

/* Bytes of all panels, made or not. */
size_t store_panels_bytes(const struct store *s);

/* Bytes of memory that the store holds by now: slabs, panels, scratch, and what parameters keep for
   themselves. */
size_t store_bytes(const struct store *s);

/* Puts a link at the end of p's chain (the param owns it): gives p a `used` of its own. 0 or -1. */
int param_chain(struct param *p, struct reparam *r);

/* All gradients count as zero. They are not written: the first contribution is (ctx_grad's fresh);
   store_pullback() zeroes those that got none. */
void store_zero_grad(struct store *s);
void store_project(struct store *s); /* latent -> used -> panels; gradients are scratch to it */
/* gradient of used -> gradient of latent; where there is a chain of several links, `used` is
   scratch from here to the next store_project() */
void store_pullback(struct store *s);
int64_t store_numel(const struct store *s);

#endif
