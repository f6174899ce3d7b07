#include "experiments/model_tokenizer.h"

#include <string.h>

#include "autograd/base/file.h"
#include "datasets/h5file.h"
#include "datasets/tokenizer_files.h"
#include "experiments/import_hf.h"
#include "experiments/model_gguf.h"

static struct tokenizer *of_gguf(const char *path)
{
    struct gguf g;
    if (gguf_open(&g, path))
        return NULL;
    struct tokenizer *t = model_gguf_tokenizer(&g);
    if (!t)
        err_in("%s", path);
    gguf_close(&g);
    return t;
}

static struct tokenizer *of_h5(const char *path)
{
    struct h5file *f;
    struct buf json = {0};
    struct tokenizer *t = NULL;
    if (h5file_open(&f, path))
        return NULL;
    if (!h5file_read_text(f, "tokenizer", &json) &&
        !(t = tokenizer_parse(json.n ? json.p : "", json.n)))
        err_in("%s", path);
    h5file_close(f);
    buf_free(&json);
    return t;
}

/* A tokenizer.json, or a tokenizer.model. */
static struct tokenizer *of_file(const char *path)
{
    enum { MOST = 256 << 20 };
    struct buf b = {0};
    struct tokenizer *t = NULL;
    if (!file_read(path, MOST, &b)) {
        t = tokenizer_files_is_model(b.p, b.n) ? tokenizer_files_model(b.p, b.n, NULL, 0)
                                               : tokenizer_parse(b.p ? b.p : "", b.n);
        if (!t)
            err_in("%s", path);
    }
    buf_free(&b);
    return t;
}

struct tokenizer *model_tokenizer(const char *path)
{
    const size_t n = strlen(path);
    const bool h5 = n > 3 && !strcmp(path + n - 3, ".h5");
    const int gguf = model_gguf_is(path), folder = gguf < 0 ? -1 : import_hf_is(path);
    if (folder)
        return folder < 0 ? NULL : import_hf_tokenizer(path);
    if (!h5 && !gguf)
        return of_file(path);
    return h5 ? of_h5(path) : of_gguf(path);
}
