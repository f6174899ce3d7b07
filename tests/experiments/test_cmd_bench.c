#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "autograd/base/err.h"
#include "experiments/cmd.h"
#include "experiments/rehearsal.h"
#include "tests/datasets/scratch.h"
#include "tests/experiments/capture.h"

/* Every op that has a gradient. */
static const char *const ops[] = {
#define OP(name) #name,
#include "autograd/ops/ops.def"
#undef OP
};

/* A model that trains in no time. */
#define SMALL                                                                                      \
    "--d", "32", "--layers", "2", "--heads", "4", "--kv-heads", "2", "--ff", "48", "--vocab",      \
        "61", "--seq", "20", "--batch", "4"

/* Parameters of a block of that shape as GPT-2: two norms, q with k and v, output, up, down. */
enum { GPT2_BLOCK = 2 * 64 + 64 * 33 + 32 * 33 + 48 * 33 + 32 * 49 };

static struct buf out, notes;

#define BENCH(...)                                                                                 \
    capture_run(cmd_bench, (const char *[]){"bench", __VA_ARGS__, NULL}, &out, &notes)

/* The row of an op, or NULL. */
static const json_t *find(const json_t *rows, const char *name, bool backward)
{
    size_t i;
    json_t *row;
    json_array_foreach(rows, i,
                       row) if (!strcmp(json_string_value(json_object_get(row, "op")), name) &&
                                json_boolean_value(json_object_get(row, "backward")) ==
                                    backward) return row;
    return NULL;
}

static double number(const json_t *row, const char *key)
{
    const json_t *x = json_object_get(row, key);
    if (!json_is_number(x))
        fail_msg("no number '%s'", key);
    return json_number_value(x);
}

/* All ops of ops.def that the plan of the step has are rows, and no others; shares add up to 1, the
   rest apart; what an op costs stands in its row. */
static void assert_ops(const json_t *line, const struct plan_step *a)
{
    struct profile plan = {0};
    const json_t *rows = json_object_get(line, "ops");
    double share = 0;
    size_t i;
    json_t *row;
    int seen = 0;
    assert_int_equal(rehearsal_plan(a, &plan), 0);
    for (size_t k = 0; k < sizeof ops / sizeof *ops; k++)
        for (int backward = 0; backward < 2; backward++) {
            const struct profile_row *p = profile_find(&plan, ops[k], backward);
            const json_t *printed = find(rows, ops[k], backward);
            if (!p != !printed)
                fail_msg("%s %s", ops[k], p ? "is missing" : "did not run");
            if (!p)
                continue;
            assert_true(number(printed, "calls") == (double)p->calls);
            assert_true(fabs(1e9 * number(printed, "gflop") - p->flops) <= 1e-5 * p->flops);
            assert_true(fabs(1e9 * number(printed, "gb") - p->bytes) <= 1e-5 * p->bytes);
            assert_true(number(printed, "ms") > 0);
            seen++;
        }
    assert_true(seen >= 13);
    json_array_foreach(rows, i, row) share += number(row, "share");
    assert_true(fabs(share + number(line, "between_share") - 1) < 1e-3);
    assert_true(number(line, "between_share") >= 0);
    assert_non_null(find(rows, "data", false));
    assert_non_null(find(rows, "gradient norm", false));
    assert_non_null(find(rows, "optimizer", false));
    assert_non_null(find(rows, "projection", false));
    assert_int_equal(json_array_size(rows), plan.n);
    profile_free(&plan);
}

static json_t *parsed(void)
{
    json_error_t why;
    json_t *line = json_loads(out.p, 0, &why);
    if (!line)
        fail_msg("%s in %s", why.text, out.p);
    assert_ptr_equal(strchr(out.p, '\n'), out.p + out.n - 1); // one line
    return line;
}

static void training_by_op(void **state)
{
    (void)state;
    static struct transformer_dims dims = {.n_layers = 2,
                                           .d_model = 32,
                                           .vocab = 61,
                                           .head_dim = 8,
                                           .context = 20,
                                           .n_heads = {4, 4},
                                           .n_kv_heads = {2, 2},
                                           .d_ff = {48, 48},
                                           .norm_eps = 1e-5,
                                           .rope = {.base = 10000}};
    struct plan_step a = {.dims = &dims, .batch = 4, .pass = {.n_seqs = 4, .T = 20, .parts = 1}};
    if (BENCH("--train", "--json", "--steps", "3", "--precision", "f32", SMALL))
        fail_msg("%s", err_text());
    json_t *line = parsed();
    assert_ops(line, &a);
    assert_true(number(line, "tokens_per_s") > 0 && number(line, "planned_tokens_per_s") > 0);
    assert_true(number(line, "tokens_per_s_min") <= number(line, "tokens_per_s"));
    assert_true(number(line, "tokens_per_s") <= number(line, "tokens_per_s_max"));
    assert_true(number(line, "params") == 2 * 61 * 32 + 32 + 2 * (2 * 32 + 32 * 96 + 3 * 32 * 48));
    const struct plan_args plan = {.n_seqs = 4, .T = 20, .parts = 1};
    assert_float_equal(number(line, "arena_mib") * 0x1p20, (double)plan_train(&dims, &plan),
                       0.006 * 0x1p20);
    assert_true(number(line, "peak_rss_mib") > number(line, "arena_mib"));
    json_decref(line);
    // the shape's architecture and table of positions, unless flags say otherwise
    assert_int_equal(BENCH("--train", "--json", "--steps", "1", "--shape", "gpt2", SMALL), 0);
    line = parsed();
    assert_true(number(line, "params") == 61 * 32 + 1024 * 32 + 2 * 32 + 2 * GPT2_BLOCK);
    assert_non_null(find(json_object_get(line, "ops"), "gelu", true));
    json_decref(line);
    a.pass.recompute = a.pass.bf16 = true;
    assert_int_equal(BENCH("--train", "--json", "--steps", "1", "--precision", "bf16",
                           "--recompute", SMALL),
                     0);
    line = parsed();
    assert_ops(line, &a);
    assert_string_equal(json_string_value(json_object_get(line, "precision")), "bf16");
    json_decref(line);
}

/* Lines of the table: their shares are 100 % together, none is too wide. */
static void table_adds_up(void **state)
{
    (void)state;
    double sum = 0, last = 0;
    assert_int_equal(BENCH("--train", "--steps", "2", "--precision", "f32", SMALL), 0);
    assert_non_null(strstr(out.p, "planned"));
    assert_non_null(strstr(out.p, "between them"));
    for (char *at = strstr(out.p, "a step "), *line; (line = strsep(&at, "\n"));) {
        assert_true(strlen(line) <= 100);
        const char *percent = strchr(line, '%');
        if (!percent)
            continue;
        while (percent > line && (percent[-1] == '.' || (percent[-1] >= '0' && percent[-1] <= '9')))
            percent--;
        last = strtod(percent, NULL);
        sum += last;
    }
    assert_float_equal(last, 100, 0.01); // the line of the sum
    assert_float_equal(sum, 200, 1.5);   // it and all others, rounded
}

static void products_by_shape(void **state)
{
    (void)state;
    if (BENCH("--gemm", "--json", "--precision", "f32", "-t", "2", SMALL))
        fail_msg("%s", err_text());
    json_t *line = parsed();
    const json_t *rows = json_object_get(line, "products");
    size_t i;
    json_t *row;
    bool head = false;
    assert_int_equal(json_array_size(rows), 5); // q and output, k and v, gate and up, down, head
    json_array_foreach(rows, i, row)
    {
        static const char *const keys[] = {"forward_one", "dx_one", "dw_one",
                                           "forward_all", "dx_all", "dw_all"};
        assert_true(number(row, "m") == 80);
        head |= number(row, "n") == 61 && number(row, "k") == 32;
        for (size_t k = 0; k < 6; k++)
            assert_true(number(row, keys[k]) > 0);
    }
    assert_true(head);
    json_decref(line);
    assert_int_equal(BENCH("--gemm", "--precision", "bf16", SMALL), 0);
    assert_non_null(strstr(out.p, "bf16 ("));
    assert_null(strstr(out.p, "f32 ("));
}

static void configs_are_measured(void **state)
{
    const char *config = scratch_path(*state, "c.yaml");
    scratch_text(config, "name: some\n"
                         "data: {corpus: none.txt, tokenizer: {type: byte}}\n"
                         "model: {n_layers: 1, d_model: 32, n_heads: 4, d_ff: 40, context: 16,\n"
                         "        dropout: 0.1}\n"
                         "stages:\n"
                         "  - pretrain: {steps: 3, batch_tokens: 64, micro_batch_tokens: 32,\n"
                         "               precision: f32, optimizer: sgd}\n");
    if (BENCH("--train", "--json", "--steps", "1", config, "model.d_ff=48"))
        fail_msg("%s", err_text());
    json_t *line = parsed();
    static struct transformer_dims dims = {.n_layers = 1,
                                           .d_model = 32,
                                           .vocab = 257,
                                           .head_dim = 8,
                                           .context = 16,
                                           .n_heads = {4},
                                           .n_kv_heads = {4},
                                           .d_ff = {48},
                                           .norm_eps = 1e-5,
                                           .dropout = 0.1,
                                           .rope = {.base = 10000}};
    const struct plan_step a = {.dims = &dims,
                                .batch = 4,
                                .pass = {.n_seqs = 2, .T = 16, .parts = 1},
                                .optimizer = OPTIMIZER_SGD};
    assert_ops(line, &a);
    assert_non_null(find(json_object_get(line, "ops"), "dropout", true));
    assert_string_equal(json_string_value(json_object_get(line, "what")), "some");
    assert_string_equal(json_string_value(json_object_get(line, "precision")), "f32");
    json_decref(line);
    assert_int_equal(BENCH("--train", "--steps", "1", "--precision", "bf16", config), 0);
    assert_non_null(strstr(out.p, "at once, bf16 ("));
    assert_int_equal(BENCH("--train", "--d", "64", config), CMD_USAGE);
    assert_int_equal(BENCH("--train", config, "model.d_fff=3"), -1);
    assert_int_equal(BENCH("--train", "none.yaml"), -1);
}

static void wrong_calls(void **state)
{
    (void)state;
    assert_int_equal(BENCH(SMALL), CMD_USAGE);
    assert_non_null(strstr(err_text(), "--gemm"));
    assert_int_equal(BENCH("--gemm", "--train"), CMD_USAGE);
    assert_int_equal(BENCH("--gemm", "--steps", "3"), CMD_USAGE);
    assert_int_equal(BENCH("--gemm", "--recompute"), CMD_USAGE);
    assert_int_equal(BENCH("--train", "--shape", "tinny"), CMD_USAGE);
    assert_non_null(strstr(err_text(), "tiny?"));
    assert_int_equal(BENCH("--train", "--precision", "f16"), CMD_USAGE);
    assert_int_equal(BENCH("--train", "--steps", "0"), CMD_USAGE);
    assert_int_equal(BENCH("--train", "--arch", "gpt3"), CMD_USAGE);
    assert_int_equal(BENCH("--train", "--heads", "7"), -1);
    assert_non_null(strstr(err_text(), "7 heads do not divide a width of 256"));
    assert_int_equal(BENCH("--train", "--heads", "4", "--kv-heads", "3"), -1);
}

/* A line a test, in the order that was asked for; medians of samples that agree with their mean. */
static void model_in_use(void **state)
{
    (void)state;
    const char *data = getenv("ATTAR_DATA");
    char path[512];
    snprintf(path, sizeof path, "%s/kjv-5m-f16.gguf", data ? data : "../shared/data");
    FILE *f = fopen(path, "rb");
    if (!f) {
        print_message("no %s: skipped\n", path);
        skip();
    }
    fclose(f);
    static const struct {
        int64_t prompt, gen, threads;
    } want[] = {{8, 0, 1}, {40, 0, 1}, {0, 3, 1}, {8, 0, 2}, {40, 0, 2}, {0, 3, 2}};
    enum { N = sizeof want / sizeof *want };
    assert_int_equal(BENCH("-m", path, "-p", "8,40", "-n", "3", "-r", "2", "-t", "1,2", "-o",
                           "json"),
                     0);
    json_t *all = json_loads(out.p, 0, NULL);
    assert_int_equal(json_array_size(all), N);
    for (size_t i = 0; i < N; i++) {
        const json_t *row = json_array_get(all, i);
        const json_t *samples = json_object_get(row, "samples_ts");
        double mean = 0;
        assert_true(number(row, "n_prompt") == (double)want[i].prompt);
        assert_true(number(row, "n_gen") == (double)want[i].gen);
        assert_true(number(row, "n_threads") == (double)want[i].threads);
        assert_true(number(row, "model_n_params") == 5770496);
        assert_int_equal(json_array_size(samples), 2);
        for (size_t k = 0; k < 2; k++)
            mean += 0.5 * json_number_value(json_array_get(samples, k));
        assert_true(mean > 0 && fabs(number(row, "avg_ts") - mean) <= 1e-4 * mean);
    }
    json_decref(all);
    assert_int_equal(BENCH("-m", path, "-p", "0", "-n", "2", "-r", "1", "-t", "1"), 0);
    assert_non_null(strstr(out.p, "|    tg2 |"));
    assert_null(strstr(out.p, "pp"));
    assert_int_equal(BENCH("-m", path, "-n", "0", "-p", "4", "-r", "1", "-o", "csv"), 0);
    assert_non_null(strstr(out.p, "n_prompt,n_gen"));
    assert_int_equal(BENCH("-m", path, "-p", "300"), -1); // the model's context is 256
    assert_non_null(strstr(err_text(), "256"));
    assert_int_equal(BENCH("-m", path, "--gemm"), CMD_USAGE);
    assert_int_equal(BENCH("--train", "-t", "1,2"), CMD_USAGE);
    assert_int_equal(BENCH("--train", "-p", "8"), CMD_USAGE);
}

static int teardown(void **state)
{
    buf_free(&out);
    buf_free(&notes);
    return scratch_teardown(state);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, scratch_setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(training_by_op),       TEST(table_adds_up), TEST(products_by_shape),
        TEST(configs_are_measured), TEST(wrong_calls),   TEST(model_in_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
