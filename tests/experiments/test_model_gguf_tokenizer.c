/* llama.cpp's vocabularies, with texts and their ids. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "experiments/model_gguf.h"
#include "tests/datasets/scratch.h"

static void check_line(const struct tokenizer *t, const char *text, size_t n, const char *line)
{
    struct tokens got = {0};
    struct buf ids = {0}, back = {0};
    assert_int_equal(tokenizer_encode(t, text, n, false, &got), 0);
    for (size_t i = 0; i < got.n; i++)
        buf_printf(&ids, " %d", got.id[i]);
    if (strcmp(ids.p ? ids.p : "", line))
        fail_msg("'%.*s': %s, not %s", (int)n, text, ids.p, line);
    assert_int_equal(tokenizer_decode(t, got.id, got.n, &back), 0);
    assert_int_equal(back.n, n);
    if (n)
        assert_memory_equal(back.p, text, n);
    tokens_free(&got);
    buf_free(&ids);
    buf_free(&back);
}

static void fixture(const char *name)
{
    static const char between[] = "\n__ggml_vocab_test__\n";
    char file[64];
    struct gguf g;
    snprintf(file, sizeof file, "%s.inp", name);
    char *path = scratch_data(name), *in = scratch_data(file), *texts, *lines;
    snprintf(file, sizeof file, "%s.out", name);
    char *out = scratch_data(file);
    size_t n, n_lines, tests = 0;
    if (!path || !in || !out)
        return;
    if (gguf_open(&g, path))
        fail_msg("%s", err_text());
    struct tokenizer *t = model_gguf_tokenizer(&g);
    gguf_close(&g);
    if (!t)
        fail_msg("%s", err_text());
    texts = scratch_read(in, &n);
    lines = scratch_read(out, &n_lines);
    char *line = lines;
    for (char *at = texts, *end; at < texts + n; tests++, at = end + strlen(between)) {
        end = memmem(at, n - (size_t)(at - texts), between, strlen(between));
        char *newline = memchr(line, '\n', n_lines - (size_t)(line - lines));
        assert_true(newline && end); // the file ends with a line between
        *newline = 0;
        check_line(t, at, (size_t)(end - at), line);
        line = newline + 1;
    }
    assert_true(tests > 40);
    tokenizer_free(t);
    free(texts);
    free(lines);
    free(path);
    free(in);
    free(out);
}

static void fixtures_are_exact(void **state)
{
    (void)state;
    fixture("ggml-vocab-gpt-2.gguf");
    fixture("ggml-vocab-llama-spm.gguf");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fixtures_are_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
