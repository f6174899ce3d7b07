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
#include "compress/gguf_write.h"
#include "tests/autograd/durable.h"
#include "tests/datasets/scratch.h"

/* What `number` writes of each kind, as gguf_text() prints it. */
static const struct {
    const char *key;
    enum gguf_kind kind;
    union {
        int64_t i;
        uint64_t u;
        float f;
        double d;
    } x;
    const char *text;
} numbers[] = {
    {"n.u8", GGUF_U8, {.u = 200}, "200"},
    {"n.i8", GGUF_I8, {.i = -100}, "-100"},
    {"n.u16", GGUF_U16, {.u = 65000}, "65000"},
    {"n.i16", GGUF_I16, {.i = -300}, "-300"},
    {"n.u32", GGUF_U32, {.u = 4000000000}, "4000000000"},
    {"n.i32", GGUF_I32, {.i = -2000000000}, "-2000000000"},
    {"n.f32", GGUF_F32, {.f = 0.375f}, "0.375"},
    {"n.bool", GGUF_BOOL, {.u = 1}, "true"},
    {"n.u64", GGUF_U64, {.u = 1ULL << 63}, "9223372036854775808"},
    {"n.i64", GGUF_I64, {.i = -5000000000}, "-5000000000"},
    {"n.f64", GGUF_F64, {.d = -1.0625}, "-1.0625"},
};

enum { NUMBERS = sizeof numbers / sizeof *numbers };

static void declare_pairs(struct gguf_write *w)
{
    gguf_write_text(w, "general.architecture", "llama");
    for (int i = 0; i < NUMBERS; i++)
        gguf_write_number(w, numbers[i].key, numbers[i].kind, &numbers[i].x);
    gguf_write_bytes(w, "t.zero", "a\0b", 3);
    gguf_write_texts(w, "t.list", 3);
    gguf_write_item(w, "one", 3);
    gguf_write_item(w, "", 0);
    gguf_write_item(w, "drei", 4);
    gguf_write_list(w, "l.i16", GGUF_I16, 3, (int16_t[]){7, -7, 300});
    gguf_write_list(w, "l.empty", GGUF_F32, 0, "");
    gguf_write_u32(w, "s.u32", 12);
    gguf_write_u64(w, "s.u64", 1ULL << 40);
    gguf_write_f32(w, "s.f32", 1e-5f);
    gguf_write_bool(w, "s.no", false);
}

static void declare_tensors(struct gguf_write *w)
{
    gguf_write_tensor(w, "a.weight", gguf_type(12), 2, (uint64_t[]){256, 2});  // 288 bytes
    gguf_write_tensor(w, "b.weight", gguf_type(0), 1, (uint64_t[]){5});        // 20
    gguf_write_tensor(w, "c.weight", gguf_type(8), 3, (uint64_t[]){32, 1, 3}); // 102
}

enum { A = 288, B = 20, C = 102 };

static char data[A + B + C];

static void fill(void)
{
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (char)(i * 7 + 3);
}

/* The data in pieces of any size within a tensor. */
static int write_data(struct gguf_write *w)
{
    return gguf_write_data(w, data, 100) || gguf_write_data(w, data + 100, A - 100) ||
           gguf_write_data(w, data + A, B) || gguf_write_data(w, data + A + B, C);
}

static void write_sample(const char *path, uint32_t alignment)
{
    struct gguf_write w = {.alignment = alignment};
    fill();
    declare_pairs(&w);
    declare_tensors(&w);
    const uint64_t size = gguf_write_size(&w);
    if (gguf_write_open(&w, path) || write_data(&w) || gguf_write_commit(&w))
        fail_msg("%s", err_text());
    struct stat s;
    assert_int_equal(stat(path, &s), 0);
    assert_int_equal(s.st_size, size);
}

static void assert_text(const struct gguf *g, const char *key, const char *text, size_t n)
{
    const struct gguf_pair *p = gguf_find(g, key);
    char number[32];
    assert_non_null(p);
    struct cursor c = {.base = p->data, .size = p->bytes};
    const struct gguf_string s = gguf_text(p, &c, number);
    assert_int_equal(s.n, n);
    assert_memory_equal(s.s, text, n);
}

static void read_sample(const char *path, uint32_t alignment)
{
    struct gguf g;
    if (gguf_open(&g, path))
        fail_msg("%s", err_text());
    assert_int_equal(g.version, 3);
    assert_int_equal(g.alignment, alignment);
    assert_text(&g, "general.architecture", "llama", 5);
    assert_text(&g, "t.zero", "a\0b", 3);
    assert_text(&g, "s.u64", "1099511627776", 13);
    assert_text(&g, "s.f32", "1e-05", 5);
    assert_text(&g, "s.no", "false", 5);
    for (int i = 0; i < NUMBERS; i++) {
        assert_int_equal(gguf_find(&g, numbers[i].key)->kind, numbers[i].kind);
        assert_text(&g, numbers[i].key, numbers[i].text, strlen(numbers[i].text));
    }
    const struct gguf_pair *list = gguf_find(&g, "l.i16");
    assert_true(list->list);
    assert_int_equal(list->n, 3);
    assert_memory_equal(list->data, ((int16_t[]){7, -7, 300}), 6);
    assert_int_equal(gguf_find(&g, "l.empty")->n, 0);
    assert_int_equal(gguf_find(&g, "t.list")->n, 3);
    assert_int_equal(g.n_tensors, 3);
    static const struct {
        const char *name;
        size_t at, bytes;
    } want[] = {{"a.weight", 0, A}, {"b.weight", A, B}, {"c.weight", A + B, C}};
    for (int i = 0; i < 3; i++) {
        const struct gguf_tensor *t = gguf_tensor(&g, want[i].name);
        assert_non_null(t);
        assert_int_equal(t->bytes, want[i].bytes);
        assert_memory_equal(t->data, data + want[i].at, want[i].bytes);
    }
    assert_int_equal(g.size % alignment, 0); // the last tensor is padded as well
    gguf_close(&g);
}

static void every_kind_comes_back(void **state)
{
    const char *path = scratch_path(*state, "all.gguf");
    static const uint32_t alignments[] = {0, 8, 64, 4096};
    for (int i = 0; i < 4; i++) {
        write_sample(path, alignments[i]);
        read_sample(path, alignments[i] ? alignments[i] : 32);
    }
    assert_int_equal(scratch_count(*state), 1);
}

/* Random metadata and tensors come back, whatever they are. */
static void random_files_come_back(void **state)
{
    const char *path = scratch_path(*state, "random.gguf");
    const uint64_t key = rng_key(11, "random files");
    for (uint64_t k = 0; k < 40; k++) {
        uint64_t at = k << 20;
        const uint64_t pairs = rng_below(key, at++, 30), tensors = rng_below(key, at++, 12);
        const uint32_t alignment = rng_below(key, at++, 2) ? 0 : 8U << rng_below(key, at++, 8);
        struct gguf_write w = {.alignment = alignment};
        static unsigned char bytes[2048];
        char name[32];
        struct gguf g;
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = (unsigned char)rng_below(key, at++, 256);
        for (uint64_t i = 0; i < pairs; i++) {
            const enum gguf_kind kind = (enum gguf_kind)rng_below(key, at++, GGUF_KINDS);
            const size_t n = (size_t)rng_below(key, at++, 50);
            snprintf(name, sizeof name, "key.%llu", (unsigned long long)i);
            if (kind == GGUF_TEXT)
                gguf_write_bytes(&w, name, bytes + i, n);
            else if (kind == GGUF_LIST)
                gguf_write_list(&w, name, GGUF_U64, n, bytes);
            else
                gguf_write_number(&w, name, kind, bytes + i);
        }
        const struct gguf_type *type[12];
        uint64_t dim[12][2];
        for (uint64_t i = 0; i < tensors; i++) {
            type[i] = gguf_type((uint32_t[]){0, 1, 8, 2, 12, 30}[rng_below(key, at++, 6)]);
            dim[i][0] = (uint64_t)type[i]->block * (1 + rng_below(key, at++, 3));
            dim[i][1] = 1 + rng_below(key, at++, 2);
            snprintf(name, sizeof name, "tensor.%llu", (unsigned long long)i);
            gguf_write_tensor(&w, name, type[i], 2, dim[i]);
        }
        int rc = gguf_write_open(&w, path);
        for (uint64_t i = 0; i < tensors && !rc; i++)
            rc = gguf_write_data(&w, bytes + i,
                                 dim[i][0] / (uint64_t)type[i]->block * (uint64_t)type[i]->bytes *
                                     dim[i][1]);
        if (rc || gguf_write_commit(&w) || gguf_open(&g, path))
            fail_msg("%s", err_text());
        assert_int_equal(g.n_tensors, tensors);
        for (uint64_t i = 0; i < tensors; i++) {
            assert_ptr_equal(g.tensor[i].type, type[i]);
            assert_memory_equal(g.tensor[i].dim, dim[i], sizeof dim[i]);
            assert_memory_equal(g.tensor[i].data, bytes + i, g.tensor[i].bytes);
        }
        assert_int_equal(g.n_pairs, pairs + (alignment != 0));
        for (uint64_t i = 0; i < pairs; i++)
            if (!g.pair[i].list && g.pair[i].kind != GGUF_TEXT)
                assert_memory_equal(g.pair[i].data, bytes + i, g.pair[i].bytes);
        gguf_close(&g);
    }
}

static void pairs_of_another_file_are_copied(void **state)
{
    const char *from = scratch_path(*state, "from.gguf"), *to = scratch_path(*state, "to.gguf");
    struct gguf g;
    struct gguf_write w = {0};
    write_sample(from, 0);
    assert_int_equal(gguf_open(&g, from), 0);
    for (size_t i = 0; i < g.n_pairs; i++)
        gguf_write_pair(&w, &g.pair[i]);
    declare_tensors(&w);
    assert_false(gguf_write_open(&w, to) || write_data(&w) || gguf_write_commit(&w));
    gguf_close(&g);
    size_t n, m;
    char *a = scratch_read(from, &n), *b = scratch_read(to, &m);
    assert_int_equal(n, m);
    assert_memory_equal(a, b, n);
    free(a);
    free(b);
}

/* Synced, renamed, the folder synced: in this order. */
static void the_file_is_durable_before_it_has_its_name(void **state)
{
    *durable_calls = 0;
    write_sample(scratch_path(*state, "all.gguf"), 0);
    const char *r = strchr(durable_calls, 'r');
    assert_non_null(r);
    assert_int_equal(durable_calls[0], 'f');
    assert_string_equal(r, "rd");
}

static void assert_refused(void *state, struct gguf_write *w, const char *part)
{
    const char *path = scratch_path(state, "refused.gguf");
    assert_int_equal(gguf_write_open(w, path), -1);
    if (!strstr(err_text(), part))
        fail_msg("'%s' is not in '%s'", part, err_text());
    gguf_write_abandon(w);
    assert_int_equal(scratch_count(state), 0);
}

static void what_no_reader_takes_is_not_written(void **state)
{
    static const uint64_t dim[] = {256, 0, 1, 1, 1}, odd[] = {100},
                          huge[] = {1 << 30, 1 << 30, 1 << 30};
    char name[GGUF_NAME + 1];
    struct gguf_write w = {0};
    memset(name, 'x', sizeof name);
    name[GGUF_NAME] = 0;
    gguf_write_tensor(&w, name, gguf_type(0), 1, odd);
    assert_refused(*state, &w, "a name has 1 to 63 bytes");
    gguf_write_tensor(&w, "", gguf_type(0), 1, odd);
    assert_refused(*state, &w, "a name has 1 to 63 bytes");
    gguf_write_tensor(&w, "a", gguf_type(0), 2, dim);
    assert_refused(*state, &w, "dimension 1 is 0");
    gguf_write_tensor(&w, "a", gguf_type(0), 5, dim);
    assert_refused(*state, &w, "5 dimensions");
    gguf_write_tensor(&w, "a", gguf_type(0), 0, dim);
    assert_refused(*state, &w, "0 dimensions");
    gguf_write_tensor(&w, "a", gguf_type(12), 1, odd);
    assert_refused(*state, &w, "in blocks of 256");
    gguf_write_tensor(&w, "a", gguf_type(0), 3, huge);
    assert_refused(*state, &w, "too large");
    gguf_write_tensor(&w, "a", gguf_type(0), 1, odd);
    gguf_write_tensor(&w, "b", gguf_type(0), 1, odd);
    gguf_write_tensor(&w, "a", gguf_type(0), 1, odd);
    assert_refused(*state, &w, "'a' is declared twice");
    gguf_write_u32(&w, "k", 1);
    gguf_write_bool(&w, "k", true);
    assert_refused(*state, &w, "key 'k' is there twice");
    gguf_write_u32(&w, "", 1);
    assert_refused(*state, &w, "0 bytes of a key");
    gguf_write_u32(&w, "general.alignment", 13);
    assert_refused(*state, &w, "not a power of two");
    w.alignment = 3;
    assert_refused(*state, &w, "not a power of two");
}

/* Writing stops at every byte of the file: reserved at once, or only found when written. */
static void a_full_disk_leaves_nothing(void **state)
{
    const char *path = scratch_path(*state, "full.gguf");
    struct rlimit old;
    signal(SIGXFSZ, SIG_IGN);
    write_sample(path, 0);
    struct stat s;
    assert_int_equal(stat(path, &s), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    for (rlim_t room = 0; room < (rlim_t)s.st_size; room += 37)
        for (int late = 0; late < 2; late++) {
            const struct rlimit small = {room, old.rlim_max};
            struct gguf_write w = {0};
            declare_pairs(&w);
            declare_tensors(&w);
            if (!late)
                assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
            int rc = gguf_write_open(&w, path);
            assert_int_equal(rc, late ? 0 : -1);
            if (late)
                assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
            if (!rc)
                rc = write_data(&w);
            assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
            assert_true(rc);
            assert_non_null(strstr(err_text(), "File too large"));
            gguf_write_abandon(&w);
            assert_int_equal(scratch_count(*state), 0);
        }
}

/* A byte that the disk gives back otherwise, in the header, in data, or in front of its end. */
static void what_reads_back_otherwise_gets_no_name(void **state)
{
    const char *path = scratch_path(*state, "changed.gguf");
    fill();
    for (int at = 0; at < 4; at++) {
        struct gguf_write w = {0};
        declare_pairs(&w);
        declare_tensors(&w);
        assert_false(gguf_write_open(&w, path) || write_data(&w));
        const off_t place[] = {30, (off_t)w.head.n + 5, (off_t)w.head.n + A + 1,
                               (off_t)(w.head.n + w.bytes) - 27};
        if (at < 3)
            assert_int_equal(pwrite(w.aside.fd, "\xee", 1, place[at]), 1);
        else
            assert_int_equal(ftruncate(w.aside.fd, place[at]), 0);
        assert_int_equal(gguf_write_commit(&w), -1);
        assert_non_null(strstr(err_text(), "does not give back"));
        assert_int_equal(scratch_count(*state), 0);
    }
}

static void a_file_that_cannot_be_synced_gets_no_name(void **state)
{
    const char *path = scratch_path(*state, "unsynced.gguf");
    struct gguf_write w = {0};
    scratch_text(path, "as it was");
    declare_tensors(&w);
    assert_false(gguf_write_open(&w, path) || write_data(&w));
    durable_failing_sync = true;
    assert_int_equal(gguf_write_commit(&w), -1);
    durable_failing_sync = false;
    size_t n;
    char *was = scratch_read(path, &n);
    assert_int_equal(n, 9);
    assert_memory_equal(was, "as it was", n);
    free(was);
    assert_int_equal(scratch_count(*state), 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_kind_comes_back),
        TEST(random_files_come_back),
        TEST(pairs_of_another_file_are_copied),
        TEST(the_file_is_durable_before_it_has_its_name),
        TEST(what_no_reader_takes_is_not_written),
        TEST(a_full_disk_leaves_nothing),
        TEST(what_reads_back_otherwise_gets_no_name),
        TEST(a_file_that_cannot_be_synced_gets_no_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
