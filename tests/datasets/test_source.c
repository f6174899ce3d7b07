#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <lzma.h>

#include "autograd/base/err.h"
#include "datasets/source.h"
#include "tests/datasets/scratch.h"

/* SHA-256 of "abc", from FIPS 180. */
static const char ABC[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

/* All documents, each as "<text>|", "^" between prompt and completion, "~" after a piece that is
   not the last. Returns what source_next did at last, or -2 if the inputs were refused. */
static int gather(void *state, const char *entry, const char *sha256,
                  const struct source_spec *spec, struct buf *out)
{
    struct inputs in;
    struct source *s = NULL;
    struct document d;
    int r = -2;
    buf_clear(out);
    if (!inputs_find(&in, 1, &entry, sha256, scratch_folder(state), scratch_folder(state)) &&
        !source_open(&s, &in, spec)) {
        while ((r = source_next(s, &d)) == 1) {
            buf_add(out, d.text, d.prompt);
            if (d.pair)
                buf_text(out, "^");
            buf_add(out, d.text + d.prompt, d.n - d.prompt);
            buf_text(out, d.last ? "|" : "~");
        }
        if (!r)
            assert_true(source_done(s) >= source_total(s));
    }
    source_close(s);
    inputs_free(&in);
    return r;
}

static void gives(void *state, const char *name, const char *text, const char *split_on,
                  const char *want)
{
    struct buf b = {0};
    scratch_text(scratch_path(state, name), text);
    assert_int_equal(gather(state, name, NULL, &(struct source_spec){.split_on = split_on}, &b), 0);
    assert_string_equal(b.n ? b.p : "", want);
    buf_free(&b);
}

static void fails(void *state, const char *name, const char *text, const char *split_on,
                  const char *reason)
{
    struct buf b = {0};
    if (text)
        scratch_text(scratch_path(state, name), text);
    assert_true(gather(state, name, NULL, &(struct source_spec){.split_on = split_on}, &b) < 0);
    if (!strstr(err_text(), reason))
        fail_msg("`%s` does not say `%s`", err_text(), reason);
    buf_free(&b);
}

static void test_text_is_cut(void **state)
{
    void *s = *state;
    gives(s, "a.txt", "one\ntwo\n\nthree\n \t\n\n  four\n", NULL, "one\ntwo|three|  four|");
    gives(s, "a.txt", "\n\n a\r\nb\r\n\r\nc\r\n", "blank", " a\r\nb|c|");
    gives(s, "a.txt", "a", NULL, "a|");
    gives(s, "a.txt", "", NULL, "");
    gives(s, "a.txt", " \n\n\t", NULL, "");
    gives(s, "a.txt", "\xef\xbb\xbf\xff\n\nb", NULL, "\xef\xbb\xbf\xff|b|"); // bytes as they are
    gives(s, "a.txt", "a\n\nb\n", "none", "a\n\nb\n|");
    gives(s, "a.txt", "a--b---c--", "--+", "a|b|c|");
    gives(s, "a.txt", "Ch 1\nx\nCh 2\ny\nCh 33\nz", "^(?=Ch \\d+$)",
          "Ch 1\nx\n|Ch 2\ny\n|Ch 33\nz|");
    gives(s, "a.txt", "a.\nb\nc.\nd", "(?<=\\.)\n", "a.|b\nc.|d|");
    gives(s, "a.txt", "\xc3\xa4\xff-b", "-", "\xc3\xa4\xff|b|");
    fails(s, "a.txt", "a", "a(", "at character 2");
    fails(s, "a.txt", "a", "", "is empty");
    fails(s, "a.txt", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "(a+)+$x|b", "split_on");
}

static void test_jsonl(void **state)
{
    void *s = *state;
    gives(s, "a.jsonl", "{\"text\": \"a\\nb\", \"id\": 3}\n\n{\"text\": \"\\u00e4\"}", NULL,
          "a\nb|\xc3\xa4|");
    gives(s, "a.jsonl", "\xef\xbb\xbf{\"text\":\"a\"}\r\n{\"text\":\"\"}\n{\"text\":\" \"}\n", NULL,
          "a|");
    gives(s, "a.jsonl",
          "{\"prompt\": \"2+2=\", \"completion\": \"4\"}\n{\"text\": \"t\"}\n"
          "{\"prompt\": \"\", \"completion\": \"c\"}\n{\"prompt\": \"p\", \"completion\": \"\"}\n",
          NULL, "2+2=^4|t|^c|");
    fails(s, "a.jsonl", "{\"text\": \"a\"}\n\n{\"text\": \"b\"\n", NULL, "a.jsonl:3: column");
    fails(s, "a.jsonl", "{\"text\": 3}", NULL, "a.jsonl:1: `text` is not a string");
    fails(s, "a.jsonl", "{\"text\": \"a\", \"text\": \"b\"}", NULL, "duplicate");
    fails(s, "a.jsonl", "[1]", NULL, "is not a JSON object");
    fails(s, "a.jsonl", "{\"content\": \"a\", \"n\": 1}", NULL, "among its keys: content, n");
    fails(s, "a.jsonl", "{\"text\": \"\xff\"}", NULL, "byte 0xff");
    struct buf b = {0};
    scratch_text(scratch_path(s, "k.jsonl"), "{\"body\": \"x\"}\n{\"q\": \"?\", \"a\": \"!\"}");
    const struct source_spec spec = {.keys = {.text = "body", .prompt = "q", .completion = "a"}};
    assert_int_equal(gather(s, "k.jsonl", NULL, &spec, &b), 0);
    assert_string_equal(b.p, "x|?^!|");
    buf_free(&b);
}

/* Documents around the sizes of pieces and refills come out byte for byte. */
static void test_long_documents(void **state)
{
    const char *path = scratch_path(*state, "long.txt");
    struct buf text = {0}, out = {0};
    for (int i = 0; text.n < 5 * SOURCE_PIECE / 2; i++)
        buf_printf(&text, "line %d of many\n", i);
    buf_text(&text, "\nb\n\n");
    for (int i = 0; i < SOURCE_PIECE + 7; i++)
        buf_add(&text, i % 3 ? "\xa4" : "\xe2", 1); // no line end at all
    scratch_write(path, text.p, text.n);

    assert_int_equal(gather(*state, "long.txt", NULL, &(struct source_spec){0}, &out), 0);
    int pieces = 0;
    size_t at = 0, longest = 0, since = 0;
    for (size_t i = 0; i < out.n; i++) {
        if (out.p[i] != '~' && out.p[i] != '|') {
            assert_int_equal(out.p[i], text.p[at]);
            at++;
            continue;
        }
        longest = i - since > longest ? i - since : longest;
        since = i + 1;
        pieces++;
        // the first document is cut at line ends, the last between characters
        if (out.p[i] == '~' && pieces < 3)
            assert_int_equal(text.p[at - 1], '\n');
        if (out.p[i] == '~' && pieces > 4)
            assert_int_equal(text.p[at] & 0xc0, 0xc0);
        while (out.p[i] == '|' && text.p[at] == '\n')
            at++;
    }
    assert_int_equal(at, text.n);
    assert_int_equal(pieces, 3 + 1 + 2);
    assert_true(longest <= SOURCE_PIECE);

    // a pattern finds its separators at every offset to the refills
    buf_clear(&text);
    for (int i = 0; text.n < 3 << 20; i++)
        buf_printf(&text, "%*d<eod>\n", 1 + i % 777, i);
    scratch_write(path, text.p, text.n);
    assert_int_equal(gather(*state, "long.txt", NULL, &(struct source_spec){.split_on = "<eod>\\n"},
                            &out),
                     0);
    const char *p = out.p;
    for (int i = 0; *p; i++) {
        char want[800];
        const int n = sprintf(want, "%*d|", 1 + i % 777, i);
        assert_memory_equal(p, want, n);
        p += n;
    }
    buf_free(&text);
    buf_free(&out);
}

static void write_xz(const char *path, const void *text, size_t n, int streams)
{
    const size_t cap = n + 65536;
    unsigned char *xz = malloc(cap);
    size_t used = 0;
    for (int i = 0; i < streams; i++)
        assert_int_equal(lzma_easy_buffer_encode(6, LZMA_CHECK_CRC64, NULL, text, n, xz, &used,
                                                 cap),
                         LZMA_OK);
    scratch_write(path, xz, used);
    free(xz);
}

static void test_xz(void **state)
{
    const char *path = scratch_path(*state, "a.txt.xz");
    struct buf b = {0};
    write_xz(path, "one\n\ntwo\n\n", 10, 2);
    assert_int_equal(gather(*state, "a.txt.xz", NULL, &(struct source_spec){0}, &b), 0);
    assert_string_equal(b.p, "one|two|one|two|");

    size_t n;
    char *good = scratch_read(path, &n);
    for (size_t i = 0; i < n; i++) { // cut off anywhere: an error, but between the two streams
        scratch_write(path, good, i);
        const int r = gather(*state, "a.txt.xz", NULL, &(struct source_spec){0}, &b);
        assert_int_equal(r, i == n / 2 ? 0 : -1);
    }
    for (size_t i = 0; i < n; i++) { // damage anywhere
        good[i] ^= 0x10;
        scratch_write(path, good, n);
        assert_int_equal(gather(*state, "a.txt.xz", NULL, &(struct source_spec){0}, &b), -1);
        good[i] ^= 0x10;
    }
    free(good);
    fails(*state, "b.txt.xz", "no xz at all", NULL, "not in .xz format");
    buf_free(&b);
}

/* 256 MiB of zeros in 40 KiB: refused before it becomes large. */
static void test_xz_bomb(void **state)
{
    const size_t n = (size_t)256 << 20;
    char *zeros = calloc(n, 1);
    write_xz(scratch_path(*state, "bomb.txt.xz"), zeros, n, 1);
    assert_int_equal(symlink("bomb.txt.xz", scratch_path(*state, "bomb.jsonl.xz")), 0);
    free(zeros);
    fails(*state, "bomb.txt.xz", NULL, NULL, "times as large");
    fails(*state, "bomb.jsonl.xz", NULL, NULL, "64 MiB");
}

static void test_sha256(void **state)
{
    struct buf b = {0};
    const struct source_spec spec = {0};
    scratch_text(scratch_path(*state, "a.txt"), "abc");
    write_xz(scratch_path(*state, "b.txt.xz"), "abc", 3, 1);
    assert_int_equal(gather(*state, "a.txt", ABC, &spec, &b), 0);
    assert_int_equal(gather(*state, "b.txt.xz", ABC, &spec, &b), 0); // of the text
    assert_int_equal(gather(*state,
                            "b.txt.xz#sha256=BA7816bf8f01cfea414140de5dae2223b00361a396177a"
                            "9cb410ff61f20015ad",
                            NULL, &spec, &b),
                     0);
    scratch_text(scratch_path(*state, "a.txt"), "abd");
    assert_int_equal(gather(*state, "a.txt", ABC, &spec, &b), -1);
    assert_non_null(strstr(err_text(), ABC));
    assert_int_equal(gather(*state, "a.txt", "ba78", &spec, &b), -1);
    scratch_text(scratch_path(*state, "c.txt"), "abc");
    assert_int_equal(gather(*state, "*.txt", ABC, &spec, &b), -2);
    assert_int_equal(gather(*state, "bible-kjv", ABC, &spec, &b), -2);
    assert_non_null(strstr(err_text(), "one file"));
    buf_free(&b);
}

static void test_inputs(void **state)
{
    struct buf b = {0};
    const struct source_spec spec = {0};
    mkdir(scratch_path(*state, "d"), 0777);
    mkdir(scratch_path(*state, "d/sub"), 0777);
    mkdir(scratch_path(*state, "d/.git"), 0777);
    scratch_text(scratch_path(*state, "d/b.txt"), "b");
    scratch_text(scratch_path(*state, "d/a10.txt"), "a10");
    scratch_text(scratch_path(*state, "d/sub/c.jsonl"), "{\"text\": \"c\"}");
    scratch_text(scratch_path(*state, "d/.git/x.txt"), "x");
    scratch_text(scratch_path(*state, "d/.hidden.txt"), "x");
    scratch_text(scratch_path(*state, "d/notes.md"), "# x");
    scratch_text(scratch_path(*state, "d/scan.pdf"), "x");
    assert_int_equal(symlink("..", scratch_path(*state, "d/sub/up")), 0);
    assert_int_equal(symlink("b.txt", scratch_path(*state, "d/z.txt")), 0);
    assert_int_equal(gather(*state, "d", NULL, &spec, &b), 0);
    assert_string_equal(b.p, "a10|b|# x|c|b|");
    assert_int_equal(gather(*state, "d/[ab]*.txt", NULL, &spec, &b), 0);
    assert_string_equal(b.p, "a10|b|");
    setenv("OLD", getenv("ATTAR_DATA") ? getenv("ATTAR_DATA") : "", 1);
    setenv("ATTAR_DATA", scratch_path(*state, "d"), 1);
    assert_int_equal(gather(*state, "${ATTAR_DATA}/sub/c.jsonl", NULL, &spec, &b), 0);
    assert_string_equal(b.p, "c|");
    setenv("ATTAR_DATA", getenv("OLD"), 1);
    fails(*state, "d/scan.pdf", NULL, NULL, "unknown kind of file");
    fails(*state, "d/*.pdf", NULL, NULL, "no .txt, .md or .jsonl file matches");
    fails(*state, "d/.git/../sub/*.txt", NULL, NULL, "no file matches");
    fails(*state, "none.txt", NULL, NULL, "No such file");
    fails(*state, "${HOME}/a.txt", NULL, NULL, "${ATTAR_DATA}");
    mkdir(scratch_path(*state, "empty"), 0777);
    fails(*state, "empty", NULL, NULL, "in this folder");
    buf_free(&b);
}

static void told(void *state, const char *entry, const char *want)
{
    struct inputs in;
    struct buf b = {0}, full = {0};
    assert_int_equal(inputs_find(&in, 1, &entry, NULL, scratch_folder(state), "."), 0);
    inputs_describe(&in, &b);
    // % stands for the folder
    for (const char *s = want; *s; s++)
        *s == '%' ? buf_text(&full, scratch_folder(state)) : buf_add(&full, s, 1);
    assert_string_equal(b.n ? b.p : "", full.n ? full.p : "");
    inputs_free(&in);
    buf_free(&b);
    buf_free(&full);
}

/* Of a folder or a pattern it is said what is read, what is not, and why. */
static void test_what_is_read_is_told(void **state)
{
    mkdir(scratch_path(*state, "d"), 0777);
    mkdir(scratch_path(*state, "d/sub"), 0777);
    scratch_text(scratch_path(*state, "d/a.TXT"), "a");
    scratch_text(scratch_path(*state, "d/b.md"), "b");
    scratch_text(scratch_path(*state, "d/c.png"), "c");
    scratch_text(scratch_path(*state, "d/sub/d.jsonl"), "");
    assert_int_equal(symlink("nothing.txt", scratch_path(*state, "d/e.txt")), 0);
    assert_int_equal(mkfifo(scratch_path(*state, "d/f.txt"), 0666), 0);
    told(*state, "d",
         "3 files are read: %/d/a.TXT, %/d/b.md, %/d/sub/d.jsonl; skipped: %/d/c.png (by its name "
         "no .txt, .md or .jsonl), %/d/e.txt (a link to nothing), %/d/f.txt (not a file)");
    told(*state, "d/[ac-s]*",
         "1 file is read: %/d/a.TXT; skipped: %/d/c.png (by its name no .txt, .md or .jsonl), "
         "%/d/e.txt (a link to nothing), %/d/f.txt (not a file), %/d/sub (a folder by itself, or a "
         "link to one)");
    told(*state, "d/b.md", "");
    for (int i = 0; i < 20; i++) {
        char name[20];
        snprintf(name, sizeof name, "d/sub/%02d.txt", i);
        scratch_text(scratch_path(*state, name), "x");
    }
    struct inputs in;
    struct buf b = {0};
    const char *entry = "d/sub";
    assert_int_equal(inputs_find(&in, 1, &entry, NULL, scratch_folder(*state), "."), 0);
    inputs_describe(&in, &b);
    assert_non_null(strstr(b.p, "21 files are read: "));
    assert_non_null(strstr(b.p, "/11.txt and 9 more"));
    inputs_free(&in);
    buf_free(&b);
}

/* Bytes 0 are seen wherever they are, of the file that they are in. */
static void test_binary_is_noticed(void **state)
{
    struct inputs in;
    struct source *s;
    struct document d;
    const char *entry[] = {"a.txt", "b.txt", "c.txt"};
    char *large = malloc(600001);
    memset(large, 'x', 600001);
    large[600000] = 0;
    scratch_text(scratch_path(*state, "a.txt"), "text");
    scratch_write(scratch_path(*state, "b.txt"), large, 600001);
    scratch_write(scratch_path(*state, "c.txt"), large, 600000);
    assert_int_equal(inputs_find(&in, 3, entry, NULL, scratch_folder(*state), "."), 0);
    assert_int_equal(source_open(&s, &in, &(struct source_spec){0}), 0);
    while (source_next(s, &d) == 1)
        ;
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(source_is_binary(s, i), i == 1);
    source_close(s);
    inputs_free(&in);
    free(large);
}

static void test_bible(void **state)
{
    struct buf b = {0};
    const struct source_spec spec = {0};
    const int r = gather(*state, "bible-kjv", NULL, &spec, &b);
    if (r && strstr(err_text(), "not installed")) {
        buf_free(&b);
        print_message("bible-kjv is not installed: skipped\n");
        skip();
    }
    assert_int_equal(r, 0);
    int chapters = 0, verses = 0;
    for (size_t i = 0; i < b.n; i++) {
        chapters += b.p[i] == '|';
        verses += b.p[i] == '|' || b.p[i] == '\n';
    }
    assert_int_equal(chapters, 1189);
    assert_int_equal(verses, 31102);
    assert_memory_equal(b.p, "In the beginning God created the heaven and the earth.\nAnd ", 59);
    buf_free(&b);
}

/* A `bible` of our own in PATH, or none. */
static void with_program(void *state, const char *script, const char *reason)
{
    char *path = strdup(getenv("PATH"));
    const char *bin = scratch_path(state, "bible");
    if (script) {
        scratch_text(bin, script);
        chmod(bin, 0755);
    }
    setenv("PATH", scratch_folder(state), 1);
    fails(state, "bible-kjv", NULL, NULL, reason);
    setenv("PATH", path, 1);
    free(path);
}

static void test_program_that_fails(void **state)
{
    with_program(*state, NULL, "apt-get install bible-kjv");
    with_program(*state, "#!/bin/sh\necho 'Ge1:1 In'\nexit 3\n", "exit status 3");
    with_program(*state, "#!/bin/sh\necho 'Ge1:1 In'\nkill -9 $$\n", "signal 9");
    with_program(*state, "#!/bin/sh\necho 'Ge1:1 In'\necho 'the beginning'\n",
                 "bible-kjv:2: no ref");
    with_program(*state, "#!/bin/sh\nwhile :; do echo x; done\n", "bible-kjv:1: no ref");
}

/* Answers one request with `answer`; returns the port. */
static int serve(const char *answer, pid_t *child)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    const int s = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(s, (struct sockaddr *)&a, n), 0);
    assert_int_equal(listen(s, 1), 0);
    assert_int_equal(getsockname(s, (struct sockaddr *)&a, &n), 0);
    *child = fork();
    if (!*child) {
        char request[4096];
        const int c = accept(s, NULL, NULL);
        (void)!read(c, request, sizeof request);
        (void)!write(c, answer, strlen(answer));
        _exit(0);
    }
    close(s);
    return ntohs(a.sin_port);
}

static void test_url(void **state)
{
    struct buf b = {0};
    char url[100];
    pid_t child;
    int status;
    const struct source_spec spec = {0};
    setenv("no_proxy", "127.0.0.1", 1);
    int port = serve("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", &child);
    sprintf(url, "http://127.0.0.1:%d/dir/x%%20y.txt?v=1", port);
    if (gather(*state, url, ABC, &spec, &b) && strstr(err_text(), "not installed")) {
        kill(child, SIGKILL);
        waitpid(child, &status, 0);
        buf_free(&b);
        print_message("curl is not installed: skipped\n");
        skip();
    }
    waitpid(child, &status, 0);
    assert_string_equal(b.p, "abc|");
    assert_int_equal(access(scratch_path(*state, "ba7816bf8f01cfea-x_20y.txt"), F_OK), 0);
    // the server is gone, the file is kept
    assert_int_equal(gather(*state, url, ABC, &spec, &b), 0);
    assert_string_equal(b.p, "abc|");

    port = serve("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabd", &child);
    sprintf(url, "http://127.0.0.1:%d/z.txt", port);
    assert_int_equal(gather(*state, url, ABC, &spec, &b), -2);
    assert_non_null(strstr(err_text(), "expected ba78"));
    waitpid(child, &status, 0);
    assert_int_equal(gather(*state, url, ABC, &spec, &b), -2);
    assert_non_null(strstr(err_text(), "without network: put the file at"));
    assert_int_equal(gather(*state, url, NULL, &spec, &b), -2);
    assert_non_null(strstr(err_text(), "needs the SHA-256"));
    assert_int_equal(scratch_count(*state), 1);
    buf_free(&b);
}

static void test_mixed(void **state)
{
    (void)state;
    char *path = scratch_data("mixed.txt.xz");
    if (!path)
        skip();
    static const char sha256[] = "18bdaacfe9dc581d3cd3216b18065f0688c55e396b6b1b0fe714d9435d2c0aed";
    struct inputs in;
    struct source *s;
    struct document d;
    int documents = 0;
    size_t bytes = 0;
    assert_int_equal(inputs_find(&in, 1, (const char *const *)&path, sha256, ".", "."), 0);
    assert_int_equal(source_open(&s, &in, &(struct source_spec){0}), 0);
    int r;
    while ((r = source_next(s, &d)) == 1) {
        documents += d.last;
        bytes += d.n;
    }
    assert_int_equal(r, 0);
    assert_int_equal(documents, 5084);
    assert_int_equal(bytes, 32779292); // without the blank lines
    assert_string_equal(source_sha256(s, 0), sha256);
    source_close(s);
    inputs_free(&in);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_text_is_cut, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_jsonl, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_long_documents, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_xz, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_xz_bomb, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_sha256, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_inputs, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_what_is_read_is_told, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_binary_is_noticed, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_bible, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_program_that_fails, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_url, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_mixed, scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
