/* AMX's tiles on a CPU without: what its instructions do, from Intel's description of them.
   Included before a file that uses them; the products are defined by who includes it. */
#ifndef ATTAR_TESTS_AUTOGRAD_EMULATED_TILES_H
#define ATTAR_TESTS_AUTOGRAD_EMULATED_TILES_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

static _Thread_local struct {
    uint8_t rows[8];
    uint16_t bytes[8];
    uint8_t data[8][16][64];
} tiles_state;

static void tiles_config(const void *from)
{
    const uint8_t *c = from;
    memset(&tiles_state, 0, sizeof tiles_state);
    for (int t = 0; t < 8 && c[0] == 1; t++) {
        memcpy(&tiles_state.bytes[t], c + 16 + 2 * t, 2);
        tiles_state.rows[t] = c[48 + t];
    }
}

static void tiles_move(int t, void *memory, int64_t stride, int store)
{
    for (int r = 0; r < tiles_state.rows[t]; r++) {
        uint8_t *m = (uint8_t *)memory + r * stride;
        memcpy(store ? m : tiles_state.data[t][r], store ? tiles_state.data[t][r] : m,
               tiles_state.bytes[t]);
    }
}

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#define _tile_loadconfig(config)     tiles_config(config)
#define _tile_release()              memset(&tiles_state, 0, sizeof tiles_state)
#define _tile_zero(t)                memset(tiles_state.data[t], 0, sizeof tiles_state.data[t])
#define _tile_loadd(t, from, stride) tiles_move(t, (void *)(uintptr_t)(from), stride, 0)
#define _tile_stored(t, to, stride)  tiles_move(t, to, stride, 1)

#endif
