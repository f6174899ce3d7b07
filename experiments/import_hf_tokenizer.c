#include <stdio.h>
#include <unistd.h>

#include "autograd/base/err.h"
#include "autograd/base/file.h"
#include "datasets/tokenizer_files.h"
#include "experiments/import_hf.h"

enum { FILE_MOST = 256 << 20, PATH = 4096 };

/* A file of the folder to b. 1: it is not there; -1 with err() set. */
static int read_file(const char *folder, const char *name, struct buf *b)
{
    char path[PATH];
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        return err("%s: the path is too long", folder);
    return access(path, F_OK) ? 1 : file_read(path, FILE_MOST, b);
}

/* tokenizer.json; where that is missing or more than this program does, tokenizer.model. */
static struct tokenizer *read_tokenizer(const char *folder, const struct buf *config)
{
    struct buf json = {0}, model = {0};
    struct tokenizer *t = NULL;
    const int no_json = read_file(folder, "tokenizer.json", &json);
    if (!no_json && !(t = tokenizer_parse(json.p ? json.p : "", json.n)))
        err_in("%s/tokenizer.json", folder);
    const int no_model = t || no_json < 0 ? 1 : read_file(folder, "tokenizer.model", &model);
    if (!no_model) {
        if (!no_json)
            err_warn("%s; tokenizer.model is read in its place", err_text());
        t = tokenizer_files_model(model.p ? model.p : "", model.n, config->p, config->n);
        if (!t)
            err_in("%s/tokenizer.model", folder);
    } else if (no_json > 0 && no_model > 0) {
        err("%s: neither tokenizer.json nor tokenizer.model", folder);
    }
    buf_free(&json);
    buf_free(&model);
    return t;
}

/* What the files beside it say. */
static int complete(struct tokenizer *t, const char *folder, const struct buf *config)
{
    struct buf chat = {0};
    if (config->p && tokenizer_files_config(t, config->p, config->n))
        return err_in("%s/tokenizer_config.json", folder);
    int rc = read_file(folder, "chat_template.jinja", &chat);
    if (!rc && chat.n)
        rc = tokenizer_files_chat(t, chat.p, chat.n);
    buf_free(&chat);
    return rc < 0 ? -1 : 0;
}

struct tokenizer *import_hf_tokenizer(const char *folder)
{
    struct buf config = {0};
    struct tokenizer *t = NULL;
    if (read_file(folder, "tokenizer_config.json", &config) >= 0)
        t = read_tokenizer(folder, &config);
    if (t && complete(t, folder, &config)) {
        tokenizer_free(t);
        t = NULL;
    }
    buf_free(&config);
    return t;
}
