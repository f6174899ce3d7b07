#include "autograd/ops/lane.h"

#include <string.h>

struct lane lane_of(const struct node *node, int seq, int64_t head)
{
    const struct attention *a = node->saved;
    const int64_t start = a->seqs[seq].start, ldq = a->H * a->D, ldkv = a->Hkv * a->D;
    const int64_t q = start * ldq + head * a->D, kv = start * ldkv + head / (a->H / a->Hkv) * a->D;
    return (struct lane){
        .len = a->seqs[seq].len,
        .D = a->D,
        .wide = panel_depth(a->D),
        .ldq = ldq,
        .ldkv = ldkv,
        .H = a->H,
        .q = (const uint16_t *)node->in[0]->data + q,
        .k = (const uint16_t *)node->in[1]->data + kv,
        .v = (const uint16_t *)node->in[2]->data + kv,
        .y = (uint16_t *)node->out[0]->data + q,
        .lse = a->lse + start * a->H + head,
        .scale = a->scale,
    };
}

int64_t lane_block(const struct attention *a)
{
    int64_t longest = 0;
    for (int i = 0; i < a->n_seqs; i++)
        longest = a->seqs[i].len > longest ? a->seqs[i].len : longest;
    return panel_depth(longest < ATTENTION_BLOCK ? longest : ATTENTION_BLOCK);
}

void *lane_cut(struct lane_cut *c, int64_t n, size_t size)
{
    char *p = c->base ? c->base + c->at : NULL;
    c->at += ((size_t)n * size + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    return p;
}

void lane_gather(const struct lane *a, const uint16_t *x, int64_t ld, int64_t n, uint16_t *to)
{
    for (int64_t i = 0; i < n; i++) {
        memcpy(to + i * a->wide, x + i * ld, (size_t)a->D * sizeof *to);
        memset(to + i * a->wide + a->D, 0, (size_t)(a->wide - a->D) * sizeof *to);
    }
}

void lane_pack_columns(const struct lane *a, const uint16_t *x, int64_t ld, int64_t n, uint16_t *to)
{
    gemm_bf16->pack(true, x, true, ld, a->D, n, 0, panel_count(n), to);
}

void lane_pack_rows(const struct lane *a, const uint16_t *x, int64_t ld, int64_t n, uint16_t *to)
{
    gemm_bf16->pack(false, x, true, ld, n, a->D, 0, panel_count(a->D), to);
}

void lane_product(int64_t M, int64_t N, const struct gemm_term *term, bool add, float *c,
                  int64_t ldc)
{
    const struct gemm_out out = {.c = c, .ldc = ldc, .add = add ? c : NULL};
    gemm_bf16->tile(M, 0, N, 1, term, &out);
}
