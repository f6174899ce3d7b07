/* The products of blocks on AMX, on a CPU without. */
#if defined __x86_64__
#include "tests/autograd/emulated_tiles.h"

static void dot(int c, int a, int b)
{
    for (int m = 0; m < tiles_state.rows[c]; m++)
        for (int k = 0; k < tiles_state.bytes[a]; k++)
            for (int n = 0; n < tiles_state.bytes[c] / 4; n++) {
                const int8_t x = (int8_t)tiles_state.data[a][m][k];
                const int8_t y = (int8_t)tiles_state.data[b][k / 4][4 * n + k % 4];
                int32_t sum;
                memcpy(&sum, &tiles_state.data[c][m][4 * n], sizeof sum);
                sum += x * y;
                memcpy(&tiles_state.data[c][m][4 * n], &sum, sizeof sum);
            }
}

#undef _tile_dpbssd
#define _tile_dpbssd(c, a, b) dot(c, a, b)
#define dots_amx              dots_amx_emulated
#include "compress/kernels/dots_amx.c"
#endif
