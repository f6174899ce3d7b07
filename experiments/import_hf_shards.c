/* The files with a folder's tensors. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/file.h"
#include "autograd/base/jsontext.h"
#include "autograd/base/mem.h"
#include "experiments/import_hf.h"

enum { INDEX_MOST = 256 << 20, PATH = IMPORT_HF_PATH };

static int open_one(struct import_hf_shards *s, const char *folder, const char *name)
{
    char path[PATH];
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        return err("%s: the path is too long", folder);
    if (mem_grow(&s->file, &s->cap, s->n + 1, sizeof *s->file) ||
        safetensors_open(&s->file[s->n], path))
        return -1;
    s->n++;
    return 0;
}

/* A file's name in the index comes from elsewhere, and must not lead out of the folder. */
static int check_name(const char *name)
{
    const size_t n = strlen(name);
    if (n > 12 && n < 256 && !strchr(name, '/') && *name != '.' &&
        !strcmp(name + n - 12, ".safetensors"))
        return 0;
    return err("weight_map: '%.100s' is no name of a .safetensors file in the folder", name);
}

/* Opens each file that the index names, once; the index becomes name -> number of the file. */
static int open_shards(struct import_hf_shards *s, const char *folder, json_t *map)
{
    json_t *files = json_object(), *value;
    const char *tensor;
    int rc = files ? 0 : err("out of memory");
    s->index = files;
    if (!rc && (!json_is_object(map) || !json_object_size(map)))
        rc = err("weight_map is no object, or empty");
    json_object_foreach(map, tensor, value)
    {
        const char *name = json_string_value(value);
        if (rc)
            break;
        if (!name || check_name(name)) {
            rc = name ? -1 : err("weight_map: '%.100s' has no file's name", tensor);
            break;
        }
        if (json_object_get(files, name))
            continue;
        if (json_object_set_new(files, name, json_integer((json_int_t)s->n)))
            rc = err("out of memory");
        else
            rc = open_one(s, folder, name);
    }
    return rc;
}

static int open_index(struct import_hf_shards *s, const char *folder, const char *path)
{
    struct buf text = {0};
    if (file_read(path, INDEX_MOST, &text)) {
        buf_free(&text);
        return -1;
    }
    json_t *root = jsontext_parse(text.p ? text.p : "", text.n, false);
    buf_free(&text);
    const int rc = root ? open_shards(s, folder, json_object_get(root, "weight_map")) : -1;
    json_decref(root);
    return rc ? err_in("%s", path) : 0;
}

/* Formats that are not read here, as transformers names their files. */
static const char *const other_formats[] = {"pytorch_model.bin", "pytorch_model.bin.index.json",
                                            "tf_model.h5", "flax_model.msgpack",
                                            "consolidated.safetensors"};

static int no_weights(const char *folder)
{
    char path[PATH];
    for (size_t i = 0; i < sizeof other_formats / sizeof *other_formats; i++)
        if (!import_hf_find(folder, other_formats[i], path))
            return err("%s: neither model.safetensors nor model.safetensors.index.json; %s is not "
                       "read: save the model with transformers' save_pretrained, which writes "
                       "safetensors",
                       folder, other_formats[i]);
    return err("%s: neither model.safetensors nor model.safetensors.index.json", folder);
}

int import_hf_open(struct import_hf_shards *s, const char *folder)
{
    char path[PATH];
    *s = (struct import_hf_shards){0};
    // transformers would read the model that this file names, and apply the adapter to it
    const int adapter = import_hf_find(folder, "adapter_config.json", path);
    if (adapter <= 0)
        return adapter ? -1
                       : err("%s: an adapter lies beside the model, and is not applied here: merge "
                             "it into the weights, or take it away",
                             path);
    const int single = import_hf_find(folder, "model.safetensors", path);
    if (single <= 0) // as transformers: an index beside it is an older model's
        return single ? -1 : open_one(s, folder, "model.safetensors");
    const int index = import_hf_find(folder, "model.safetensors.index.json", path);
    return index < 0 ? -1 : index ? no_weights(folder) : open_index(s, folder, path);
}

void import_hf_close(struct import_hf_shards *s)
{
    for (size_t i = 0; i < s->n; i++)
        safetensors_close(&s->file[i]);
    free(s->file);
    json_decref(s->index);
    *s = (struct import_hf_shards){0};
}
