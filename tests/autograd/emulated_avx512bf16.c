/* The bf16 products of AMX on a CPU without. */
#if defined __x86_64__
#include "autograd/kernels/rows.h"
#include "tests/autograd/emulated_tiles.h"

static float half(int t, int row, int i)
{
    uint16_t h;
    float x;
    memcpy(&h, &tiles_state.data[t][row][2 * i], sizeof h);
    rows_scalar.widen(1, &h, &x);
    return x;
}

static void dot(int c, int a, int b)
{
    for (int m = 0; m < tiles_state.rows[c]; m++)
        for (int k = 0; k < tiles_state.bytes[a] / 4; k++)
            for (int n = 0; n < tiles_state.bytes[c] / 4; n++) {
                float sum;
                memcpy(&sum, &tiles_state.data[c][m][4 * n], sizeof sum);
                sum += half(a, m, 2 * k) * half(b, k, 2 * n);
                sum += half(a, m, 2 * k + 1) * half(b, k, 2 * n + 1);
                memcpy(&tiles_state.data[c][m][4 * n], &sum, sizeof sum);
            }
}

#undef _tile_dpbf16ps
#define _tile_dpbf16ps(c, a, b) dot(c, a, b)
#define gemm_bf16_amx           gemm_bf16_amx_emulated
#include "autograd/kernels/gemm_bf16_amx.c"
#endif
