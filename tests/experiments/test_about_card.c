/* What a Hugging Face folder says about its model. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "compress/gguf.h"
#include "experiments/about.h"
#include "experiments/cmd.h"
#include "tests/datasets/scratch.h"
#include "tests/experiments/hf_folder.h"

static const char card[] = "---\n"
                           "license: other\n"
                           "license_name: acme-1\n"
                           "license_link: https://acme.example/licence\n"
                           "language:\n- en\n- de\n"
                           "tags: [tiny, words]\n"
                           "pipeline_tag: text-generation\n"
                           "model_name: Smol Two\n"
                           "model_creator: Ann\n"
                           "organization: Acme\n"
                           "base_model: acme/smol-one\n"
                           "datasets:\n- acme/words\n- https://acme.example/more\n"
                           "widget:\n- text: 'a: b'\n"
                           "---\n"
                           "# Smol\n\n---\nnot: yaml: here\n";

static const struct {
    const char *key, *value;
} facts[] = {
    {"general.license", "other"},
    {"general.license.name", "acme-1"},
    {"general.license.link", "https://acme.example/licence"},
    {"general.languages", "en,de"},
    {"general.tags", "tiny,words,text-generation"},
    {"general.name", "Smol Two"},
    {"general.author", "Ann"},
    {"general.organization", "Acme"},
    {"general.base_model.count", "1"},
    {"general.base_model.0.name", "smol-one"},
    {"general.base_model.0.organization", "acme"},
    {"general.base_model.0.repo_url", "https://huggingface.co/acme/smol-one"},
    {"general.dataset.count", "2"},
    {"general.dataset.0.repo_url", "https://huggingface.co/datasets/acme/words"},
    {"general.dataset.1.repo_url", "https://acme.example/more"},
    {"general.version", ""},
};

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

static void a_card_becomes_metadata(void **state)
{
    struct buf about = {0};
    struct gguf g;
    scratch_text(scratch_path(*state, "README.md"), card);
    assert_int_equal(about_take_card(scratch_folder(*state), &about), 0);
    assert_int_equal(gguf_parse(&g, about.p, about.n), 0);
    for (size_t i = 0; i < sizeof facts / sizeof *facts; i++)
        if (strcmp(said(&g, facts[i].key), facts[i].value) != 0)
            fail_msg("%s: '%s', not '%s'", facts[i].key, said(&g, facts[i].key), facts[i].value);
    gguf_close(&g);
    buf_free(&about);
}

static void cards_that_say_nothing(void **state)
{
    static const char *const cards[] = {
        "",
        "# Smol\n",
        "---\n---\ntext\n",
        "---\nlicense: mit\n",
        "---\n-\n---\n",
        "---\n[1]\n---\n",
        "---\nwidget: 3\n---\n",
        "---\na: [\n---\n", // a warning
    };
    for (size_t i = 0; i < sizeof cards / sizeof *cards; i++) {
        struct buf about = {0};
        scratch_text(scratch_path(*state, "README.md"), cards[i]);
        if (about_take_card(scratch_folder(*state), &about))
            fail_msg("'%s': %s", cards[i], err_text());
        assert_int_equal(about.n, 0);
        buf_free(&about);
    }
    struct buf about = {0};
    remove(scratch_path(*state, "README.md"));
    assert_int_equal(about_take_card(scratch_folder(*state), &about), 0);
    assert_int_equal(about.n, 0);
}

/* It stays with the model on its way to GGUF. */
static void a_card_outlives_import_and_export(void **state)
{
    const char *folder = hf_copied(*state, "llama");
    char *from = (char *)(uintptr_t)folder;
    char *h5 = (char *)(uintptr_t)scratch_path(*state, "m.h5");
    char *out = (char *)(uintptr_t)scratch_path(*state, "m.gguf");
    char *import[] = {"import", from, h5, NULL}, *export[] = {"export", h5, out, NULL};
    struct gguf g;
    scratch_text(hf_in(folder, "README.md"), card);
    if (cmd_import(3, import) || cmd_export(3, export) || gguf_open(&g, out))
        fail_msg("%s", err_text());
    assert_string_equal(said(&g, "general.license"), "other");
    assert_string_equal(said(&g, "general.languages"), "en,de");
    assert_string_equal(said(&g, "general.organization"), "Acme");
    gguf_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_card_becomes_metadata, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(a_card_outlives_import_and_export, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(cards_that_say_nothing, scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
