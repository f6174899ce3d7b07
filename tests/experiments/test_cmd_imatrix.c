#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "experiments/cmd.h"
#include "experiments/imatrix_stats.h"
#include "experiments/importance.h"
#include "tests/datasets/scratch.h"
#include "tests/experiments/capture.h"
#include "tests/experiments/tiny_model.h"

enum { TOKENS = 24 };

/* Runs the model over some tokens under a tap; the logits of all of them too. */
static void run_tapped(struct transformer *m, struct tap *tap)
{
    int32_t tok[TOKENS], pos[TOKENS];
    struct ctx ctx;
    for (int i = 0; i < TOKENS; i++) {
        tok[i] = (i * 37 + 11) % 257;
        pos[i] = i;
    }
    const struct sequence seq = {.start = 0, .len = TOKENS};
    const struct batch batch = {.n = TOKENS, .tok = tok, .pos = pos, .seqs = &seq, .n_seqs = 1};
    assert_int_equal(ctx_init(&ctx, 64 << 20), 0);
    ctx.tap = tap;
    struct tensor *hidden = transformer_forward(&ctx, m, &batch);
    assert_non_null(transformer_logits(&ctx, m, hidden, 0, TOKENS));
    ctx_free(&ctx);
}

static const struct imatrix_entry *entry(const struct imatrix *m, const char *name)
{
    const struct imatrix_entry *e = imatrix_find(m, name);
    if (!e)
        fail_msg("%s is missing", name);
    return e;
}

/* A tap that keeps the input of one weight. */
struct keeper {
    struct tap tap;
    const struct tensor *w;
    float *x;
    int64_t n;
};

static void keep(struct tap *tap, int n, struct tensor *const w[], const struct tensor *x)
{
    struct keeper *k = (struct keeper *)tap;
    for (int i = 0; i < n; i++)
        if (w[i] == k->w && !k->x) {
            k->n = tensor_numel(x);
            k->x = malloc((size_t)k->n * sizeof(float));
            memcpy(k->x, x->data, (size_t)k->n * sizeof(float));
        }
}

static void collect(struct transformer *m, bool head, struct imatrix *out)
{
    struct importance i;
    *out = (struct imatrix){0};
    assert_int_equal(importance_open(&i, m, head), 0);
    run_tapped(m, &i.tap);
    assert_int_equal(importance_add(&i, out), 0);
    importance_close(&i);
    assert_int_equal(imatrix_finish(out), 0);
}

/* Every weight that is multiplied with is there, with the squares of its own input. */
static void squares_are_those_of_the_inputs(void **state)
{
    (void)state;
    struct transformer m;
    struct imatrix out;
    tiny_model(&m, false, false);
    collect(&m, true, &out);
    assert_int_equal(out.n, 2 * 7 + 1);
    struct keeper k = {.tap = {keep}, .w = &m.blocks[1].ffn_down.weight->used};
    run_tapped(&m, &k.tap);
    assert_int_equal(k.n, TOKENS * 40);
    const struct imatrix_entry *e = entry(&out, "blk.1.ffn_down.weight");
    assert_int_equal(e->cols, 40);
    assert_true(*e->count == TOKENS);
    for (int c = 0; c < 40; c++) {
        double sum = 0;
        for (int r = 0; r < TOKENS; r++)
            sum += (double)k.x[r * 40 + c] * (double)k.x[r * 40 + c];
        assert_true(e->sum[c] == (float)sum);
    }
    free(k.x);
    // what shares its input shares its squares
    assert_memory_equal(entry(&out, "blk.0.attn_q.weight")->sum,
                        entry(&out, "blk.0.attn_v.weight")->sum, 32 * sizeof(float));
    assert_true(*entry(&out, "output.weight")->count == TOKENS);
    imatrix_free(&out);
    collect(&m, false, &out);
    assert_null(imatrix_find(&out, "output.weight"));
    assert_null(imatrix_find(&out, "token_embd.weight"));
    imatrix_free(&out);
    transformer_free(&m);
}

/* q, k and v of one matrix read their input once; a tied head is the embedding. */
static void one_matrix_of_q_k_and_v_counts_once(void **state)
{
    (void)state;
    struct transformer m;
    struct imatrix out;
    tiny_model_with(&m, ARCH_GPT2, true);
    collect(&m, true, &out);
    assert_int_equal(out.n, 2 * 4 + 1);
    assert_true(*entry(&out, "blk.1.attn_qkv.weight")->count == TOKENS);
    assert_true(*entry(&out, "token_embd.weight")->count == TOKENS);
    imatrix_free(&out);
    collect(&m, false, &out);
    assert_null(imatrix_find(&out, "token_embd.weight"));
    imatrix_free(&out);
    transformer_free(&m);
}

static void threads_do_not_change_the_sums(void **state)
{
    (void)state;
    struct transformer m;
    struct imatrix one, three;
    const int before = omp_get_max_threads();
    tiny_model(&m, false, false);
    omp_set_num_threads(1);
    collect(&m, true, &one);
    omp_set_num_threads(3);
    collect(&m, true, &three);
    omp_set_num_threads(before);
    for (size_t i = 0; i < one.n; i++)
        assert_memory_equal(one.entry[i].sum, three.entry[i].sum,
                            (size_t)one.entry[i].cols * sizeof(float));
    imatrix_free(&one);
    imatrix_free(&three);
    transformer_free(&m);
}

static void statistics_of_four_columns(void **state)
{
    (void)state;
    const struct imatrix_stats s = imatrix_stats_of((float[]){1, 1, 0, 6}, 4);
    assert_true(s.sum == 8 && s.min == 0 && s.max == 6 && s.mean == 2);
    assert_true(fabs(s.std - sqrt(5.5)) < 1e-12);
    assert_true(s.active == 0.75 && s.above == 0.25);
    assert_true(fabs(s.entropy - (2 * 0.125 * 3 - 0.75 * log2(0.75))) < 1e-12);
}

/* ---- the command ---- */

static int command(const char *const *argv, struct buf *out)
{
    struct buf notes = {0};
    buf_clear(out);
    const int rc = capture_run(cmd_imatrix, argv, out, &notes);
    buf_free(&notes);
    return rc;
}

static void the_command_writes_adds_and_shows(void **state)
{
    const char *model = scratch_path(*state, "checkpoint.h5"),
               *text = scratch_path(*state, "text.txt"), *im = scratch_path(*state, "im.gguf"),
               *both = scratch_path(*state, "both.gguf");
    struct buf out = {0};
    struct transformer m;
    struct imatrix a, b;
    char words[400];
    for (size_t i = 0; i < sizeof words; i++)
        words[i] = (char)('a' + i * i % 23);
    scratch_write(text, words, sizeof words);
    tiny_model(&m, true, false);
    tiny_model_save(model, &m);
    transformer_free(&m);
    const char *const write[] = {"imatrix", "-m", model,      "-f", text, "-c", "32",
                                 "--chunk", "2",  "--chunks", "5",  "-o", im,   NULL};
    if (command(write, &out))
        fail_msg("%s", err_text());
    assert_non_null(strstr(out.p, "[5]"));
    assert_null(strstr(out.p, "[6]"));
    assert_non_null(strstr(out.p, "Final estimate: PPL = "));
    assert_int_equal(imatrix_read(&a, im), 0);
    assert_int_equal(a.chunks, 5);
    assert_int_equal(a.chunk_size, 32);
    assert_string_equal(a.dataset[0], text);
    assert_true(*entry(&a, "blk.0.ffn_up.weight")->count == 5 * 32);
    const char *const add[] = {"imatrix", "--in-file", im, "--in-file", im, "-o", both, NULL};
    assert_int_equal(command(add, &out), 0);
    assert_int_equal(imatrix_read(&b, both), 0);
    assert_int_equal(b.chunks, 10);
    const struct imatrix_entry *x = entry(&a, "blk.1.attn_q.weight"),
                               *y = entry(&b, "blk.1.attn_q.weight");
    assert_true(*y->count == 2 * *x->count);
    for (int64_t c = 0; c < x->cols; c++)
        assert_true(y->sum[c] == 2 * x->sum[c]);
    imatrix_free(&a);
    imatrix_free(&b);
    const char *const head[] = {"imatrix", "-m", model,      "-f", text,
                                "-c",      "32", "--chunks", "3",  "--process-output",
                                "-o",      both, NULL};
    assert_int_equal(command(head, &out), 0);
    assert_int_equal(imatrix_read(&b, both), 0);
    assert_true(*entry(&b, "output.weight")->count == 3 * 32); // not only of those that are scored
    assert_true(*entry(&b, "blk.0.ffn_up.weight")->count == 3 * 32);
    imatrix_free(&b);
    const char *const show[] = {"imatrix", "--in-file", im, "--show-statistics", NULL};
    assert_int_equal(command(show, &out), 0);
    assert_non_null(strstr(out.p, "    1 ffn_down.weight"));
    const char *const missing[] = {"imatrix", "-m", model, NULL};
    assert_int_equal(command(missing, &out), CMD_USAGE);
    const char *const far[] = {"imatrix", "-m", model,     "-f", text,
                               "-c",      "32", "--chunk", "11", NULL};
    assert_int_equal(command(far, &out), -1);
    assert_non_null(strstr(err_text(), "too few are left"));
    buf_free(&out);
}

/* --parse-special takes them for what they name: 16 bytes become 4 tokens. */
static void special_tokens_are_parsed_when_asked(void **state)
{
    const char *model = scratch_path(*state, "model.h5"), *text = scratch_path(*state, "text.txt"),
               *im = scratch_path(*state, "a.gguf");
    struct transformer m;
    struct buf words = {0}, out = {0};
    for (int i = 0; i < 20; i++)
        buf_text(&words, "abc<|endoftext|>");
    scratch_write(text, words.p, words.n);
    tiny_model(&m, true, false);
    tiny_model_save(model, &m);
    transformer_free(&m);
    for (int parsed = 0; parsed < 2; parsed++) {
        const char *const write[] = {"imatrix", "-m",
                                     model,     "-f",
                                     text,      "-c",
                                     "32",      "-o",
                                     im,        parsed ? "--parse-special" : NULL,
                                     NULL};
        if (command(write, &out))
            fail_msg("%s", err_text());
        assert_non_null(strstr(out.p, parsed ? "[2]" : "[10]"));
        assert_null(strstr(out.p, parsed ? "[3]" : "[11]"));
    }
    buf_free(&words);
    buf_free(&out);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(squares_are_those_of_the_inputs),   TEST(one_matrix_of_q_k_and_v_counts_once),
        TEST(threads_do_not_change_the_sums),    TEST(statistics_of_four_columns),
        TEST(the_command_writes_adds_and_shows), TEST(special_tokens_are_parsed_when_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
