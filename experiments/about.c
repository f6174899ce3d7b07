#include "experiments/about.h"

#include <stdio.h>
#include <string.h>

#include "compress/gguf_meta.h"

/* What becomes of a key when the model is trained on. */
enum fate {
    STAYS, /* a licence binds what is derived; languages, data and what it is like are its too */
    MOVES, /* general.X to general.base_model.0.X */
    ENDS,  /* true of that model alone */
    GIVES, /* ends where a base model takes its place */
};

/* Keys that are kept; those that end in a dot are beginnings. */
static const struct rule {
    const char *key;
    enum fate fate;
} rules[] = {
    {"general.name", MOVES},         {"general.author", MOVES},       {"general.version", MOVES},
    {"general.organization", MOVES}, {"general.description", MOVES},  {"general.url", MOVES},
    {"general.doi", MOVES},          {"general.uuid", MOVES},         {"general.repo_url", MOVES},
    {"general.basename", STAYS},     {"general.finetune", ENDS},      {"general.license", STAYS},
    {"general.license.name", STAYS}, {"general.license.link", STAYS}, {"general.languages", STAYS},
    {"general.tags", STAYS},         {"general.dataset.", STAYS},     {"general.sampling.", STAYS},
    {"general.source.", ENDS},       {"general.base_model.", GIVES},
};

static const struct rule *rule_of(const struct gguf_pair *p)
{
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        const size_t n = strlen(rules[i].key);
        const bool start = rules[i].key[n - 1] == '.';
        if ((start ? p->key.n > n : p->key.n == n) && !memcmp(p->key.s, rules[i].key, n))
            return &rules[i];
    }
    return NULL;
}

static int keep(struct gguf_write *w, struct buf *about)
{
    const int rc = w->n_keys ? gguf_write_head(w, about) : 0;
    gguf_write_abandon(w);
    return rc;
}

int about_take(const struct gguf *g, struct buf *about)
{
    struct gguf_write w = {0};
    for (size_t i = 0; i < g->n_pairs; i++)
        if (rule_of(&g->pair[i]))
            gguf_write_pair(&w, &g->pair[i]);
    return keep(&w, about);
}

/* g of what was kept: 0; 1 if that is nothing; -1 with err() set. */
static int open_about(const struct buf *about, struct gguf *g)
{
    if (!about || !about->n)
        return 1;
    return gguf_parse(g, about->p, about->n) ? err_in("what the model says about itself") : 0;
}

int about_name(const struct buf *about, struct buf *name)
{
    struct gguf g;
    struct gguf_string s;
    int rc = open_about(about, &g);
    if (rc)
        return rc < 0 ? -1 : 0;
    rc = gguf_meta_text(&g, "general.name", &s);
    if (!rc)
        buf_add(name, s.s, s.n);
    gguf_close(&g);
    return rc < 0 || name->failed ? -1 : 0;
}

/* general.X as that of the base model. */
static void move(struct gguf_write *w, const struct gguf_pair *p)
{
    static const char from[] = "general.", to[] = "general.base_model.0.";
    char key[sizeof to + GGUF_NAME];
    struct gguf_pair moved = *p;
    moved.key.s = key;
    moved.key.n = (size_t)snprintf(key, sizeof key, "%s%.*s", to, (int)(p->key.n - sizeof from + 1),
                                   p->key.s + sizeof from - 1);
    gguf_write_pair(w, &moved);
}

int about_declare(const struct buf *about, bool trained, struct gguf_write *w)
{
    struct gguf g;
    bool based = false;
    const int rc = open_about(about, &g);
    if (rc)
        return rc < 0 ? -1 : 0;
    for (size_t i = 0; i < g.n_pairs; i++) {
        const struct rule *r = rule_of(&g.pair[i]);
        based |= trained && r && r->fate == MOVES;
    }
    if (based)
        gguf_write_u32(w, "general.base_model.count", 1);
    for (size_t i = 0; i < g.n_pairs; i++) {
        const struct gguf_pair *p = &g.pair[i];
        const struct rule *r = rule_of(p);
        if (!r || (trained && (r->fate == ENDS || (based && r->fate == GIVES))))
            continue;
        if (trained && r->fate == MOVES)
            move(w, p);
        else if (strcmp(r->key, "general.name"))
            gguf_write_pair(w, p);
    }
    gguf_close(&g);
    return 0;
}
