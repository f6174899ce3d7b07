/* The AMX products on a CPU without AMX: its instructions are done by what stands here, from
   Intel's description of them. */
#if defined __x86_64__
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "autograd/kernels/rows.h"

static _Thread_local struct {
    uint8_t rows[8];
    uint16_t bytes[8];
    uint8_t data[8][16][64];
} amx;

static void load_config(const void *from)
{
    const uint8_t *c = from;
    memset(&amx, 0, sizeof amx);
    for (int t = 0; t < 8 && c[0] == 1; t++) {
        memcpy(&amx.bytes[t], c + 16 + 2 * t, 2);
        amx.rows[t] = c[48 + t];
    }
}

static void move(int t, void *memory, int64_t stride, int store)
{
    for (int r = 0; r < amx.rows[t]; r++) {
        uint8_t *m = (uint8_t *)memory + r * stride;
        memcpy(store ? m : amx.data[t][r], store ? amx.data[t][r] : m, amx.bytes[t]);
    }
}

static float half(int t, int row, int i)
{
    uint16_t h;
    float x;
    memcpy(&h, &amx.data[t][row][2 * i], sizeof h);
    rows_scalar.widen(1, &h, &x);
    return x;
}

static void dot(int c, int a, int b)
{
    for (int m = 0; m < amx.rows[c]; m++)
        for (int k = 0; k < amx.bytes[a] / 4; k++)
            for (int n = 0; n < amx.bytes[c] / 4; n++) {
                float sum;
                memcpy(&sum, &amx.data[c][m][4 * n], sizeof sum);
                sum += half(a, m, 2 * k) * half(b, k, 2 * n);
                sum += half(a, m, 2 * k + 1) * half(b, k, 2 * n + 1);
                memcpy(&amx.data[c][m][4 * n], &sum, sizeof sum);
            }
}

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_loadconfig(config)     load_config(config)
#define _tile_release()              memset(&amx, 0, sizeof amx)
#define _tile_zero(t)                memset(amx.data[t], 0, sizeof amx.data[t])
#define _tile_loadd(t, from, stride) move(t, (void *)(uintptr_t)(from), stride, 0)
#define _tile_stored(t, to, stride)  move(t, to, stride, 1)
#define _tile_dpbf16ps(c, a, b)      dot(c, a, b)
#define gemm_bf16_amx                gemm_bf16_amx_emulated
#include "autograd/kernels/gemm_bf16_amx.c"
#endif
