#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/file.h"
#include "autograd/base/jsontext.h"
#include "autograd/base/once.h"
#include "datasets/tokenizer_files.h"
#include "experiments/import_hf.h"

enum { FILE_MOST = 256 << 20, PATH = IMPORT_HF_PATH };

/* What a folder says about its tokenizer; a file that is not there is empty, .s NULL. */
enum { JSON, MODEL, CONFIG, MAP, ADDED, CHAT, GENERATION, MODEL_CONFIG, FILES };
static const char *const names[FILES] = {
    [JSON] = "tokenizer.json",
    [MODEL] = "tokenizer.model",
    [CONFIG] = "tokenizer_config.json",
    [MAP] = "special_tokens_map.json",
    [ADDED] = "added_tokens.json",
    [CHAT] = "chat_template.jinja",
    [GENERATION] = "generation_config.json",
    [MODEL_CONFIG] = "config.json",
};

struct files {
    struct buf b[FILES];
    struct tokenizer_text text[FILES];
};

static int read_all(struct files *f, const char *folder)
{
    for (int i = 0; i < FILES; i++) {
        char path[PATH];
        const int missing = import_hf_find(folder, names[i], path);
        if (missing < 0 || (!missing && file_read(path, FILE_MOST, &f->b[i])))
            return -1;
        if (!missing)
            f->text[i] = (struct tokenizer_text){f->b[i].p ? f->b[i].p : "", f->b[i].n};
    }
    return 0;
}

/* Makes the config the one place for what older files say. */
static int settle(struct files *f)
{
    struct buf config = {0};
    const int rc =
        tokenizer_files_settle(&f->text[CONFIG], &f->text[MAP], &f->text[ADDED], &config);
    buf_free(&f->b[CONFIG]);
    f->b[CONFIG] = config;
    f->text[CONFIG] = (struct tokenizer_text){config.p, config.n};
    return rc;
}

/* Tokens of the model by its config.json; 0: it does not say. */
static int vocab_of(const struct files *f)
{
    const struct tokenizer_text *config = &f->text[MODEL_CONFIG];
    json_t *root = config->s ? jsontext_parse(config->s, config->n, false) : NULL;
    const json_int_t n = json_integer_value(json_object_get(root, "vocab_size"));
    json_decref(root);
    return n > 0 && n < INT_MAX ? (int)n : 0;
}

/* No JSON at all: not a reason to take another file. err() stays as it is, or says so. */
static bool is_damaged(const struct tokenizer_text *json, const char *folder)
{
    json_t *root = json->s ? jsontext_parse(json->s, json->n, false) : NULL;
    const bool damaged = json->s && !root;
    json_decref(root);
    if (damaged)
        err_in("%s/%s", folder, names[JSON]);
    return damaged;
}

/* tokenizer.json; where that is missing or more than this program does, tokenizer.model. */
static struct tokenizer *read_tokenizer(const struct files *f, const char *folder)
{
    struct tokenizer *t = NULL;
    const struct tokenizer_text *config = &f->text[CONFIG], *model = &f->text[MODEL];
    if (!f->text[JSON].s && !model->s)
        err("%s: neither tokenizer.json nor tokenizer.model", folder);
    if (f->text[JSON].s && !(t = tokenizer_files_json(&f->text[JSON], config, vocab_of(f))))
        err_in("%s/%s", folder, names[JSON]);
    if (t || !model->s || is_damaged(&f->text[JSON], folder))
        return t;
    if (f->text[JSON].s)
        once_warn("%s; tokenizer.model is read in its place", err_text());
    t = tokenizer_files_model(model->s, model->n, config->s, config->n);
    if (!t)
        err_in("%s/%s", folder, names[MODEL]);
    return t;
}

/* What the files beside it say. */
static int complete(struct tokenizer *t, const char *folder, const struct files *f)
{
    const struct tokenizer_text *config = &f->text[CONFIG], *chat = &f->text[CHAT];
    const int ends = f->text[GENERATION].s ? GENERATION : MODEL_CONFIG;
    if (tokenizer_files_config(t, config->s, config->n))
        return err_in("%s/%s", folder, names[CONFIG]);
    if (f->text[ends].s && tokenizer_files_ends(t, f->text[ends].s, f->text[ends].n))
        return err_in("%s/%s", folder, names[ends]);
    return chat->n && tokenizer_files_chat(t, chat->s, chat->n) ? -1 : 0;
}

struct tokenizer *import_hf_tokenizer(const char *folder)
{
    struct files f = {0};
    struct tokenizer *t = NULL;
    if (!read_all(&f, folder) && !settle(&f))
        t = read_tokenizer(&f, folder);
    if (t && complete(t, folder, &f)) {
        tokenizer_free(t);
        t = NULL;
    }
    for (int i = 0; i < FILES; i++)
        buf_free(&f.b[i]);
    return t;
}
