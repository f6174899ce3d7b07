#include "compress/codecs/codecs.h"

#include <assert.h>
#include <strings.h>

#include "compress/codecs/blocks.h"
#include "compress/codecs/grid.h"
#include "compress/kernels/dots.h"

#define CODEC(stem, gguf_name, id, elements, size)                                                 \
    static_assert(sizeof(struct stem) == size, gguf_name);                                         \
    const struct dtype codecs_##stem = {                                                           \
        .name = #stem,                                                                             \
        .gguf_id = id,                                                                             \
        .block = elements,                                                                         \
        .bytes = size,                                                                             \
        .decode = grid_decode,                                                                     \
        .encode = grid_encode,                                                                     \
        .round = grid_round,                                                                       \
        .dot_with = (elements) == 32 ? &act8_32_dtype : &act8_dtype,                               \
        .product = dots_product,                                                                   \
    };
#include "compress/codecs/codecs.def"
#undef CODEC

static const struct {
    const struct dtype *dt;
    const struct grid *grid; // NULL: no blocks
} all[] = {
#define CODEC(stem, name, id, block, bytes) {&codecs_##stem, &stem##_grid},
#include "compress/codecs/codecs.def"
#undef CODEC
    {&dtype_f32, NULL},
    {&dtype_f16, NULL},
    {&dtype_bf16, NULL},
    {&dtype_i32, NULL},
};

enum { ALL = sizeof all / sizeof *all };

const struct dtype *codecs_find(const char *name)
{
    for (int i = 0; i < ALL; i++)
        if (!strcasecmp(all[i].dt->name, name))
            return all[i].dt;
    return NULL;
}

const struct dtype *codecs_by_id(uint32_t gguf_id)
{
    for (int i = 0; i < ALL; i++)
        if ((uint32_t)all[i].dt->gguf_id == gguf_id)
            return all[i].dt;
    return NULL;
}

const struct dtype *codecs_at(int i)
{
    return i >= 0 && i < ALL && all[i].grid ? all[i].dt : NULL;
}

const struct grid *codecs_grid(const struct dtype *dt)
{
    for (int i = 0; i < ALL; i++)
        if (all[i].dt == dt)
            return all[i].grid;
    return NULL;
}
