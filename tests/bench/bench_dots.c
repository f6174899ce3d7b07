/* Speed of products with weights in blocks and halves, on one thread: GB/s of weights for one
   activation, out of memory and out of cache, and 10^9 multiplications/s for n of them.
   bench_dots [FORMAT] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/clock.h"
#include "autograd/base/mem.h"
#include "autograd/base/rng.h"
#include "compress/codecs/codecs.h"
#include "compress/kernels/dots.h"

enum { COLS = 2048, ROUNDS = 5, MOST = 512, FEW = 128 };

static double rate(const struct tensor *t, int64_t rows, const void *a, int64_t n, float *y,
                   int times)
{
    double best = 1e9;
    for (int r = 0; r < ROUNDS; r++) {
        const double start = clock_seconds();
        for (int i = 0; i < times; i++)
            t->dt->product(t, 0, rows, a, n, y, rows);
        const double s = (clock_seconds() - start) / times;
        best = s < best ? s : best;
    }
    return 1e-9 * (double)rows / best; // 10^9 rows/s
}

static void measure(const struct dtype *dt, const float *x)
{
    struct tensor t = {.dt = dt, .nd = 2, .dim = {1, COLS}};
    const size_t stride = tensor_row_bytes(&t);
    t.dim[0] = (int64_t)((200u << 20) / stride) / 32 * 32;
    uint8_t *w = mem_slab((size_t)t.dim[0], stride);
    for (size_t i = 0; i < (size_t)t.dim[0] * stride; i++)
        w[i] = (uint8_t)(i * 2654435761u >> 13);
    t.data = w;
    struct tensor a = {.dt = dt->dot_with, .nd = 2, .dim = {MOST, COLS}};
    a.data = aligned_alloc(64, tensor_bytes(&a));
    for (int64_t i = 0; i < MOST; i++)
        dt->dot_with->encode(&a, i, x + i * COLS, NULL);
    float *y = mem_slab((size_t)t.dim[0] * MOST, sizeof *y);
    printf("%-8s %6.2f GB/s", dt->name, (double)stride * rate(&t, t.dim[0], a.data, 1, y, 1));
    printf(", cached %6.2f |", (double)stride * rate(&t, FEW, a.data, 1, y, 100));
    for (int n = 1; n <= MOST; n = n < 4 ? n + 1 : n < 12 ? n * 2 : n < 32 ? n + 8 : n * 4)
        printf(" %d:%5.1f", n, COLS * n * rate(&t, FEW, a.data, n, y, n < 16 ? 30 : 3));
    printf("\n");
    free(w);
    free(y);
    free(a.data);
}

int main(int argc, char **argv)
{
    float *x = malloc(sizeof *x * MOST * COLS);
    rng_normal(1, 1, x, MOST * COLS);
    const struct dtype *dt;
    for (int i = 0; (dt = codecs_at(i)); i++)
        if (argc < 2 || !strcmp(argv[1], dt->name))
            measure(dt, x);
    if (argc < 2 || !strcmp(argv[1], "f16"))
        measure(&dtype_f16, x);
    if (argc < 2 || !strcmp(argv[1], "bf16"))
        measure(&dtype_bf16, x);
    free(x);
    return 0;
}
