#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "autograd/base/rng.h"
#include "compress/gguf_write.h"
#include "compress/imatrix.h"
#include "experiments/cmd.h"
#include "tests/compress/cut_gguf.h"
#include "tests/datasets/scratch.h"
#include "tests/experiments/capture.h"
#include "tests/experiments/spawn.h"
#include "tests/experiments/tiny_gguf.h"
#include "tests/experiments/tiny_model.h"

/* A model of one layer: an embedding of `rows`, ffn_down of `cols` columns, and a norm. */
static void write_model_of(const char *arch, const char *path, uint64_t rows, uint64_t cols)
{
    struct gguf_write w = {0};
    enum { PIECE = 1 << 16 };
    static float piece[PIECE];
    rng_normal(3, 0.05f, piece, PIECE);
    char key[64];
    gguf_write_text(&w, "general.architecture", arch);
    snprintf(key, sizeof key, "%s.block_count", arch);
    gguf_write_u32(&w, key, 1);
    snprintf(key, sizeof key, "%s.attention.head_count", arch);
    gguf_write_u32(&w, key, 4);
    gguf_write_tensor(&w, "token_embd.weight", gguf_type(0), 2, (uint64_t[]){256, rows});
    gguf_write_tensor(&w, "blk.0.ffn_down.weight", gguf_type(0), 2, (uint64_t[]){cols, 2});
    gguf_write_tensor(&w, "output_norm.weight", gguf_type(0), 1, (uint64_t[]){256});
    int rc = gguf_write_open(&w, path);
    for (uint64_t left = 256 * rows * 4, n; left && !rc; left -= n) {
        n = left < sizeof piece ? left : sizeof piece;
        rc = gguf_write_data(&w, piece, n);
    }
    if (rc || gguf_write_data(&w, piece, cols * 2 * 4) || gguf_write_data(&w, piece, 1024) ||
        gguf_write_commit(&w))
        fail_msg("%s", err_text());
}

static void write_model(const char *path, uint64_t rows, uint64_t cols)
{
    write_model_of("llama", path, rows, cols);
}

static int command(const char *const *argv, struct buf *out, struct buf *notes)
{
    buf_clear(out);
    buf_clear(notes);
    return capture_run(cmd_quantize, argv, out, notes);
}

static void assert_types(const char *path, const char *embd, const char *down)
{
    struct gguf g;
    if (gguf_open(&g, path))
        fail_msg("%s", err_text());
    assert_string_equal(gguf_tensor(&g, "token_embd.weight")->type->name, embd);
    assert_string_equal(gguf_tensor(&g, "blk.0.ffn_down.weight")->type->name, down);
    assert_string_equal(gguf_tensor(&g, "output_norm.weight")->type->name, "F32");
    gguf_close(&g);
}

static void lines_are_llama_quantizes(void **state)
{
    const char *in = scratch_path(*state, "in.gguf"), *out = scratch_path(*state, "out.gguf");
    struct buf text = {0}, notes = {0};
    write_model(in, 64, 512);
    if (command((const char *[]){"quantize", in, out, "q4_k_m", "2", NULL}, &text, &notes))
        fail_msg("%s", err_text());
    assert_non_null(strstr(text.p,
                           "[   1/   3] token_embd.weight                    - [  256,    64"
                           ",     1,     1], type =    F32, converting to q6_k .. size = "
                           "    0.06 MiB ->     0.01 MiB\n"));
    assert_non_null(strstr(text.p, "type =    F32, size =    0.001 MiB\n"));
    assert_non_null(strstr(text.p, "quant size  = "));
    assert_types(out, "Q6_K", "Q6_K"); // tied; the last layer of one
    assert_int_equal(notes.n, 0);
    buf_free(&text);
    buf_free(&notes);
}

static void rows_that_do_not_fit_are_named_first(void **state)
{
    const char *in = scratch_path(*state, "in.gguf"), *out = scratch_path(*state, "out.gguf");
    struct buf text = {0}, notes = {0};
    write_model(in, 64, 96);
    assert_int_equal(command((const char *[]){"quantize", in, out, "Q3_K_S", NULL}, &text, &notes),
                     0);
    assert_string_equal(notes.p, "blk.0.ffn_down.weight: rows of 96 are no whole blocks of 256, "
                                 "which q3_k has: so it is q4_0\n");
    assert_non_null(strstr(text.p, "WARNING: 1 of 2 tensor(s) required fallback quantization"));
    assert_types(out, "Q6_K", "Q4_0");
    buf_free(&text);
    buf_free(&notes);
}

/* Whichever part is named, the same bytes as of the whole, without a word of parts; no part is
   overwritten, and without one of them nothing is made. */
static void parts_are_quantized_as_one(void **state)
{
    const char *in = scratch_path(*state, "in.gguf"), *stem = scratch_path(*state, "m");
    const char *want = scratch_path(*state, "want.gguf"), *got = scratch_path(*state, "got.gguf");
    struct buf text = {0}, notes = {0};
    size_t n, n_got;
    write_model(in, 64, 512);
    cut_gguf(in, stem, &(struct cut_gguf){.parts = 2});
    assert_int_equal(command((const char *[]){"quantize", in, want, "Q4_K_M", NULL}, &text, &notes),
                     0);
    char *bytes = scratch_read(want, &n);
    for (int named = 0; named < 2; named++) {
        char part[4096];
        snprintf(part, sizeof part, "%s", cut_gguf_path(stem, named, 2));
        if (command((const char *[]){"quantize", part, got, "Q4_K_M", NULL}, &text, &notes))
            fail_msg("%s", err_text());
        char *same = scratch_read(got, &n_got);
        assert_int_equal(n_got, n);
        assert_memory_equal(same, bytes, n);
        free(same);
        remove(got);
        assert_int_equal(command((const char *[]){"quantize", part,
                                                  cut_gguf_path(stem, 1 - named, 2), "Q8_0", NULL},
                                 &text, &notes),
                         -1);
        assert_non_null(strstr(err_text(), "would replace the input"));
    }
    unlink(cut_gguf_path(stem, 1, 2));
    assert_int_equal(command((const char *[]){"quantize", cut_gguf_path(stem, 0, 2), got, "Q4_K_M",
                                              NULL},
                             &text, &notes),
                     -1);
    assert_non_null(strstr(err_text(), "m-00002-of-00002.gguf: No such file"));
    assert_int_equal(access(got, F_OK), -1);
    free(bytes);
    buf_free(&text);
    buf_free(&notes);
}

static void a_dry_run_says_the_size_to_the_byte(void **state)
{
    const char *in = scratch_path(*state, "in.gguf"), *out = scratch_path(*state, "out.gguf");
    struct buf text = {0}, notes = {0};
    char size[64];
    size_t n;
    write_model(in, 64, 512);
    assert_int_equal(command((const char *[]){"quantize", "--dry-run", in, "q8_0", NULL}, &text,
                             &notes),
                     0);
    assert_int_equal(scratch_count(*state), 1);
    struct buf planned = text;
    text = (struct buf){0};
    assert_int_equal(command((const char *[]){"quantize", in, out, "q8_0", NULL}, &text, &notes),
                     0);
    free(scratch_read(out, &n));
    snprintf(size, sizeof size, "file size   = %zu bytes (", n);
    assert_non_null(strstr(planned.p, size));
    assert_non_null(strstr(text.p, size));
    buf_free(&planned);
    buf_free(&text);
    buf_free(&notes);
}

static void options_and_importance_are_used(void **state)
{
    const char *in = scratch_path(*state, "in.gguf"), *out = scratch_path(*state, "out.gguf"),
               *im = scratch_path(*state, "im.gguf"), *other = scratch_path(*state, "other.gguf");
    struct buf text = {0}, notes = {0};
    struct imatrix m = {.chunks = 7, .chunk_size = 16};
    write_model(in, 64, 512);
    struct imatrix_entry *e = imatrix_add(&m, "blk.0.ffn_down.weight", 512);
    assert_non_null(e);
    *e->count = 16;
    for (int i = 0; i < 512; i++)
        e->sum[i] = i % 5 ? 0.01f : 1000; // within each block
    assert_int_equal(imatrix_add_dataset(&m, "words.txt") | imatrix_finish(&m) |
                         imatrix_write(&m, im),
                     0);
    imatrix_free(&m);
    assert_int_equal(command((const char *[]){"quantize", "--imatrix", im, "--pure", in, out,
                                              "q4_k_s", NULL},
                             &text, &notes),
                     0);
    assert_non_null(strstr(text.p, "(no importance)")); // the embedding's
    assert_types(out, "Q4_K", "Q4_K");
    assert_int_equal(command((const char *[]){"quantize", "--pure", in, other, "q4_k_s", NULL},
                             &text, &notes),
                     0);
    struct gguf a, b;
    assert_int_equal(gguf_open(&a, out) | gguf_open(&b, other), 0);
    const struct gguf_tensor *x = gguf_tensor(&a, "blk.0.ffn_down.weight"),
                             *y = gguf_tensor(&b, "blk.0.ffn_down.weight");
    assert_true(memcmp(a.base + a.data + x->offset, b.base + b.data + y->offset, x->bytes) != 0);
    const struct gguf_pair *set = gguf_find(&a, "quantize.imatrix.dataset");
    assert_non_null(set);
    assert_memory_equal(set->data + 8, "words.txt", 9);
    assert_non_null(gguf_find(&a, "quantize.imatrix.chunks_count"));
    assert_null(gguf_find(&b, "quantize.imatrix.file"));
    gguf_close(&a);
    gguf_close(&b);
    assert_int_equal(command((const char *[]){"quantize", "--tensor-type", "down=f16",
                                              "--token-embedding-type", "q5_0", in, out, "q4_0",
                                              NULL},
                             &text, &notes),
                     0);
    assert_types(out, "Q5_0", "F16");
    buf_free(&text);
    buf_free(&notes);
}

static void wrong_calls_are_refused(void **state)
{
    const char *in = scratch_path(*state, "in.gguf"), *out = scratch_path(*state, "out.gguf");
    struct buf text = {0}, notes = {0};
    write_model(in, 64, 512);
    assert_int_equal(command((const char *[]){"quantize", in, NULL}, &text, &notes), CMD_USAGE);
    assert_int_equal(command((const char *[]){"quantize", in, out, "q4_k_x", NULL}, &text, &notes),
                     -1);
    assert_int_equal(command((const char *[]){"quantize", in, in, "q4_0", NULL}, &text, &notes),
                     -1);
    assert_non_null(strstr(err_text(), "would replace the input"));
    assert_int_equal(command((const char *[]){"quantize", in, out, "q4_0", NULL}, &text, &notes),
                     0);
    assert_int_equal(command((const char *[]){"quantize", out, in, "q4_1", NULL}, &text, &notes),
                     -1);
    assert_non_null(strstr(err_text(), "--allow-requantize"));
    assert_int_equal(command((const char *[]){"quantize", "--allow-requantize", out, in, "q4_1",
                                              NULL},
                             &text, &notes),
                     0);
    assert_int_equal(scratch_count(*state), 2);
    write_model_of("falcon", in, 64, 512);
    assert_int_equal(command((const char *[]){"quantize", in, out, "q4_0", NULL}, &text, &notes),
                     -1);
    assert_non_null(strstr(err_text(), "architecture 'falcon' is not supported; these are: llama, "
                                       "deci, gpt2, qwen2, qwen3"));
    write_model_of("deci", in, 64, 512);
    assert_int_equal(command((const char *[]){"quantize", in, out, "q4_0", NULL}, &text, &notes),
                     0);
    buf_free(&text);
    buf_free(&notes);
}

/* A tensor of a model that is computed here is missed; an importance matrix of another model is
   named, one of a part of this one warned of. */
static void what_is_missing_is_said(void **state)
{
    const char *in = scratch_path(*state, "in.gguf"), *out = scratch_path(*state, "out.gguf");
    const char *im = scratch_path(*state, "im.gguf"), *folder = scratch_path(*state, "folder");
    const char *const args[] = {"quantize", "--imatrix", im, in, out, "Q8_0", NULL};
    struct buf text = {0}, notes = {0};
    struct transformer m;
    tiny_model_even(&m, ARCH_LLAMA, false);
    tiny_gguf_save(in, &(struct tiny_gguf){.m = &m, .skip = "blk.1.ffn_up.weight"});
    assert_int_equal(command((const char *[]){"quantize", in, out, "F16", NULL}, &text, &notes),
                     -1);
    assert_non_null(strstr(err_text(), "tensor 'blk.1.ffn_up.weight' is missing"));
    tiny_gguf_save(in, &(struct tiny_gguf){.m = &m});
    for (int known = 0; known < 2; known++) {
        struct imatrix matrix = {.chunks = 1};
        const char *name = known ? "blk.0.attn_q.weight" : "blk.7.attn_q.weight";
        struct imatrix_entry *e = imatrix_add(&matrix, name, 32);
        for (int k = 0; k < 32; k++)
            e->sum[k] = 1;
        *e->count = 1;
        assert_int_equal(imatrix_finish(&matrix) | imatrix_write(&matrix, im), 0);
        imatrix_free(&matrix);
        assert_int_equal(command(args, &text, &notes), known ? 0 : -1);
        assert_non_null(known ? strstr(notes.p, "says nothing of 11 of 12 matrices, such as "
                                                "'blk.0.attn_k.weight'")
                              : strstr(err_text(), "it is another model's"));
    }
    assert_int_equal(mkdir(folder, 0777), 0);
    assert_int_equal(command((const char *[]){"quantize", in, folder, "F16", NULL}, &text, &notes),
                     -1);
    assert_non_null(strstr(err_text(), "is a folder: the name of a file is wanted"));
    transformer_free(&m);
    buf_free(&text);
    buf_free(&notes);
}

/* As a program of its own: a full disk, and the memory that it takes. */
static void a_full_disk_leaves_nothing(void **state)
{
    write_model(scratch_path(*state, "in.gguf"), 4096, 512);
    spawn_limit(1 << 20);
    assert_int_equal(spawn_run(scratch_folder(*state), "quantize in.gguf out.gguf q8_0"), 1);
    spawn_says(scratch_folder(*state), "File too large");
    spawn_limit(0);
    assert_int_equal(scratch_count(*state), 2); // the input, and what was said
}

static void memory_stays_below_the_largest_tensor(void **state)
{
#ifdef __SANITIZE_ADDRESS__
    skip(); // which keeps what is freed
#endif
    enum { ROWS = 65536, TENSOR = ROWS * 256 * 4 }; // 64 MiB
    struct rusage before, after;
    write_model(scratch_path(*state, "in.gguf"), ROWS, 512);
    assert_int_equal(getrusage(RUSAGE_CHILDREN, &before), 0);
    spawn_expect(scratch_folder(*state), 0, "quantize in.gguf out.gguf bf16");
    assert_int_equal(getrusage(RUSAGE_CHILDREN, &after), 0);
    const long peak = after.ru_maxrss * 1024; // of the largest child so far
    print_message("peak %ld bytes, the largest tensor has %d\n", peak, TENSOR);
    assert_true(peak < TENSOR);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(lines_are_llama_quantizes),
        TEST(rows_that_do_not_fit_are_named_first),
        TEST(parts_are_quantized_as_one),
        TEST(a_dry_run_says_the_size_to_the_byte),
        TEST(options_and_importance_are_used),
        TEST(what_is_missing_is_said),
        TEST(wrong_calls_are_refused),
        TEST(a_full_disk_leaves_nothing),
        TEST(memory_stays_below_the_largest_tensor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
