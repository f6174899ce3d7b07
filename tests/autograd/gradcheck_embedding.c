#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/gradcheck.h"

struct tokens {
    int n;
    int32_t tok[12];
};

static bool build(struct ctx *ctx, const void *arg, struct tensor *const in[], struct tensor *out[],
                  struct loss *loss)
{
    const struct tokens *t = arg;
    (void)loss;
    return (out[0] = op_embedding(ctx, in[0], t->tok, t->n)) != NULL;
}

/* Rows are copies; of f16 and bf16 they are the rounded values. */
static void rows_are_copies(const struct dtype *dt)
{
    enum { V = 5, C = 19, N = 7 };
    static const int32_t tok[N] = {4, 0, 0, 3, 4, 2, 1};
    uint32_t bits[V * C];
    struct tensor w = {.dt = dt, .nd = 2, .dim = {V, C}, .data = bits};
    float *x = gradcheck_normal(1, 1, V * C), row[C];
    struct ctx ctx;
    assert_int_equal(ctx_init(&ctx, 1 << 20), 0);
    for (int v = 0; v < V; v++)
        dt->encode(&w, v, x + v * C, NULL);
    const struct tensor *y = op_embedding(&ctx, &w, tok, N);
    assert_non_null(y);
    for (int i = 0; i < N; i++) {
        dt->decode(&w, tok[i], row);
        assert_memory_equal((const float *)y->data + i * C, row, sizeof row);
    }
    ctx_free(&ctx);
    free(x);
}

void gradcheck_embedding(void **state)
{
    (void)state;
    const struct tokens few = {9, {1, 3, 3, 0, 1, 3, 2, 6, 6}}, one = {1, {2}};
    const struct tokens high = {2, {1, 7}}, low = {2, {-1, 3}};
    gradcheck_run(&(struct gradcheck){
        .name = "embedding", .in = {{7, 5, .param = true}}, .build = build, .arg = &few});
    gradcheck_run(&(struct gradcheck){
        .name = "embedding, wide", .in = {{7, 130, .param = true}}, .build = build, .arg = &few});
    gradcheck_run(&(struct gradcheck){
        .name = "embedding, one token", .in = {{7, 5}}, .build = build, .arg = &one});
    gradcheck_refuses(
        &(struct gradcheck){.name = "embedding", .in = {{7, 5}}, .build = build, .arg = &high},
        "token 7");
    gradcheck_refuses(
        &(struct gradcheck){.name = "embedding", .in = {{7, 5}}, .build = build, .arg = &low},
        "token -1");
    gradcheck_refuses(
        &(struct gradcheck){.name = "embedding", .in = {{0, 5}}, .build = build, .arg = &one},
        "[V,C]");
    rows_are_copies(&dtype_f32);
    rows_are_copies(&dtype_f16);
    rows_are_copies(&dtype_bf16);
}
