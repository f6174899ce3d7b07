/* Whose a model is, and under what licence: what outlives import, training, export and quantize. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "compress/gguf_meta.h"
#include "experiments/about.h"
#include "experiments/checkpoint.h"
#include "experiments/cmd.h"
#include "tests/datasets/scratch.h"
#include "tests/experiments/capture.h"
#include "tests/experiments/tiny_gguf.h"
#include "tests/experiments/tiny_model.h"

static void texts(struct gguf_write *w, const char *key, const char *a, const char *b)
{
    gguf_write_texts(w, key, 2);
    gguf_write_item(w, a, strlen(a));
    gguf_write_item(w, b, strlen(b));
}

static void write_about(struct gguf_write *w, int arg)
{
    (void)arg;
    gguf_write_text(w, "general.name", "Smol Two");
    gguf_write_text(w, "general.basename", "smol");
    gguf_write_text(w, "general.author", "Ann");
    gguf_write_text(w, "general.organization", "Acme");
    gguf_write_text(w, "general.url", "https://acme.example/smol");
    gguf_write_text(w, "general.finetune", "Instruct");
    gguf_write_text(w, "general.license", "apache-2.0");
    gguf_write_text(w, "general.license.link", "https://acme.example/licence");
    texts(w, "general.languages", "en", "de");
    texts(w, "general.tags", "tiny", "text-generation");
    gguf_write_u32(w, "general.dataset.count", 1);
    gguf_write_text(w, "general.dataset.0.name", "Words");
    gguf_write_f32(w, "general.sampling.temp", 0.25f);
    gguf_write_u32(w, "general.base_model.count", 1);
    gguf_write_text(w, "general.base_model.0.name", "Smol One");
    gguf_write_text(w, "general.quantized_by", "Bob");
    gguf_write_text(w, "general.size_label", "9T");
    gguf_write_u32(w, "general.file_type", 0);
}

/* What is said behind the key: "" for nothing, "a,b" for a list. */
static const char *said(const struct gguf *g, const char *key)
{
    static char text[256];
    const struct gguf_pair *p = gguf_find(g, key);
    size_t n = 0;
    *text = 0;
    struct cursor c = {.base = p ? p->data : NULL, .size = p ? p->bytes : 0};
    for (uint64_t i = 0; p && i < p->n; i++) {
        char number[32];
        const struct gguf_string s = gguf_text(p, &c, number);
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%.*s", i ? "," : "", (int)s.n, s.s);
    }
    return text;
}

struct fact {
    const char *key, *same, *trained; /* of the model as it was, and after training */
};

static const struct fact facts[] = {
    {"general.license", "apache-2.0", "apache-2.0"},
    {"general.license.link", "https://acme.example/licence", "https://acme.example/licence"},
    {"general.languages", "en,de", "en,de"},
    {"general.tags", "tiny,text-generation", "tiny,text-generation"},
    {"general.dataset.0.name", "Words", "Words"},
    {"general.sampling.temp", "0.25", "0.25"},
    {"general.basename", "smol", "smol"},
    {"general.name", "Smol Two", "tuned"},
    {"general.author", "Ann", ""},
    {"general.organization", "Acme", ""},
    {"general.url", "https://acme.example/smol", ""},
    {"general.finetune", "Instruct", ""},
    {"general.base_model.count", "1", "1"},
    {"general.base_model.0.name", "Smol One", "Smol Two"},
    {"general.base_model.0.author", "", "Ann"},
    {"general.base_model.0.organization", "", "Acme"},
    {"general.base_model.0.url", "", "https://acme.example/smol"},
    {"general.quantized_by", "", ""},
};

static void assert_says(const char *path, bool trained)
{
    struct gguf g;
    if (gguf_open(&g, path))
        fail_msg("%s", err_text());
    for (size_t i = 0; i < sizeof facts / sizeof *facts; i++) {
        const char *want = trained ? facts[i].trained : facts[i].same;
        if (strcmp(said(&g, facts[i].key), want) != 0)
            fail_msg("%s: %s is '%s', not '%s'", path, facts[i].key, said(&g, facts[i].key), want);
    }
    gguf_close(&g);
}

static void attar(int (*command)(int argc, char **argv), const char *const *argv, struct buf *out)
{
    struct buf notes = {0};
    buf_clear(out);
    if (capture_run(command, argv, out, &notes))
        fail_msg("%s: %s", argv[0], err_text());
    buf_free(&notes);
}

static int setup(void **state)
{
    char words[4000];
    if (scratch_setup(state) || chdir(scratch_folder(*state)))
        return -1;
    for (size_t i = 0; i < sizeof words; i++)
        words[i] = (char)('a' + i * i % 25);
    scratch_write("text.txt", words, sizeof words);
    struct transformer m;
    tiny_model_even(&m, ARCH_LLAMA, false);
    tiny_gguf_save("smol.gguf", &(struct tiny_gguf){.m = &m, .more = write_about});
    transformer_free(&m);
    return 0;
}

static void a_model_that_stays_the_same_says_the_same(void **state)
{
    struct buf out = {0};
    (void)state;
    attar(cmd_import, (const char *[]){"import", "smol.gguf", "smol.h5", NULL}, &out);
    attar(cmd_export, (const char *[]){"export", "smol.h5", "again.gguf", NULL}, &out);
    assert_says("again.gguf", false);
    struct gguf g;
    assert_int_equal(gguf_open(&g, "again.gguf"), 0);
    assert_string_not_equal(said(&g, "general.size_label"), "9T"); // counted, not copied
    gguf_close(&g);
    attar(cmd_export, (const char *[]){"export", "smol.h5", "other.gguf", "--name", "other", NULL},
          &out);
    assert_int_equal(gguf_open(&g, "other.gguf"), 0);
    assert_string_equal(said(&g, "general.name"), "other");
    gguf_close(&g);
    attar(cmd_quantize, (const char *[]){"quantize", "smol.gguf", "small.gguf", "Q8_0", NULL},
          &out);
    assert_says("small.gguf", false);
    buf_free(&out);
}

/* Through two stages, resumed or not: what bound the source binds what was made of it, and the
   source is named. `attar check` foretells the size with all that. */
static void a_model_that_is_trained_on_names_its_base(void **state)
{
    static const char config[] =
        "name: tuned\n"
        "data: {corpus: text.txt, tokenizer: {type: file, path: smol.h5}, split_on: none,\n"
        "       valid: tail, valid_fraction: 0.3}\n"
        "stages:\n"
        "  - pretrain: {from: smol.h5, steps: 1, batch_tokens: 640, precision: f32}\n"
        "  - qat: {type: q8_0, steps: 1, batch_tokens: 640, precision: f32}\n"
        "  - export: {type: q8_0}\n";
    static const char file[] = "runs/tuned/03-export/tuned-Q8_0.gguf";
    struct buf out = {0};
    struct stat s;
    char size[64];
    (void)state;
    scratch_text("c.yaml", config);
    attar(cmd_import, (const char *[]){"import", "smol.gguf", "smol.h5", NULL}, &out);
    attar(cmd_check, (const char *[]){"check", "c.yaml", NULL}, &out);
    struct buf check = out;
    out = (struct buf){0};
    attar(cmd_run, (const char *[]){"run", "c.yaml", NULL}, &out);
    assert_says(file, true);
    assert_int_equal(stat(file, &s), 0);
    snprintf(size, sizeof size, "file size           %lld bytes\n", (long long)s.st_size);
    if (!strstr(check.p, size))
        fail_msg("'%s' is not in\n%s", size, check.p);
    // a model that says nothing becomes one that says nothing
    struct transformer m;
    struct gguf g;
    tiny_model_even(&m, ARCH_LLAMA, false);
    tiny_gguf_save("smol.gguf", &(struct tiny_gguf){.m = &m});
    attar(cmd_import, (const char *[]){"import", "smol.gguf", "smol.h5", NULL}, &out);
    attar(cmd_export, (const char *[]){"export", "smol.h5", "again.gguf", NULL}, &out);
    assert_int_equal(gguf_open(&g, "again.gguf"), 0);
    assert_string_equal(said(&g, "general.name"), "again");
    assert_string_equal(said(&g, "general.license"), "");
    gguf_close(&g);
    transformer_free(&m);
    buf_free(&check);
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_model_that_stays_the_same_says_the_same, setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(a_model_that_is_trained_on_names_its_base, setup,
                                        scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
