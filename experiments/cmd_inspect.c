#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "autograd/base/absent.h"
#include "autograd/base/cursor.h"
#include "autograd/base/err.h"
#include "autograd/base/file.h"
#include "experiments/cmd.h"
#include "experiments/flags.h"
#include "experiments/import_hf.h"
#include "experiments/inspect.h"
#include "experiments/model_path.h"

struct inspect_args {
    const char *file;
    bool tensors;
};

static const struct field table[] = {
    {FIELD_AT(inspect_args, file), .type = FIELD_TEXT, .flags = FIELD_REQUIRED | FIELD_POSITIONAL,
     .doc = ".h5, .gguf, .safetensors or tokenizer.json, the folder of a stage or a run, or a "
            "Hugging Face folder"},
    {FIELD_AT(inspect_args, tensors), .type = FIELD_BOOL,
     .doc = "the parameters of a checkpoint with statistics of their values"},
    {0},
};

static const struct flags flags = {
    "inspect FILE [--tensors]",
    "Says what is in a file: a checkpoint, a corpus, a tokenizer, a GGUF or safetensors model.",
    table};

/* ---- kinds of files, told by how they begin ---- */

static bool is_h5(const char *head, size_t n, size_t size)
{
    (void)size;
    return n >= 8 && !memcmp(head, "ATTAR-H5", 8);
}

static bool is_gguf(const char *head, size_t n, size_t size)
{
    (void)size;
    return n >= 4 && !memcmp(head, "GGUF", 4);
}

static bool is_safetensors(const char *head, size_t n, size_t size)
{
    struct cursor c = {.base = (const unsigned char *)head, .size = n};
    return n >= 9 && head[8] == '{' && cursor_u64(&c) <= size;
}

static bool is_json(const char *head, size_t n, size_t size)
{
    (void)size;
    size_t i = 0;
    while (i < n && strchr(" \t\r\n", head[i]) && head[i])
        i++;
    return i < n && head[i] == '{';
}

static const struct inspect_kind kinds[] = {
    {"h5", is_h5, inspect_h5},
    {"gguf", is_gguf, inspect_gguf},
    {"safetensors", is_safetensors, inspect_safetensors},
    {"tokenizer", is_json, inspect_tokenizer},
};

static const struct inspect_kind folder_kind = {"hf", NULL, inspect_hf};

static const struct inspect_kind *find_kind(const char *path)
{
    char head[64];
    struct stat s;
    const int folder = import_hf_is(path);
    if (folder)
        return folder < 0 ? NULL : &folder_kind;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    const ssize_t got = fd < 0 || fstat(fd, &s) ? -1 : file_fill(fd, head, sizeof head, -1);
    if (got < 0)
        absent_report(path);
    if (fd >= 0)
        close(fd);
    if (got < 0)
        return NULL;
    const size_t n = (size_t)got;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (kinds[i].is(head, n, (size_t)s.st_size))
            return &kinds[i];
    if (n >= 4 && !memcmp(head, "\x89HDF", 4))
        err("%s: an HDF5 file that this program did not write", path);
    else
        err("%s: no .h5 of this program, no .gguf, .safetensors or tokenizer.json", path);
    return NULL;
}

static int inspect(const struct inspect_args *a)
{
    struct buf path = {0}, out = {0};
    int rc = model_path(a->file, &path);
    const struct inspect_kind *kind = rc ? NULL : find_kind(path.p);
    rc = kind ? kind->print(path.p, &out) : -1;
    if (!rc && a->tensors)
        rc = kind->print == inspect_h5 ? inspect_parameters(path.p, &out)
                                       : err("--tensors is for checkpoints; the tensors of other "
                                             "files are always listed");
    if (!rc && out.failed)
        rc = -1;
    if (!rc)
        fwrite(out.p, 1, out.n, stdout);
    buf_free(&out);
    buf_free(&path);
    return rc;
}

int cmd_inspect(int argc, char **argv)
{
    struct inspect_args args;
    struct pool pool = {0};
    int rc = flags_parse(&flags, argc, argv, &args, &pool);
    if (!rc)
        rc = inspect(&args);
    pool_free(&pool);
    return rc == FLAGS_HELP ? 0 : rc;
}
