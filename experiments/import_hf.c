#include "experiments/import_hf.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "autograd/base/err.h"
#include "autograd/base/file.h"

enum { CONFIG_MOST = 16 << 20, PATH = 4096 };

static int config_path(char path[PATH], const char *folder)
{
    return snprintf(path, PATH, "%s/config.json", folder) < PATH
               ? 0
               : err("%s: the path is too long", folder);
}

bool import_hf_is(const char *folder)
{
    char path[PATH];
    return !config_path(path, folder) && !access(path, F_OK);
}

int import_hf_read_dims(const char *folder, struct transformer_dims *d)
{
    char path[PATH];
    struct buf json = {0};
    if (config_path(path, folder) || file_read(path, CONFIG_MOST, &json)) {
        buf_free(&json);
        return -1;
    }
    const int rc = import_hf_dims(json.p ? json.p : "", json.n, d);
    buf_free(&json);
    return rc ? err_in("%s", path) : 0;
}

/* Shapes are compared before memory is asked for: a config may say anything. */
static int check_size(const struct import_hf_shards *s, const struct transformer_dims *d)
{
    uint64_t there = 0;
    int64_t rest;
    for (size_t i = 0; i < s->n; i++)
        for (size_t k = 0; k < s->file[i].n; k++)
            there += s->file[i].tensor[k].numel; // each is bounded by its file
    const int64_t need = transformer_params(d, &rest);
    return need <= 0 || (uint64_t)need > there
               ? err("config.json describes %lld weights, the files hold %llu", (long long)need,
                     (unsigned long long)there)
               : 0;
}

static int read_weights(const char *folder, const struct transformer_dims *d, struct transformer *m)
{
    struct import_hf_shards s;
    int rc = import_hf_open(&s, folder);
    if (!rc &&
        (check_size(&s, d) || transformer_init(m, d, STORE_FROZEN) || import_hf_weights(&s, m)))
        rc = err_in("%s", folder);
    import_hf_close(&s);
    return rc;
}

int import_hf(const char *folder, struct transformer *m, struct tokenizer **tok)
{
    struct transformer_dims d;
    *m = (struct transformer){0};
    *tok = NULL;
    if (import_hf_read_dims(folder, &d) || !(*tok = import_hf_tokenizer(folder)))
        return -1;
    int rc = 0;
    if (tokenizer_vocab_size(*tok) > d.vocab)
        rc = err("%s: %d tokens in the tokenizer, %d in the model", folder,
                 tokenizer_vocab_size(*tok), d.vocab);
    if (!rc)
        rc = read_weights(folder, &d, m);
    if (!rc)
        return 0;
    transformer_free(m);
    tokenizer_free(*tok);
    *tok = NULL;
    return -1;
}
