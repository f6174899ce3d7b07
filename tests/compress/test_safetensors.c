#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/buf.h"
#include "autograd/base/err.h"
#include "compress/safetensors.h"
#include "tests/datasets/scratch.h"

static const char fine[] = "{\"b\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[8,20]},"
                           "\"__metadata__\":{\"format\":\"pt\"},"
                           "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
                           "\"c\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[20,28]}}  ";

static struct buf file_of(const char *header, uint64_t claimed, size_t data)
{
    struct buf b = {0};
    for (int i = 0; i < 8; i++)
        buf_add(&b, &(char){(char)(claimed >> 8 * i)}, 1);
    buf_text(&b, header);
    for (size_t i = 0; i < data; i++)
        buf_add(&b, &(char){(char)i}, 1);
    return b;
}

static const char *path;

static int setup(void **state)
{
    if (scratch_setup(state))
        return -1;
    path = scratch_path(*state, "a.safetensors");
    return 0;
}

static int open_bytes(struct safetensors *s, const char *bytes, size_t n)
{
    scratch_write(path, bytes, n);
    return safetensors_open(s, path);
}

static void assert_refused(const char *header, size_t data, const char *part)
{
    struct safetensors s;
    struct buf b = file_of(header, strlen(header), data);
    if (!open_bytes(&s, b.p, b.n))
        fail_msg("accepted: %s", header);
    if (!strstr(err_text(), part))
        fail_msg("'%s' is not in '%s'", part, err_text());
    buf_free(&b);
}

static void the_header_is_read(void **state)
{
    (void)state;
    struct safetensors s;
    struct buf b = file_of(fine, strlen(fine), 28);
    if (open_bytes(&s, b.p, b.n))
        fail_msg("%s", err_text());
    assert_int_equal(s.n, 3);
    assert_string_equal(s.tensor[0].name, "a");
    assert_string_equal(s.tensor[1].name, "b");
    assert_string_equal(s.tensor[1].type->name, "BF16");
    assert_int_equal(s.tensor[1].nd, 2);
    assert_int_equal(s.tensor[1].dim[1], 3);
    assert_int_equal(s.tensor[2].nd, 0);
    assert_int_equal(s.tensor[2].numel, 1);
    assert_int_equal(s.data, 8 + strlen(fine));
    assert_int_equal(s.n_notes, 1);
    assert_string_equal(s.note[0].text, "pt");
    safetensors_close(&s);
    buf_free(&b);
}

static void every_truncation_is_refused(void **state)
{
    (void)state;
    struct safetensors s;
    struct buf b = file_of(fine, strlen(fine), 28);
    for (size_t n = 0; n < b.n; n++)
        if (!open_bytes(&s, b.p, n))
            fail_msg("accepted with %zu of %zu bytes", n, b.n);
    buf_free(&b);
}

static void every_flipped_byte_is_survived(void **state)
{
    (void)state;
    static const unsigned char flip[] = {0xff, 0x01, 0x10, 0x80};
    struct buf b = file_of(fine, strlen(fine), 28);
    for (size_t i = 0; i < b.n - 28; i++)
        for (size_t k = 0; k < sizeof flip; k++) {
            struct safetensors s;
            b.p[i] = (char)(b.p[i] ^ flip[k]);
            if (!open_bytes(&s, b.p, b.n)) {
                for (size_t t = 0; t < s.n; t++)
                    assert_true(s.data + s.tensor[t].end <= b.n);
                safetensors_close(&s);
            }
            b.p[i] = (char)(b.p[i] ^ flip[k]);
        }
    buf_free(&b);
}

static void bad_lengths_are_refused(void **state)
{
    (void)state;
    static const uint64_t claimed[] = {0,         1, 1000, 100000001, UINT64_MAX, UINT64_MAX - 7,
                                       1ULL << 63};
    for (int i = 0; i < 7; i++) {
        struct safetensors s;
        struct buf b = file_of(fine, claimed[i], 28);
        assert_int_equal(open_bytes(&s, b.p, b.n), -1);
        assert_non_null(strstr(err_text(), "a header of"));
        buf_free(&b);
    }
}

#define A(dtype, shape, offsets)                                                                   \
    "{\"a\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

static void bad_headers_are_refused(void **state)
{
    (void)state;
    assert_refused("[1,2]", 0, "does not start with {");
    assert_refused("{\"a\":", 0, "byte");
    assert_refused("{\"a\":1}", 0, "no dtype");
    assert_refused("{\"a\\u001b\":1}", 0, "control characters");
    assert_refused("{\"a\":{\"dtype\":3}}", 0, "no dtype");
    assert_refused("{\"__metadata__\":3}", 0, "no object");
    assert_refused("{\"__metadata__\":{\"a\":3}}", 0, "no text");
    assert_refused(A("F31", "[2]", "[0,8]"), 8, "'F31' is unknown");
    assert_refused(A("F32", "2", "[0,8]"), 8, "shape");
    assert_refused(A("F32", "[-2]", "[0,8]"), 8, "shape");
    assert_refused(A("F32", "[2.0]", "[0,8]"), 8, "shape");
    assert_refused(A("F32", "[1,1,1,1,1,1,1,1,2]", "[0,8]"), 8, "shape");
    assert_refused(A("F32", "[2]", "[0]"), 8, "data_offsets");
    assert_refused(A("F32", "[2]", "[8,0]"), 8, "data_offsets");
    assert_refused(A("F32", "[2]", "[-8,0]"), 8, "data_offsets");
    assert_refused(A("F32", "[2]", "[0,9]"), 8, "there are 8 bytes");
    assert_refused(A("F32", "[3]", "[0,8]"), 8, "3 elements of F32 do not make 8 bytes");
    assert_refused(A("F4", "[3]", "[0,1]"), 1, "do not make");
    assert_refused(A("F32", "[4294967296,4294967296]", "[0,8]"), 8, "2^64 elements");
    assert_refused(A("F32", "[2305843009213693952]", "[0,0]"), 0, "do not make");
    assert_refused(A("F32", "[1]", "[4,8]"), 8, "starts at 4, 0 is expected");
    assert_refused(A("F32", "[1]", "[0,4]"), 8, "end at 4, the data has 8");
    assert_refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
                   "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[2,6]}}",
                   6, "starts at 2, 4 is expected");
    assert_refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
                   "\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}",
                   4, "duplicate");
}

static void no_file_is_an_error(void **state)
{
    struct safetensors s;
    assert_int_equal(safetensors_open(&s, scratch_path(*state, "none")), -1);
    assert_int_equal(safetensors_open(&s, scratch_path(*state, ".")), -1);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, scratch_teardown)
    const struct CMUnitTest tests[] = {
        TEST(the_header_is_read),
        TEST(every_truncation_is_refused),
        TEST(every_flipped_byte_is_survived),
        TEST(bad_lengths_are_refused),
        TEST(bad_headers_are_refused),
        TEST(no_file_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
