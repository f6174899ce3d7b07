#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "datasets/corpus.h"
#include "datasets/corpus_build.h"
#include "datasets/source.h"
#include "tests/datasets/scratch.h"

enum { EOT = 256 };

static int progress_calls, stop_after;
static char phases[200];

static int progress(void *arg, const char *what, int64_t done, int64_t total)
{
    (void)arg;
    assert_true(done >= 0 && (!total || done <= total));
    if (!strstr(phases, what))
        strcat(strcat(phases, what), ",");
    return stop_after && ++progress_calls >= stop_after;
}

static const struct corpus_progress PROGRESS = {.update = progress};

static struct corpus_spec spec_of(void *state, const char *const *source)
{
    return (struct corpus_spec){
        .source = source,
        .n_sources = 1,
        .valid_fraction = 0.1,
        .seed = 1,
        .tokenizer = CORPUS_BYTE,
        .context = 8,
        .base_dir = scratch_folder(state),
        .cache_dir = scratch_path(state, "cache/deep"),
    };
}

static void build(const struct corpus_spec *spec, struct corpus *c)
{
    struct buf path = {0};
    if (corpus_build(spec, &PROGRESS, &path) || corpus_open(c, path.p))
        fail_msg("%s", err_text());
    buf_free(&path);
}

static void refused(const struct corpus_spec *spec, const char *reason)
{
    struct buf path = {0};
    assert_int_equal(corpus_build(spec, &PROGRESS, &path), -1);
    if (!strstr(err_text(), reason))
        fail_msg("`%s` does not say `%s`", err_text(), reason);
    buf_free(&path);
}

/* A part as text: bytes as they are, "|" for the end of a document, "_" in front of a token that is
   not to be predicted, "^" where a document starts. */
static char *show(const struct corpus *c, enum corpus_side side)
{
    const int64_t n = c->part[side].tokens;
    int32_t *t = malloc((size_t)(n + 1) * sizeof *t);
    uint8_t *mask = malloc((size_t)n + 1);
    int64_t *start = corpus_documents(c, side);
    struct buf b = {0};
    assert_non_null(start);
    assert_int_equal(corpus_read(c, side, 0, n, t), 0);
    assert_int_equal(corpus_read_mask(c, side, 0, n, mask), 0);
    int64_t d = 0;
    for (int64_t i = 0; i < n; i++) {
        if (d < c->part[side].documents && start[d] == i) {
            buf_text(&b, "^");
            d++;
        }
        buf_printf(&b, "%s%c", mask[i] ? "" : "_", t[i] == EOT ? '|' : (char)t[i]);
    }
    assert_int_equal(d, c->part[side].documents);
    free(t);
    free(mask);
    free(start);
    return b.p ? b.p : strdup("");
}

static void write_documents(void *state, const char *name, int n)
{
    struct buf b = {0};
    for (int i = 0; i < n; i++)
        buf_printf(&b, "document %d of many,\nwith %d in it\n\n", i, i * i);
    scratch_write(scratch_path(state, name), b.p, b.n);
    buf_free(&b);
}

static void test_tokens_and_documents(void **state)
{
    const char *source = "a.txt";
    struct corpus c;
    write_documents(*state, source, 300);
    struct corpus_spec spec = spec_of(*state, &source);
    phases[0] = 0;
    build(&spec, &c);
    assert_string_equal(phases, "reading,encoding,");
    assert_int_equal(c.vocab_size, 257);
    assert_int_equal(c.eot, EOT);
    assert_int_equal(c.part[0].documents + c.part[1].documents, 300);
    assert_in_range(c.part[1].documents, 10, 60);
    char *train = show(&c, CORPUS_TRAIN), *valid = show(&c, CORPUS_VALID);
    for (int i = 0; i < 300; i++) {
        char doc[80];
        sprintf(doc, "^document %d of many,\nwith %d in it", i, i * i);
        const char *in_train = strstr(train, doc), *in_valid = strstr(valid, doc);
        assert_true(!in_train != !in_valid);
        const char *end = (in_train ? in_train : in_valid) + strlen(doc);
        assert_true(!*end || *end == '|');
    }
    assert_true(train[strlen(train) - 1] != '|');
    for (int side = 0; side < 2; side++) {
        const struct corpus_part *p = &c.part[side];
        assert_int_equal(p->tokens, p->bytes + p->documents - 1);
        assert_int_equal(p->loss_bytes, p->bytes);
    }
    free(train);
    free(valid);
    corpus_close(&c);
}

/* The split of a document depends on the seed and on itself only. */
static void test_split_by_hash(void **state)
{
    const char *source = "a.txt";
    struct corpus a, b, other;
    struct corpus_spec spec = spec_of(*state, &source);
    write_documents(*state, source, 2000);
    build(&spec, &a);
    assert_in_range(a.part[1].documents, 150, 250);
    write_documents(*state, source, 4000); // the first 2000 are the same
    build(&spec, &b);
    char *before = show(&a, CORPUS_VALID), *after = show(&b, CORPUS_VALID);
    assert_memory_equal(before, after, strlen(before));
    spec.seed = 2;
    build(&spec, &other);
    char *different = show(&other, CORPUS_VALID);
    assert_string_not_equal(after, different);
    free(before);
    free(after);
    free(different);
    corpus_close(&a);
    corpus_close(&b);
    corpus_close(&other);
}

/* A document that is read in several pieces is on one side, whole. */
static void test_split_keeps_large_documents_whole(void **state)
{
    const char *source = "a.txt";
    struct corpus c;
    struct buf b = {0};
    struct corpus_spec spec = spec_of(*state, &source);
    for (int i = 0; b.n < (size_t)6 * SOURCE_PIECE; i++)
        buf_printf(&b, "line %d of one document without blank lines\n", i);
    const int64_t large = (int64_t)b.n;
    for (int i = 0; i < 100; i++)
        buf_printf(&b, "\nsmall %d\n", i);
    scratch_write(scratch_path(*state, source), b.p, b.n);
    spec.valid_fraction = 0.5;
    build(&spec, &c);
    const int64_t train = c.part[0].tokens, valid = c.part[1].tokens;
    assert_true((train < valid ? train : valid) < 2000);
    assert_true((train < valid ? valid : train) >= large - 1);
    assert_in_range(c.part[1].documents, 25, 75);
    buf_free(&b);
    corpus_close(&c);
}

/* Split `text` with `none`; the parts must be these. */
static void tail(void *state, const char *text, double fraction, const char *train,
                 const char *valid)
{
    const char *source = "tail.txt";
    struct corpus c;
    struct corpus_spec spec = spec_of(state, &source);
    scratch_text(scratch_path(state, source), text);
    spec.valid = SPLIT_TAIL;
    spec.split_on = strstr(text, "\n\n") ? "blank" : "none";
    spec.valid_fraction = fraction;
    spec.context = 1;
    build(&spec, &c);
    char *a = show(&c, CORPUS_TRAIN), *b = show(&c, CORPUS_VALID);
    assert_string_equal(a, train);
    assert_string_equal(b, valid);
    assert_int_equal(c.part[0].bytes + c.part[1].bytes + (strstr(text, "\n\n") ? 4 : 0),
                     strlen(text));
    free(a);
    free(b);
    corpus_close(&c);
    struct buf path = {0};
    assert_int_equal(corpus_build(&spec, NULL, &path), 0);
    unlink(path.p);
    buf_free(&path);
}

static void test_split_by_tail(void **state)
{
    tail(*state, "aaaa\nbbbb\ncccc\ndddd\n", 0.4, "^aaaa\nbbbb\ncccc\n", "^dddd\n");
    tail(*state, "aaaa\nbbbb\ncccc\ndddddddddd", 0.2, "^aaaa\nbbbb\ncccc\n", "^dddddddddd");
    tail(*state, "aaaabbbbccccdddd", 0.25, "^aaaabbbbcccc", "^dddd"); // no line end at all
    tail(*state,
         "ab\xc3\xa4"
         "cd",
         0.5, "^ab",
         "^\xc3\xa4"
         "cd");
    tail(*state, "aaaa\n\nbbbb\n\ncccc", 0.4, "^aaaa|^bbbb", "^cccc");
    tail(*state, "aaaa\n\nbb\nbb\n\ncccc", 0.6, "^aaaa|^bb\n", "^bb|^cccc");
}

static void test_few_documents_take_the_tail(void **state)
{
    const char *source = "a.txt";
    struct corpus c;
    struct corpus_spec spec = spec_of(*state, &source);
    write_documents(*state, source, CORPUS_FEW_DOCUMENTS - 1);
    build(&spec, &c);
    char *valid = show(&c, CORPUS_VALID);
    assert_non_null(strstr(valid, "^document 18 of many"));
    assert_null(strstr(valid, "document 10 of"));
    free(valid);
    corpus_close(&c);
}

/* nanoGPT's way: one text, bytes, no end of document anywhere inside. */
static void test_one_text_is_its_bytes(void **state)
{
    const char *source = "a.txt";
    struct corpus c;
    struct corpus_spec spec = spec_of(*state, &source);
    struct buf text = {0};
    for (int i = 0; text.n < 3 * SOURCE_PIECE; i++)
        buf_printf(&text, "%d\n%s", i, i % 5 ? "" : "\n\n");
    scratch_write(scratch_path(*state, source), text.p, text.n);
    spec.split_on = "none";
    build(&spec, &c);
    int32_t *t = malloc(text.n * sizeof *t);
    const int64_t n = c.part[0].tokens;
    assert_int_equal(n + c.part[1].tokens, text.n);
    assert_true((double)c.part[1].tokens <= 0.1 * (double)text.n + 10);
    assert_int_equal(c.part[0].documents, 1);
    assert_int_equal(corpus_read(&c, CORPUS_TRAIN, 0, n, t), 0);
    assert_int_equal(corpus_read(&c, CORPUS_VALID, 0, c.part[1].tokens, t + n), 0);
    for (size_t i = 0; i < text.n; i++)
        assert_int_equal(t[i], text.p[i]);
    assert_int_equal(t[n - 1], '\n');
    free(t);
    buf_free(&text);
    corpus_close(&c);
}

static void test_pairs_have_a_mask(void **state)
{
    const char *source = "a.jsonl";
    struct corpus c;
    struct corpus_spec spec = spec_of(*state, &source);
    scratch_text(scratch_path(*state, source), "{\"prompt\": \"Q1\", \"completion\": \"a1\"}\n"
                                               "{\"text\": \"plain\"}\n"
                                               "{\"prompt\": \"Q2\", \"completion\": \"a2\"}\n");
    spec.valid_fraction = 0;
    build(&spec, &c);
    char *train = show(&c, CORPUS_TRAIN);
    assert_string_equal(train, "^_Q_1a1|^plain|^_Q_2a2|");
    assert_true(c.part[0].masked);
    assert_int_equal(c.part[0].bytes, 13);
    assert_int_equal(c.part[0].loss_bytes, 9);
    assert_int_equal(c.part[1].tokens, 0);
    free(train);
    corpus_close(&c);
}

static void test_too_small_is_an_error(void **state)
{
    const char *source = "a.txt";
    struct corpus_spec spec = spec_of(*state, &source);
    write_documents(*state, source, 100);
    spec.context = 1000;
    refused(&spec, "the validation part has");
    spec.context = 100000;
    refused(&spec, "the training part has");
    spec.context = 8;
    spec.valid_fraction = 1e-9;
    refused(&spec, "valid: tail");
    assert_int_equal(scratch_count(*state), 2); // the text, the cache
    scratch_text(scratch_path(*state, source), " \n");
    refused(&spec, "no text");
    // nothing under a final name, nothing aside
    DIR *dir = opendir(spec.cache_dir);
    int n = 0;
    while (readdir(dir))
        n++;
    closedir(dir);
    assert_int_equal(n, 2);
}

static time_t time_of(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_mtim.tv_nsec;
}

static void test_a_corpus_is_kept(void **state)
{
    const char *source = "a.txt";
    struct corpus_spec spec = spec_of(*state, &source);
    struct buf first = {0}, again = {0};
    write_documents(*state, source, 100);
    assert_int_equal(corpus_build(&spec, NULL, &first), 0);
    const time_t made = time_of(first.p);
    phases[0] = 0;
    assert_int_equal(corpus_build(&spec, &PROGRESS, &again), 0);
    assert_string_equal(first.p, again.p);
    assert_string_equal(phases, "");
    assert_true(time_of(first.p) == made);
    spec.context = 5000; // not part of its identity, but still checked
    refused(&spec, "one context of 5000");
    spec.context = 8;

    // a damaged one is made again
    size_t n;
    char *good = scratch_read(first.p, &n), *bad = malloc(n);
    memcpy(bad, good, n);
    bad[n / 2] ^= 1;
    scratch_write(first.p, bad, n);
    assert_int_equal(corpus_build(&spec, NULL, &again), 0);
    free(bad);
    bad = scratch_read(first.p, &n);
    assert_memory_equal(good, bad, n);
    free(good);
    free(bad);

    // whatever changes the content changes the name
    const struct corpus_spec base = spec;
    for (int i = 0; i < 5; i++) {
        spec = base;
        if (i == 0)
            spec.seed = 9;
        if (i == 1)
            spec.split_on = "none";
        if (i == 2)
            spec.valid_fraction = 0.2;
        if (i == 3)
            spec.valid = SPLIT_TAIL;
        if (i == 4)
            write_documents(*state, source, 101);
        buf_clear(&again);
        assert_int_equal(corpus_build(&spec, NULL, &again), 0);
        assert_string_not_equal(first.p, again.p);
    }
    buf_free(&first);
    buf_free(&again);
}

static void test_bpe(void **state)
{
    const char *source = "a.txt";
    struct corpus c;
    struct corpus_spec spec = spec_of(*state, &source);
    write_documents(*state, source, 3000);
    spec.tokenizer = CORPUS_BPE;
    spec.vocab_size = 300;
    spec.pre = "gpt-2";
    phases[0] = 0;
    build(&spec, &c);
    assert_string_equal(phases, "reading,learning a tokenizer,encoding,");
    struct tokenizer *t = corpus_tokenizer(&c);
    assert_non_null(t);
    assert_int_equal(c.vocab_size, tokenizer_vocab_size(t));
    assert_true(c.part[0].tokens < c.part[0].bytes / 2);
    int32_t token[200];
    struct buf text = {0};
    assert_int_equal(corpus_read(&c, CORPUS_TRAIN, 0, 200, token), 0);
    assert_int_equal(tokenizer_decode(t, token, 200, &text), 0);
    assert_memory_equal(text.p, "document 0 of many,\nwith 0 in it<|endoftext|>document", 53);

    // the same tokenizer, given as text and as a file: the same tokens
    struct buf json = {0};
    assert_int_equal(tokenizer_write(t, &json), 0);
    assert_int_equal(tokenizer_save(t, scratch_path(*state, "t.json")), 0);
    struct corpus_spec given = spec;
    struct corpus d;
    for (int i = 0; i < 3; i++) {
        struct buf path = {0};
        assert_int_equal(corpus_build(&spec, NULL, &path), 0);
        const char *file[] = {"t.json", path.p, NULL};
        given.tokenizer = file[i] ? CORPUS_FILE : CORPUS_JSON;
        given.tokenizer_path = file[i];
        given.tokenizer_json = json.p;
        given.n_tokenizer_json = json.n;
        build(&given, &d);
        int32_t same[200];
        assert_int_equal(corpus_read(&d, CORPUS_TRAIN, 0, 200, same), 0);
        assert_memory_equal(token, same, sizeof same);
        assert_int_equal(c.part[1].tokens, d.part[1].tokens);
        corpus_close(&d);
        buf_free(&path);
    }
    buf_free(&json);
    buf_free(&text);
    tokenizer_free(t);
    corpus_close(&c);
}

/* Words of the validation part teach the tokenizer nothing. */
static void test_bpe_learns_from_training_only(void **state)
{
    const char *source = "a.txt";
    struct corpus c;
    struct corpus_spec spec = spec_of(*state, &source);
    struct buf text = {0};
    for (int i = 0; i < 100; i++)
        buf_text(&text, i < 60 ? "abab abab abab cdcd abab\n\n" : "zqzq zqzq zqzq zqzq zqzq\n\n");
    scratch_write(scratch_path(*state, source), text.p, text.n);
    spec.valid = SPLIT_TAIL;
    spec.valid_fraction = 0.4;
    spec.tokenizer = CORPUS_BPE;
    spec.vocab_size = 300;
    spec.pre = "gpt-2";
    build(&spec, &c);
    assert_int_equal(c.part[1].documents, 40);
    struct tokenizer *t = corpus_tokenizer(&c);
    int longer = 0;
    for (int i = 0; i < c.vocab_size; i++) {
        size_t n;
        const char *s = tokenizer_bytes(t, i, &n);
        if (!s || n < 2 || i == c.eot)
            continue;
        longer++;
        assert_null(memchr(s, 'z', n));
    }
    assert_true(longer > 2);
    tokenizer_free(t);
    corpus_close(&c);
    buf_free(&text);
}

static void test_interruption(void **state)
{
    const char *source = "a.txt";
    struct corpus_spec spec = spec_of(*state, &source);
    write_documents(*state, source, 1000);
    for (stop_after = 1; stop_after <= 3; stop_after++) {
        progress_calls = 0;
        refused(&spec, "interrupted");
    }
    stop_after = 0;
    DIR *dir = opendir(spec.cache_dir);
    for (struct dirent *e; (e = readdir(dir));)
        assert_true(e->d_name[0] == '.');
    closedir(dir);
}

/* What a child of test_full_disk_and_kills does: a process of its own, since OpenMP does not go on
   after a fork. */
static int build_in_child(char *folder, const char *limit)
{
    const struct rlimit r = {(rlim_t)atol(limit), (rlim_t)atol(limit)};
    struct buf path = {0}, cache = {0};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &r);
    buf_printf(&cache, "%s/cache/deep", folder);
    const char *source = "a.txt";
    const struct corpus_spec spec = {
        .source = &source,
        .n_sources = 1,
        .valid_fraction = 0.1,
        .seed = 1,
        .context = 8,
        .base_dir = folder,
        .cache_dir = cache.p,
    };
    const int failed = corpus_build(&spec, NULL, &path);
    buf_free(&path);
    buf_free(&cache);
    return !failed ? 0 : strstr(err_text(), "File too large") ? 1 : 2;
}

static pid_t start_child(void *state, long limit)
{
    char number[32];
    sprintf(number, "%ld", limit);
    const pid_t child = fork();
    if (!child) {
        execl("/proc/self/exe", "child", scratch_folder(state), number, NULL);
        _exit(3);
    }
    return child;
}

/* A disk that is full at any point, and a kill at any moment: no file, or a whole one. */
static void test_full_disk_and_kills(void **state)
{
    const char *source = "a.txt";
    struct corpus_spec spec = spec_of(*state, &source);
    struct buf path = {0}, again = {0};
    struct stat st;
    int status, killed = 0;
    write_documents(*state, source, 20000);
    assert_int_equal(corpus_build(&spec, NULL, &path), 0);
    assert_int_equal(stat(path.p, &st), 0);
    for (long limit = 100; limit < st.st_size + 100000; limit += st.st_size / 20) {
        unlink(path.p);
        waitpid(start_child(*state, limit), &status, 0);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), limit < st.st_size);
        assert_int_equal(access(path.p, F_OK) != 0, limit < st.st_size);
    }
    for (int i = 0; i < 20; i++) {
        unlink(path.p);
        const pid_t child = start_child(*state, 1 << 30);
        usleep((useconds_t)(1000 + 4000 * i));
        kill(child, SIGKILL);
        waitpid(child, &status, 0);
        killed += WIFSIGNALED(status);
        struct corpus c;
        if (!access(path.p, F_OK)) {
            assert_int_equal(corpus_open(&c, path.p), 0);
            corpus_close(&c);
        }
    }
    assert_true(killed > 0);
    unlink(path.p);
    assert_int_equal(corpus_build(&spec, NULL, &again), 0);
    DIR *dir = opendir(spec.cache_dir);
    for (struct dirent *e; (e = readdir(dir));)
        assert_null(strstr(e->d_name, ".tmp-"));
    closedir(dir);
    buf_free(&path);
    buf_free(&again);
}

static void test_mixed_takes_seconds(void **state)
{
    char *source = scratch_data("mixed.txt.xz");
    if (!source)
        skip();
    struct corpus c;
    const char *const list[] = {source};
    struct corpus_spec spec = spec_of(*state, list);
    struct timespec a, b;
    spec.sha256 = "18bdaacfe9dc581d3cd3216b18065f0688c55e396b6b1b0fe714d9435d2c0aed";
    spec.tokenizer = CORPUS_BPE;
    spec.vocab_size = 8192;
    spec.pre = "gpt-2";
    clock_gettime(CLOCK_MONOTONIC, &a);
    build(&spec, &c);
    clock_gettime(CLOCK_MONOTONIC, &b);
    print_message("mixed.txt.xz, 8192 tokens: %.1f s, %lld + %lld tokens, %.3f bytes per token\n",
                  (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec),
                  (long long)c.part[0].tokens, (long long)c.part[1].tokens,
                  (double)c.part[0].bytes / (double)c.part[0].tokens);
    assert_int_equal(c.part[0].documents + c.part[1].documents, 5084);
    assert_int_equal(c.part[0].bytes + c.part[1].bytes, 32779292);
    corpus_close(&c);
    spec.sha256 = "28bdaacfe9dc581d3cd3216b18065f0688c55e396b6b1b0fe714d9435d2c0aed";
    refused(&spec, "expected 28bd");
    free(source);
}

int main(int argc, char **argv)
{
    if (argc == 3)
        return build_in_child(argv[1], argv[2]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_tokens_and_documents, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_split_by_hash, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_split_keeps_large_documents_whole, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(test_split_by_tail, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_few_documents_take_the_tail, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(test_one_text_is_its_bytes, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(test_pairs_have_a_mask, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_too_small_is_an_error, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(test_a_corpus_is_kept, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_bpe, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_bpe_learns_from_training_only, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(test_interruption, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_full_disk_and_kills, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_mixed_takes_seconds, scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
