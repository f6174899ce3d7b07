/* The model card: README.md of a Hugging Face folder, which begins with YAML between lines of ---.
   Keys are the Hub's (model-cards-metadata) and those of llama.cpp's converter (gguf-py's
   metadata.py), whose GGUF names they get. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "autograd/base/file.h"
#include "experiments/about.h"
#include "experiments/yaml.h"

enum { CARD_MOST = 16 << 20, PATH = 4096, KEY = 128 };

/* Of several keys the first that is there. */
static const struct {
    const char *key, *card[3];
} texts[] = {
    {"general.name", {"name", "model_name"}},
    {"general.author", {"author", "model_author", "model_creator"}},
    {"general.version", {"version", "model_version"}},
    {"general.organization", {"organization", "model_organization"}},
    {"general.description", {"description", "model_description"}},
    {"general.basename", {"basename", "model_basename"}},
    {"general.finetune", {"finetune", "model_finetune"}},
    {"general.source.url", {"url", "model_url"}},
    {"general.source.doi", {"doi", "model_doi"}},
    {"general.source.repo_url", {"repo_url", "model_repo_url"}},
    {"general.license", {"license"}},
    {"general.license.name", {"license_name"}},
    {"general.license.link", {"license_link"}},
};

/* What all of the keys have. */
static const struct {
    const char *key, *card[2];
} lists[] = {
    {"general.languages", {"languages", "language"}},
    {"general.tags", {"tags", "pipeline_tag"}},
};

static bool is_text(const struct yaml *y)
{
    return y && y->kind == YAML_TEXT && !yaml_empty(y) && y->n;
}

/* The i-th text of a list, or of one text; NULL: there are no more. */
static const struct yaml *text_at(const struct yaml *y, int i)
{
    if (!y || y->kind == YAML_TEXT)
        return is_text(y) && !i ? y : NULL;
    for (const struct yaml *item = y->kind == YAML_LIST ? y->first : NULL; item; item = item->next)
        if (is_text(item) && !i--)
            return item;
    return NULL;
}

static int count(const struct yaml *y)
{
    int n = 0;
    while (text_at(y, n))
        n++;
    return n;
}

static void take_texts(const struct yaml *card, struct gguf_write *w)
{
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        for (size_t k = 0; k < 3 && texts[i].card[k]; k++) {
            const struct yaml *y = text_at(yaml_get(card, texts[i].card[k]), 0);
            if (!y)
                continue;
            gguf_write_bytes(w, texts[i].key, y->text, y->n);
            break;
        }
}

static void take_lists(const struct yaml *card, struct gguf_write *w)
{
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        const struct yaml *part[] = {yaml_get(card, lists[i].card[0]),
                                     yaml_get(card, lists[i].card[1])};
        if (!count(part[0]) && !count(part[1]))
            continue;
        gguf_write_texts(w, lists[i].key, (size_t)(count(part[0]) + count(part[1])));
        for (int k = 0; k < 2; k++)
            for (int n = 0; n < count(part[k]); n++)
                gguf_write_item(w, text_at(part[k], n)->text, text_at(part[k], n)->n);
    }
}

static void put(struct gguf_write *w, const char *group, int i, const char *name, const char *s,
                size_t n)
{
    char key[KEY];
    snprintf(key, sizeof key, "%s.%d.%s", group, i, name);
    gguf_write_bytes(w, key, s, n);
}

/* Models and data sets that it was made of, as the Hub names them: organization/name, or a URL. */
static void take_parents(const struct yaml *y, const char *group, const char *site,
                         struct gguf_write *w)
{
    char key[KEY];
    const int n = count(y);
    snprintf(key, sizeof key, "%s.count", group);
    if (n)
        gguf_write_u32(w, key, (uint32_t)n);
    for (int i = 0; i < n; i++) {
        const struct yaml *id = text_at(y, i);
        const char *slash = memchr(id->text, '/', id->n);
        struct buf url = {0};
        if (strstr(id->text, "://")) {
            put(w, group, i, "repo_url", id->text, id->n);
            continue;
        }
        const char *name = slash ? slash + 1 : id->text;
        put(w, group, i, "name", name, id->n - (size_t)(name - id->text));
        if (slash) {
            put(w, group, i, "organization", id->text, (size_t)(slash - id->text));
            buf_printf(&url, "https://huggingface.co/%s%s", site, id->text);
            put(w, group, i, "repo_url", url.p ? url.p : "", url.n);
        }
        buf_free(&url);
    }
}

/* The YAML in front: *n bytes; NULL: there is none. */
static const char *front_of(const struct buf *card, size_t *n)
{
    const char *s = card->p ? card->p : "", *end = s + card->n;
    if (card->n >= 3 && !memcmp(s, "\xef\xbb\xbf", 3))
        s += 3;
    if (end - s < 4 || memcmp(s, "---", 3) != 0 || (s[3] != '\n' && s[3] != '\r'))
        return NULL;
    s = memchr(s, '\n', (size_t)(end - s));
    const char *stop = s ? memmem(s, (size_t)(end - s), "\n---", 4) : NULL;
    *n = stop ? (size_t)(stop - s) : 0;
    return *n ? s + 1 : NULL;
}

static int take(const struct yaml *card, struct buf *about)
{
    struct gguf_write w = {0};
    take_texts(card, &w);
    take_lists(card, &w);
    take_parents(yaml_get(card, "base_model"), "general.base_model", "", &w);
    take_parents(yaml_get(card, "datasets"), "general.dataset", "datasets/", &w);
    const int rc = w.n_keys ? gguf_write_head(&w, about) : 0;
    gguf_write_abandon(&w);
    return rc;
}

int about_take_card(const char *folder, struct buf *about)
{
    char path[PATH];
    struct stat st;
    struct buf text = {0}, said = {0};
    struct pool pool = {0};
    struct mistakes bad = {.file = path};
    size_t n = 0;
    int rc = 0;
    if (snprintf(path, sizeof path, "%s/README.md", folder) >= (int)sizeof path ||
        (stat(path, &st) && errno == ENOENT))
        return 0;
    const bool unread = file_read(path, CARD_MOST, &text);
    const char *front = unread ? NULL : front_of(&text, &n);
    const struct yaml *card = front ? yaml_parse(front, n, 0, &pool, &bad) : NULL;
    if (unread)
        err_warn("%s: what the model says about itself is left out", err_text());
    if (mistake_any(&bad)) {
        mistake_print(&bad, 200, &said);
        err_warn("what the model says about itself is left out: %s", said.p ? said.p : "");
    } else if (card) {
        rc = take(card, about);
    }
    mistake_free(&bad);
    pool_free(&pool);
    buf_free(&said);
    buf_free(&text);
    return rc;
}
