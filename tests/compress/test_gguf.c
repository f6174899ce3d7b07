#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/buf.h"
#include "autograd/base/err.h"
#include "compress/gguf.h"
#include "tests/datasets/scratch.h"

/* ---- a writer for the tests: little-endian, no checks ---- */

static void put(struct buf *b, uint64_t x, int bytes)
{
    for (int i = 0; i < bytes; i++, x >>= 8)
        buf_add(b, &(char){(char)x}, 1);
}

static void put_text(struct buf *b, const char *s)
{
    put(b, strlen(s), 8);
    buf_text(b, s);
}

static void put_header(struct buf *b, uint64_t tensors, uint64_t pairs)
{
    buf_text(b, "GGUF");
    put(b, 3, 4);
    put(b, tensors, 8);
    put(b, pairs, 8);
}

static void put_number(struct buf *b, const char *key, enum gguf_kind kind, uint64_t x, int bytes)
{
    put_text(b, key);
    put(b, kind, 4);
    put(b, x, bytes);
}

static void put_tensor(struct buf *b, const char *name, int nd, const uint64_t *dim, uint32_t type,
                       uint64_t offset)
{
    put_text(b, name);
    put(b, (uint64_t)nd, 4);
    for (int i = 0; i < nd; i++)
        put(b, dim[i], 8);
    put(b, type, 4);
    put(b, offset, 8);
}

static void put_data(struct buf *b, size_t bytes, size_t alignment)
{
    while (b->n % alignment)
        put(b, 0, 1);
    for (size_t i = 0; i < bytes; i++)
        put(b, i, 1);
}

/* All kinds of values, three tensors, alignment 64. */
static struct buf sample(void)
{
    struct buf b = {0};
    put_header(&b, 3, 9);
    put_text(&b, "general.architecture");
    put(&b, GGUF_TEXT, 4);
    put_text(&b, "llama");
    put_number(&b, "general.alignment", GGUF_U32, 64, 4);
    put_number(&b, "a.u8", GGUF_U8, 200, 1);
    put_number(&b, "a.i16", GGUF_I16, (uint16_t)-300, 2);
    put_number(&b, "a.f32", GGUF_F32, 0x3fc00000, 4);
    put_number(&b, "a.bool", GGUF_BOOL, 1, 1);
    put_number(&b, "a.i64", GGUF_I64, (uint64_t)-5, 8);
    put_text(&b, "a.words");
    put(&b, GGUF_LIST, 4);
    put(&b, GGUF_TEXT, 4);
    put(&b, 3, 8);
    put_text(&b, "one");
    put_text(&b, "");
    put_text(&b, "three");
    put_text(&b, "a.shorts");
    put(&b, GGUF_LIST, 4);
    put(&b, GGUF_I16, 4);
    put(&b, 2, 8);
    put(&b, 7, 2);
    put(&b, (uint16_t)-7, 2);
    put_tensor(&b, "x.weight", 2, (uint64_t[]){256, 2}, 12, 0);    // Q4_K: 288 bytes
    put_tensor(&b, "y.weight", 1, (uint64_t[]){5}, 0, 320);        // F32: 20 bytes
    put_tensor(&b, "z.weight", 3, (uint64_t[]){32, 1, 3}, 8, 384); // Q8_0: 102 bytes
    put_data(&b, 384 + 102, 64);
    return b;
}

static struct gguf parsed(const struct buf *b)
{
    struct gguf g;
    if (gguf_parse(&g, b->p, b->n))
        fail_msg("%s", err_text());
    return g;
}

static void assert_refused(struct buf *b, const char *part)
{
    struct gguf g;
    char *exact = malloc(b->n ? b->n : 1); // so that the sanitizer sees the end
    memcpy(exact, b->p ? b->p : "", b->n);
    if (!gguf_parse(&g, exact, b->n))
        fail_msg("accepted: '%s' was expected", part);
    if (!strstr(err_text(), part))
        fail_msg("'%s' is not in '%s'", part, err_text());
    free(exact);
    buf_free(b);
}

static void assert_text(const struct gguf *g, const char *key, uint64_t n, const char *const *want)
{
    const struct gguf_pair *p = gguf_find(g, key);
    char number[32];
    assert_non_null(p);
    assert_int_equal(p->n, n);
    struct cursor c = {.base = p->data, .size = p->bytes};
    for (uint64_t i = 0; i < n; i++) {
        const struct gguf_string s = gguf_text(p, &c, number);
        assert_int_equal(s.n, strlen(want[i]));
        assert_memory_equal(s.s, want[i], s.n);
    }
    assert_int_equal(cursor_left(&c), 0);
}

static void everything_is_read(void **state)
{
    (void)state;
    struct buf b = sample();
    struct gguf g = parsed(&b);
    assert_int_equal(g.version, 3);
    assert_int_equal(g.n_pairs, 9);
    assert_int_equal(g.alignment, 64);
    assert_text(&g, "general.architecture", 1, (const char *[]){"llama"});
    assert_text(&g, "a.u8", 1, (const char *[]){"200"});
    assert_text(&g, "a.i16", 1, (const char *[]){"-300"});
    assert_text(&g, "a.f32", 1, (const char *[]){"1.5"});
    assert_text(&g, "a.bool", 1, (const char *[]){"true"});
    assert_text(&g, "a.i64", 1, (const char *[]){"-5"});
    assert_text(&g, "a.words", 3, (const char *[]){"one", "", "three"});
    assert_text(&g, "a.shorts", 2, (const char *[]){"7", "-7"});
    assert_true(gguf_find(&g, "a.words")->list);
    assert_null(gguf_find(&g, "a.word"));
    const struct gguf_tensor *z = gguf_tensor(&g, "z.weight");
    assert_non_null(z);
    assert_int_equal(z->nd, 3);
    assert_int_equal(z->dim[0], 32);
    assert_int_equal(z->dim[2], 3);
    assert_int_equal(z->dim[3], 1);
    assert_int_equal(z->numel, 96);
    assert_int_equal(z->bytes, 102);
    assert_string_equal(z->type->name, "Q8_0");
    assert_int_equal(g.data % 64, 0);
    assert_int_equal(g.data + z->offset + z->bytes, b.n);
    assert_int_equal(gguf_tensor(&g, "x.weight")->bytes, 288);
    assert_null(gguf_tensor(&g, "x"));
    gguf_close(&g);
    buf_free(&b);
}

static void types_are_found_by_id(void **state)
{
    (void)state;
    assert_string_equal(gguf_type(30)->name, "BF16");
    assert_int_equal(gguf_type(14)->bytes, 210);
    assert_null(gguf_type(4));
    assert_null(gguf_type(31));
    assert_null(gguf_type(0x4000));
}

/* A file cut anywhere is refused: data is missing, and nothing before it is optional. */
static void every_truncation_is_refused(void **state)
{
    (void)state;
    struct buf b = sample();
    for (size_t n = 0; n < b.n; n++) {
        struct gguf g;
        char *cut = malloc(n ? n : 1);
        memcpy(cut, b.p, n);
        if (!gguf_parse(&g, cut, n))
            fail_msg("accepted with %zu of %zu bytes", n, b.n);
        free(cut);
    }
    buf_free(&b);
}

/* Whatever is accepted after a byte changed can be walked without leaving the file. */
static void every_flipped_byte_is_survived(void **state)
{
    (void)state;
    static const unsigned char flip[] = {0xff, 0x01, 0x80, 0x7f};
    struct buf b = sample();
    char *copy = malloc(b.n);
    int accepted = 0;
    for (size_t i = 0; i < b.n; i++)
        for (size_t k = 0; k < sizeof flip; k++) {
            struct gguf g;
            memcpy(copy, b.p, b.n);
            copy[i] = (char)(copy[i] ^ flip[k]);
            if (gguf_parse(&g, copy, b.n))
                continue;
            accepted++;
            for (size_t p = 0; p < g.n_pairs; p++) {
                struct cursor c = {.base = g.pair[p].data, .size = g.pair[p].bytes};
                char number[32];
                for (uint64_t e = 0; e < g.pair[p].n; e++)
                    gguf_text(&g.pair[p], &c, number);
                assert_false(c.failed);
            }
            for (size_t t = 0; t < g.n_tensors; t++)
                assert_true(g.data + g.tensor[t].offset + g.tensor[t].bytes <= b.n);
            gguf_close(&g);
        }
    assert_true(accepted > 0);
    free(copy);
    buf_free(&b);
}

static struct buf header(uint64_t tensors, uint64_t pairs)
{
    struct buf b = {0};
    put_header(&b, tensors, pairs);
    return b;
}

static void bad_headers_are_refused(void **state)
{
    (void)state;
    struct buf b = {0};
    assert_refused(&b, "byte 0: 4 bytes should follow");
    buf_text(&b, "GGML----------------------");
    assert_refused(&b, "not a GGUF file");
    static const uint32_t version[] = {0, 1, 4, 0x03000000};
    for (int i = 0; i < 4; i++) {
        b = header(0, 0);
        b.p[4] = (char)version[i];
        b.p[7] = (char)(version[i] >> 24);
        assert_refused(&b, i == 3 ? "big-endian" : "version");
    }
    static const uint64_t counts[] = {1, 65537, UINT64_MAX, UINT64_MAX / 8 + 1, 1ULL << 63};
    for (int i = 0; i < 5; i++) {
        b = header(counts[i], 0);
        assert_refused(&b, "tensors do not fit");
        b = header(0, counts[i]);
        assert_refused(&b, "pairs do not fit");
    }
    b = header(65537, 0);
    for (int i = 0; i < 65537; i++) // room there would be
        buf_add(&b, "0123456789012345678901234567890123456789", 40);
    assert_refused(&b, "65537 tensors do not fit");
    b = header(0, 0);
    struct gguf g = parsed(&b);
    assert_int_equal(g.n_pairs + g.n_tensors, 0);
    gguf_close(&g);
    buf_free(&b);
}

static void bad_pairs_are_refused(void **state)
{
    (void)state;
    struct buf b = header(0, 1);
    put_number(&b, "", GGUF_U32, 1, 4);
    assert_refused(&b, "0 bytes of a key");
    b = header(0, 1);
    put_number(&b, "a\x1b[2J", GGUF_U32, 1, 4);
    assert_refused(&b, "control characters");
    b = header(0, 1);
    put(&b, UINT64_MAX, 8);
    put_data(&b, 64, 8);
    assert_refused(&b, "bytes of a key do not fit");
    b = header(0, 1);
    put_number(&b, "a", (enum gguf_kind)13, 1, 8);
    assert_refused(&b, "kind 13");
    b = header(0, 2);
    put_number(&b, "same", GGUF_U32, 1, 4);
    put_number(&b, "same", GGUF_U8, 1, 1);
    assert_refused(&b, "'same' is there twice");
    b = header(0, 1);
    put_number(&b, "a", GGUF_LIST, GGUF_LIST, 4);
    put(&b, 1, 8);
    put_data(&b, 64, 8);
    assert_refused(&b, "kind 9 in a list");
    static const uint64_t counts[] = {17, (1 << 26) + 1, UINT64_MAX, 1ULL << 62};
    for (int i = 0; i < 4; i++) {
        b = header(0, 1);
        put_number(&b, "a", GGUF_LIST, GGUF_U32, 4);
        put(&b, counts[i], 8);
        buf_add(&b, "0123456789012345678901234567890123456789012345678901234567890123", 64);
        assert_refused(&b, "elements do not fit");
    }
    b = header(0, 1);
    put_number(&b, "a", GGUF_LIST, GGUF_TEXT, 4);
    put(&b, 2, 8);
    put_text(&b, "fine");
    put(&b, 1ULL << 40, 8);
    assert_refused(&b, "bytes of text do not fit");
}

static void bad_alignments_are_refused(void **state)
{
    (void)state;
    static const uint32_t bad[] = {0, 1, 4, 13, 48, 1 << 17, 0x80000000};
    for (int i = 0; i < 7; i++) {
        struct buf b = header(0, 1);
        put_number(&b, "general.alignment", GGUF_U32, bad[i], 4);
        assert_refused(&b, "not a power of two");
    }
    struct buf b = header(0, 1);
    put_number(&b, "general.alignment", GGUF_U64, 32, 8);
    assert_refused(&b, "no u32");
}

/* One tensor with its data behind it. */
static struct buf one(const char *name, int nd, const uint64_t *dim, uint32_t type, uint64_t offset,
                      size_t bytes)
{
    struct buf b = header(1, 0);
    put_tensor(&b, name, nd, dim, type, offset);
    put_data(&b, bytes, 32);
    return b;
}

static void bad_tensors_are_refused(void **state)
{
    (void)state;
    const uint64_t fine[] = {32, 1, 1, 1, 1};
    const char *long_name = "0123456789012345678901234567890123456789012345678901234567890123";
    struct buf b = one(long_name + 1, 1, fine, 8, 0, 34);
    struct gguf g = parsed(&b);
    gguf_close(&g);
    buf_free(&b);
    b = one(long_name, 1, fine, 8, 0, 34);
    assert_refused(&b, "64 bytes of a tensor's name");
    b = one("", 1, fine, 8, 0, 34);
    assert_refused(&b, "0 bytes of a tensor's name");
    b = one("a", 0, fine, 8, 0, 34);
    assert_refused(&b, "0 dimensions");
    b = one("a", 5, fine, 8, 0, 34);
    assert_refused(&b, "5 dimensions");
    b = one("a", 2, (uint64_t[]){32, 0}, 8, 0, 34);
    assert_refused(&b, "a dimension of 0");
    b = one("a", 2, (uint64_t[]){32, 1ULL << 31}, 8, 0, 34);
    assert_refused(&b, "a dimension of 2147483648");
    b = one("a", 1, (uint64_t[]){UINT64_MAX}, 8, 0, 34);
    assert_refused(&b, "a dimension of");
    b = one("a", 3, (uint64_t[]){1 << 30, 1 << 30, 16}, 24, 0, 34);
    assert_refused(&b, "2^64 elements");
    b = one("a", 3, (uint64_t[]){1 << 30, 1 << 30, 8}, 0, 0, 34);
    assert_refused(&b, "2^64 bytes");
    b = one("a", 1, (uint64_t[]){33}, 8, 0, 36);
    assert_refused(&b, "rows of 33");
    b = one("a", 1, fine, 8, 0, 33);
    assert_refused(&b, "needs 34 bytes");
    b = one("a", 1, fine, 8, 32, 66);
    assert_refused(&b, "starts at 32, 0 is expected");
    b = one("a", 1, fine, 8, 1, 66);
    assert_refused(&b, "starts at 1, 0 is expected");
    b = header(2, 0);
    put_tensor(&b, "a", 1, fine, 8, 0);
    put_tensor(&b, "a", 1, fine, 8, 64);
    put_data(&b, 98, 32);
    assert_refused(&b, "'a' is there twice");
    static const uint64_t second[] = {32, 96, 0, UINT64_MAX - 31};
    for (int i = 0; i < 4; i++) {
        b = header(2, 0);
        put_tensor(&b, "a", 1, fine, 8, 0);
        put_tensor(&b, "b", 1, fine, 8, second[i]);
        put_data(&b, 200, 32);
        assert_refused(&b, "64 is expected");
    }
}

/* Offsets for another alignment than the file says; sums of sizes that leave 64 bits. */
static void sizes_do_not_add_up(void **state)
{
    (void)state;
    const uint64_t fine[] = {32}, huge[] = {1 << 30, 1 << 29, 4};
    struct buf b = header(2, 1);
    put_number(&b, "general.alignment", GGUF_U32, 64, 4);
    put_tensor(&b, "a", 1, (uint64_t[]){8}, 0, 0);
    put_tensor(&b, "b", 1, (uint64_t[]){8}, 0, 32);
    put_data(&b, 200, 64);
    assert_refused(&b, "starts at 32, 64 is expected");
    b = header(3, 0);
    for (int i = 0; i < 3; i++)
        put_tensor(&b, i ? i == 1 ? "b" : "c" : "a", 3, huge, 0, (uint64_t)i << 63);
    put_data(&b, 64, 32);
    assert_refused(&b, "needs 9223372036854775808 bytes");
    b = one("a", 1, fine, UINT32_MAX, 0, 34); // no type, and nothing that would use it
    struct gguf g = parsed(&b);
    assert_null(g.tensor->type);
    gguf_close(&g);
    buf_free(&b);
}

static void unknown_types_are_kept_within_the_file(void **state)
{
    (void)state;
    struct buf b = header(2, 0);
    put_tensor(&b, "new", 1, (uint64_t[]){32}, 0x4001, 0);
    put_tensor(&b, "old", 1, (uint64_t[]){32}, 8, 96);
    put_data(&b, 96 + 34, 32);
    struct gguf g = parsed(&b);
    assert_null(g.tensor[0].type);
    assert_int_equal(g.tensor[0].type_id, 0x4001);
    assert_int_equal(g.tensor[1].offset, 96);
    gguf_close(&g);
    buf_free(&b);
    b = one("new", 1, (uint64_t[]){32}, 0x4001, 1ULL << 50, 34);
    assert_refused(&b, "0 is expected");
    static const uint64_t third[] = {32, 97, 1 << 20};
    static const char *const why[] = {"64 is expected", "64 is expected", "needs 34 bytes"};
    for (int i = 0; i < 3; i++) {
        b = header(3, 0);
        put_tensor(&b, "old", 1, (uint64_t[]){32}, 8, 0);
        put_tensor(&b, "new", 1, (uint64_t[]){32}, 0x4001, 64);
        put_tensor(&b, "last", 1, (uint64_t[]){32}, 8, third[i]);
        put_data(&b, 300, 32);
        assert_refused(&b, why[i]);
    }
}

static void files_are_mapped(void **state)
{
    struct buf b = sample();
    struct gguf g;
    const char *path = scratch_path(*state, "a.gguf");
    scratch_write(path, b.p, b.n);
    assert_int_equal(gguf_open(&g, path), 0);
    assert_int_equal(g.size, b.n);
    assert_memory_equal(g.base, b.p, b.n);
    gguf_close(&g);
    scratch_write(path, b.p, 100);
    assert_int_equal(gguf_open(&g, path), -1);
    assert_ptr_equal(strstr(err_text(), path), err_text());
    scratch_write(path, "", 0);
    assert_int_equal(gguf_open(&g, path), -1);
    assert_int_equal(gguf_open(&g, scratch_path(*state, "none")), -1);
    assert_int_equal(gguf_open(&g, scratch_path(*state, ".")), -1);
    buf_free(&b);
}

static void a_real_file_is_read(void **state)
{
    (void)state;
    struct gguf g;
    char *path = scratch_data("kjv-5m-f16.gguf");
    if (!path)
        skip();
    if (gguf_open(&g, path))
        fail_msg("%s", err_text());
    assert_int_equal(g.n_tensors, 57);
    assert_text(&g, "general.architecture", 1, (const char *[]){"llama"});
    assert_text(&g, "llama.embedding_length", 1, (const char *[]){"256"});
    assert_int_equal(gguf_tensor(&g, "token_embd.weight")->dim[0], 256);
    gguf_close(&g);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_is_read),
        cmocka_unit_test(types_are_found_by_id),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(every_flipped_byte_is_survived),
        cmocka_unit_test(bad_headers_are_refused),
        cmocka_unit_test(bad_pairs_are_refused),
        cmocka_unit_test(bad_alignments_are_refused),
        cmocka_unit_test(bad_tensors_are_refused),
        cmocka_unit_test(sizes_do_not_add_up),
        cmocka_unit_test(unknown_types_are_kept_within_the_file),
        cmocka_unit_test_setup_teardown(files_are_mapped, scratch_setup, scratch_teardown),
        cmocka_unit_test(a_real_file_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
