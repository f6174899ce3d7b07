/* The list of formats, and what each decodes its blocks to: what the gguf package does, bit for bit
   (tests/oracle/make_codec_golden.py), by every variant of the kernels. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/cpu.h"
#include "compress/codecs/codecs.h"
#include "compress/codecs/fit.h"
#include "compress/codecs/grid.h"
#include "compress/gguf.h"
#include "tests/golden.h"

static void the_list(void **state)
{
    (void)state;
    int n = 0;
    for (const struct dtype *dt; (dt = codecs_at(n)); n++) {
        const struct gguf_type *type = gguf_type((uint32_t)dt->gguf_id);
        assert_non_null(type);
        assert_int_equal(strcasecmp(type->name, dt->name), 0);
        assert_int_equal(type->block, dt->block);
        assert_int_equal(type->bytes, dt->bytes);
        assert_ptr_equal(codecs_find(dt->name), dt);
        assert_ptr_equal(codecs_find(type->name), dt);
        assert_ptr_equal(codecs_by_id((uint32_t)dt->gguf_id), dt);
        assert_non_null(codecs_grid(dt));
        assert_int_equal(codecs_grid(dt)->subs * codecs_grid(dt)->size, dt->block);
    }
    assert_int_equal(n, 15);
    assert_null(codecs_at(-1));
    assert_ptr_equal(codecs_find("q4_K"), &codecs_q4_k);
    assert_ptr_equal(codecs_find("F16"), &dtype_f16);
    assert_ptr_equal(codecs_by_id(30), &dtype_bf16);
    assert_null(codecs_find("q4"));
    assert_null(codecs_by_id(4));
    assert_null(codecs_by_id(9));
    assert_null(codecs_grid(&dtype_f16));
}

static uint32_t canonical(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return isnan(x) ? 0x7fc00000 : u;
}

static void decodes_as_gguf(void **state)
{
    (void)state;
    struct golden *g = golden_open("codecs");
    for (int level = CPU_SCALAR; level <= (int)cpu_hardware(); level++) {
        cpu_set_level((enum cpu_level)level);
        fit_init();
        for (int i = 0; codecs_at(i); i++) {
            const struct dtype *dt = codecs_at(i);
            char path[64];
            snprintf(path, sizeof path, "%s/blocks", gguf_type((uint32_t)dt->gguf_id)->name);
            const struct golden_array *bytes = golden_read(g, path);
            snprintf(path, sizeof path, "%s/values", gguf_type((uint32_t)dt->gguf_id)->name);
            const struct golden_array *values = golden_read(g, path);
            const int64_t n = bytes->dim[0];
            uint8_t *blocks = malloc((size_t)bytes->n);
            float *x = malloc((size_t)values->n * sizeof *x);
            for (int64_t k = 0; k < bytes->n; k++)
                blocks[k] = (uint8_t)bytes->i[k];
            // all blocks as one row, then as rows of one
            struct tensor t = {.dt = dt, .nd = 2, .dim = {1, n * dt->block}, .data = blocks};
            dt->decode(&t, 0, x);
            for (int64_t k = 0; k < values->n; k++)
                if (canonical(x[k]) != (uint32_t)values->i[k])
                    fail_msg("%s, block %d, element %d: %a", dt->name, (int)(k / dt->block),
                             (int)(k % dt->block), x[k]);
            t.dim[0] = n;
            t.dim[1] = dt->block;
            dt->decode(&t, n - 1, x);
            for (int64_t k = 0, last = (n - 1) * dt->block; k < dt->block; k++)
                assert_int_equal(canonical(x[k]), (uint32_t)values->i[last + k]);
            free(blocks);
            free(x);
        }
    }
    golden_close(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_list),
        cmocka_unit_test(decodes_as_gguf),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
