#include "compress/kernels/dots.h"

#include "autograd/base/cpu.h"
#include "compress/codecs/codecs.h"

const struct dots *dots = &dots_scalar;

__attribute__((constructor)) void dots_init(void)
{
    const enum cpu_level level = cpu_level();
    dots = &dots_scalar;
#if defined __x86_64__
    if (level >= CPU_AVX2)
        dots = level >= CPU_AMX           ? &dots_amx
               : level >= CPU_AVX512_VNNI ? &dots_avx512vnni
                                          : &dots_avx2;
#elif defined __aarch64__
    if (level >= CPU_NEON_DOT)
        dots = &dots_neondot;
#else
    (void)level;
#endif
}

static const struct dtype *const formats[DOTS_N] = {
#define CODEC(stem, name, id, block, bytes) &codecs_##stem,
#include "compress/codecs/codecs.def"
#undef CODEC
};

void dots_product(const struct tensor *t, int64_t row, int64_t rows, const void *a, int64_t n,
                  float *y, int64_t ldy)
{
    int f = 0;
    while (formats[f] != t->dt)
        f++;
    const struct dots_job job = {
        .format = (enum dots_format)f,
        .w = (const char *)t->data + (size_t)row * tensor_row_bytes(t),
        .stride = tensor_row_bytes(t),
        .rows = rows,
        .cols = tensor_cols(t),
        .a = a,
        .n = n,
        .y = y,
        .ldy = ldy,
    };
    const struct dots *d = dots;
    while (!d->fn[f])
        d = d->below;
    d->fn[f](&job);
}
