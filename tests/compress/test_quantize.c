#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "autograd/base/rng.h"
#include "compress/codecs/codecs.h"
#include "compress/quantize.h"
#include "tests/datasets/scratch.h"

enum { ROWS = 70, COLS = 512 };

static float values[ROWS * COLS];

static void fill(void)
{
    rng_normal(7, 0.02f, values, ROWS * COLS);
}

static struct quantize_source source(const struct dtype *dt, void *data, int64_t rows)
{
    struct quantize_source s = {.name = "blk.0.ffn_up.weight"};
    s.t = (struct tensor){.dt = dt, .nd = 2, .dim = {rows, COLS}, .data = data};
    s.bytes = tensor_bytes(&s.t);
    return s;
}

static int write_one(const char *path, const struct quantize_source *s, const struct dtype *to)
{
    struct gguf_write w = {0};
    gguf_write_tensor(&w, s->name, gguf_type((uint32_t)to->gguf_id), 2,
                      (uint64_t[]){COLS, (uint64_t)s->t.dim[0]});
    if (!gguf_write_open(&w, path) && !quantize_tensor(&w, s, to, NULL))
        return gguf_write_commit(&w);
    gguf_write_abandon(&w);
    return -1;
}

/* What is in the file is what encoding row by row gives, for any number of threads, and rounding
   there and back gives what decoding it gives. */
static void tensors_are_encoded_row_by_row(void **state)
{
    static const char *const types[] = {"f32", "f16", "bf16", "q8_0", "q4_k", "q2_k"};
    const char *path = scratch_path(*state, "one.gguf");
    fill();
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        const struct dtype *to = codecs_find(types[i]);
        if (!to->encode)
            continue;
        struct tensor want = {.dt = to, .nd = 2, .dim = {ROWS, COLS}};
        const struct quantize_source s = source(&dtype_f32, values, ROWS);
        want.data = calloc(1, tensor_bytes(&want));
        for (int64_t r = 0; r < ROWS; r++)
            to->encode(&want, r, values + r * COLS, NULL);
        for (int threads = 1; threads < 4; threads++) {
            struct gguf g;
            omp_set_num_threads(threads);
            if (write_one(path, &s, to) || gguf_open(&g, path))
                fail_msg("%s", err_text());
            assert_int_equal(g.tensor->bytes, tensor_bytes(&want));
            assert_memory_equal(g.base + g.data, want.data, g.tensor->bytes);
            gguf_close(&g);
        }
        float *again = malloc(sizeof values), row[COLS];
        memcpy(again, values, sizeof values);
        assert_int_equal(quantize_round_trip("x", again, ROWS, COLS, to, NULL), 0);
        for (int64_t r = 0; r < ROWS; r++) {
            to->decode(&want, r, row);
            assert_memory_equal(again + r * COLS, row, sizeof row);
        }
        free(again);
        free(want.data);
    }
}

static void assert_refused(void *state, const struct quantize_source *s, const struct dtype *to,
                           const char *part)
{
    assert_int_equal(write_one(scratch_path(state, "bad.gguf"), s, to), -1);
    if (!strstr(err_text(), part))
        fail_msg("'%s' is not in '%s'", part, err_text());
    assert_int_equal(scratch_count(state), 0);
}

static void what_is_not_finite_is_refused(void **state)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    static uint16_t halves[ROWS * COLS];
    fill();
    const struct quantize_source s = source(&dtype_f32, values, ROWS);
    for (int i = 0; i < 3; i++) {
        values[61 * COLS + 3] = values[40 * COLS + 511] = bad[i];
        assert_refused(*state, &s, &dtype_f16, "row 40 holds a NaN or an infinity");
        assert_refused(*state, &s, &dtype_f32, "row 40 holds"); // also where nothing changes
        fill();
    }
    values[5 * COLS] = 1e6f;
    assert_refused(*state, &s, &dtype_f16, "row 5 is too large for f16");
    halves[7 * COLS + 1] = 0x7c00;
    const struct quantize_source half = source(&dtype_f16, halves, ROWS);
    assert_refused(*state, &half, &dtype_f32, "row 7 holds");
}

static void a_stop_and_a_full_disk_leave_nothing(void **state)
{
    const char *path = scratch_path(*state, "stopped.gguf");
    volatile sig_atomic_t stop = 1;
    struct rlimit old;
    struct gguf_write w = {0};
    fill();
    const struct quantize_source s = source(&dtype_f32, values, ROWS);
    gguf_write_tensor(&w, s.name, gguf_type(1), 2, (uint64_t[]){COLS, ROWS});
    assert_int_equal(gguf_write_open(&w, path), 0);
    assert_int_equal(quantize_tensor(&w, &s, &dtype_f16, &stop), -1);
    assert_string_equal(err_text(), "stopped");
    gguf_write_abandon(&w);
    assert_int_equal(scratch_count(*state), 0);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    gguf_write_tensor(&w, s.name, gguf_type(1), 2, (uint64_t[]){COLS, ROWS});
    assert_int_equal(gguf_write_open(&w, path), 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &(struct rlimit){50000, old.rlim_max}), 0);
    assert_int_equal(quantize_tensor(&w, &s, &dtype_f16, NULL), -1);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    gguf_write_abandon(&w);
    assert_int_equal(scratch_count(*state), 0);
}

/* ---- whole files ---- */

/* A model of two layers, its matrices of type `dt` and of `cols` columns. */
static void write_model(const char *path, const char *arch, uint32_t dt, uint64_t cols,
                        uint32_t layers)
{
    static const char *const names[] = {"token_embd.weight", "blk.0.attn_v.weight",
                                        "blk.0.attn_norm.weight", "blk.1.ffn_down.weight",
                                        "output.weight"};
    static const uint16_t zeros[4096];
    struct gguf_write w = {0};
    char key[64];
    gguf_write_text(&w, "general.architecture", arch);
    snprintf(key, sizeof key, "%s.block_count", arch);
    gguf_write_u32(&w, key, layers);
    snprintf(key, sizeof key, "%s.attention.head_count", arch);
    gguf_write_list(&w, key, GGUF_I32, layers, (int32_t[]){8, 8, 8});
    snprintf(key, sizeof key, "%s.attention.head_count_kv", arch);
    gguf_write_u32(&w, key, 2);
    gguf_write_u32(&w, "general.file_type", 1);
    gguf_write_text(&w, "quantize.imatrix.file", "old.dat");
    for (size_t i = 0; i < 5; i++) {
        const bool norm = strstr(names[i], "norm");
        gguf_write_tensor(&w, names[i], gguf_type(norm ? 0 : dt), norm ? 1 : 2,
                          (uint64_t[]){cols, 2});
    }
    int rc = gguf_write_open(&w, path);
    for (size_t i = 0; i < 5 && !rc; i++)
        rc = gguf_write_data(&w, zeros,
                             strstr(names[i], "norm") ? 4 * cols
                                                      : 2 * cols / (uint64_t)gguf_type(dt)->block *
                                                            (uint64_t)gguf_type(dt)->bytes);
    if (rc || gguf_write_commit(&w))
        fail_msg("%s", err_text());
}

static int plan_of(const char *path, const char *arch, const char *type, bool again, struct gguf *g,
                   struct recipe *r, struct quantize_plan *p)
{
    if (gguf_open(g, path) || recipe_init(r, &(struct recipe_options){.type = type}))
        fail_msg("%s", err_text());
    return quantize_plan(p, g, arch, r, false, again);
}

static void plans_know_the_model(void **state)
{
    const char *path = scratch_path(*state, "m.gguf");
    struct gguf g;
    struct recipe r;
    struct quantize_plan p;
    write_model(path, "llama", 1, 256, 2);
    if (plan_of(path, "llama", "Q2_K", false, &g, &r, &p))
        fail_msg("%s", err_text());
    static const char *const want[] = {"q2_k", "q4_k", "f32", "q3_k", "q6_k"}; // 8 heads share 2
    uint64_t bytes = 0;
    for (size_t i = 0; i < 5; i++) {
        const struct dtype *dt = p.choice[i].dt;
        assert_string_equal(dt->name, want[i]);
        bytes += g.tensor[i].numel / (uint64_t)dt->block * (uint64_t)dt->bytes;
    }
    assert_int_equal(p.new_bytes, bytes);
    assert_int_equal(p.old_bytes, 4 * 1024 + 1024);
    assert_int_equal(p.elements, 4 * 512 + 256);
    assert_int_equal(p.matrices, 4);
    assert_int_equal(p.fallbacks, 0);
    struct gguf_write w = {0};
    struct imatrix m = {.chunks = 3};
    quantize_declare(&p, &w, &m, "new.gguf");
    assert_int_equal(gguf_write_open(&w, scratch_path(*state, "new.gguf")), 0);
    gguf_write_abandon(&w); // keys that are replaced were not there twice
    quantize_plan_free(&p);
    recipe_free(&r);
    gguf_close(&g);
}

static void models_that_cannot_be_quantized_are_refused(void **state)
{
    static const struct {
        const char *arch;
        uint32_t type;
        uint32_t layers;
        const char *part;
    } bad[] = {
        {"llama", 12, 2, "--allow-requantize"},
        {"llama", 27, 2, "I64 cannot be decoded"},
        {"llama", 16, 2, "IQ2_XXS cannot be decoded"},
        {"llama", 1, 1, "the model has 1 layers"},
    };
    const char *path = scratch_path(*state, "m.gguf");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct gguf g;
        struct recipe r;
        struct quantize_plan p;
        write_model(path, bad[i].arch, bad[i].type, 256, bad[i].layers);
        assert_int_equal(plan_of(path, bad[i].arch, "F16", false, &g, &r, &p), -1);
        if (!strstr(err_text(), bad[i].part))
            fail_msg("'%s' is not in '%s'", bad[i].part, err_text());
        recipe_free(&r);
        gguf_close(&g);
    }
    struct gguf g;
    struct recipe r;
    struct quantize_plan p;
    write_model(path, "llama", 1, 256, 2);
    assert_int_equal(gguf_open(&g, path), 0);
    assert_int_equal(recipe_init(&r, &(struct recipe_options){.type = "F16"}), 0);
    static const struct {
        const char *key;
        uint32_t value;
        const char *part;
    } wrong[] = {{"llama.block_count", 0, "llama.block_count' is 0"},
                 {"llama.block_count", UINT32_MAX, "llama.block_count' is 4294967295"},
                 {"llama.block_count", 3, "a list of 2"}, // heads of two layers
                 {"llama.attention.head_count_kv", UINT32_MAX, "head_count_kv' is 4294967295"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        unsigned char value[4];
        struct gguf_pair *pair = (struct gguf_pair *)gguf_find(&g, wrong[i].key);
        const unsigned char *before = pair->data;
        memcpy(value, &wrong[i].value, 4);
        pair->data = value;
        assert_int_equal(quantize_plan(&p, &g, "llama", &r, false, false), -1);
        if (!strstr(err_text(), wrong[i].part))
            fail_msg("'%s' is not in '%s'", wrong[i].part, err_text());
        pair->data = before;
    }
    recipe_free(&r);
    gguf_close(&g);
    write_model(path, "gpt2", 12, 256, 2);
    assert_int_equal(plan_of(path, "gpt2", "F16", true, &g, &r, &p), 0);
    quantize_plan_free(&p);
    recipe_free(&r);
    gguf_close(&g);
}

/* Half a model is none, unless its metadata says that a layer has nothing. */
static void layers_that_are_lost_are_named(void **state)
{
    const char *path = scratch_path(*state, "m.gguf");
    struct gguf g;
    struct recipe r;
    struct quantize_plan p;
    write_model(path, "llama", 1, 256, 3);
    assert_int_equal(plan_of(path, "llama", "F16", false, &g, &r, &p), -1);
    assert_non_null(strstr(err_text(), "layer 2 of 3 has no tensors"));
    struct gguf_pair *heads = (struct gguf_pair *)gguf_find(&g, "llama.attention.head_count");
    heads->data = (const unsigned char *)(const int32_t[]){8, 8, 0};
    assert_int_equal(quantize_plan(&p, &g, "llama", &r, false, false), -1);
    struct gguf_pair *kv =
        (struct gguf_pair *)gguf_find(&g, "general.file_type"); // becomes another
    kv->key = (struct gguf_string){"llama.feed_forward_length", 25};
    kv->data = (const unsigned char *)(const uint32_t[]){0};
    assert_int_equal(quantize_plan(&p, &g, "llama", &r, false, false), 0);
    quantize_plan_free(&p);
    recipe_free(&r);
    gguf_close(&g);
}

static void importance_fits_or_is_refused(void **state)
{
    (void)state;
    struct imatrix m = {0};
    float *mean;
    bool missing;
    struct imatrix_entry *e = imatrix_add(&m, "a", 2);
    assert_non_null(e);
    e->sum[0] = 3;
    *e->count = 2;
    assert_int_equal(imatrix_finish(&m), 0);
    assert_int_equal(quantize_importance(&m, "a", 2, &mean, &missing), 0);
    assert_false(missing);
    assert_true(mean[0] == 1.5f && mean[1] == 0);
    free(mean);
    assert_int_equal(quantize_importance(&m, "b", 2, &mean, &missing), 0);
    assert_true(missing);
    assert_null(mean);
    assert_int_equal(quantize_importance(NULL, "a", 2, &mean, &missing), 0);
    assert_false(missing);
    assert_int_equal(quantize_importance(&m, "a", 3, &mean, &missing), -1);
    imatrix_free(&m);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(tensors_are_encoded_row_by_row),
        TEST(what_is_not_finite_is_refused),
        TEST(a_stop_and_a_full_disk_leave_nothing),
        TEST(plans_know_the_model),
        TEST(models_that_cannot_be_quantized_are_refused),
        TEST(layers_that_are_lost_are_named),
        TEST(importance_fits_or_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
