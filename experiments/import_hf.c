#include "experiments/import_hf.h"

#include <stdio.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/file.h"

enum { CONFIG_MOST = 16 << 20, PATH = IMPORT_HF_PATH };

int import_hf_find(const char *folder, const char *name, char path[PATH])
{
    if (snprintf(path, PATH, "%s/%s", folder, name) >= PATH)
        return err("%s: the path is too long", folder);
    const int there = file_exists(path);
    return there < 0 ? -1 : !there;
}

int import_hf_is(const char *folder)
{
    char path[PATH];
    const int found = import_hf_find(folder, "config.json", path);
    return found < 0 ? -1 : !found;
}

int import_hf_read_dims(const char *folder, struct transformer_dims *d)
{
    char path[PATH];
    struct buf json = {0};
    const int missing = import_hf_find(folder, "config.json", path);
    if (missing || file_read(path, CONFIG_MOST, &json)) {
        buf_free(&json);
        return missing > 0 ? err("%s: no such file", path) : -1;
    }
    const int rc = import_hf_dims(json.p ? json.p : "", json.n, d);
    buf_free(&json);
    return rc ? err_in("%s", path) : 0;
}

static int read_weights(const char *folder, struct transformer_dims *d, struct transformer *m)
{
    struct import_hf_shards s;
    struct transformer shapes = {0};
    int rc = import_hf_open(&s, folder);
    if (!rc) {
        import_hf_settle_head(&s, d);
        if (transformer_init(&shapes, d, STORE_MAPPED) || import_hf_check(&s, &shapes) ||
            transformer_init(m, d, STORE_FROZEN) || import_hf_weights(&s, m))
            rc = err_in("%s", folder);
        transformer_free(&shapes);
    }
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
