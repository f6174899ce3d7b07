#include "experiments/yaml.h"

#include <string.h>
#include <yaml.h>

#include "autograd/base/err.h"
#include "autograd/base/utf8.h"

enum { DEPTH_MAX = 16, NODES_MAX = 65536, KEYS_MAX = 1024 };

struct reader {
    struct pool *pool;
    struct mistakes *bad;
    int override;
    struct yaml *root;
    struct yaml *open[DEPTH_MAX]; // from the root to where events go now
    struct yaml key[DEPTH_MAX];   // of each open TREE: a key that waits for its value
    int depth, n_nodes, n_documents;
};

struct yaml *yaml_get(const struct yaml *tree, const char *key)
{
    if (!tree || tree->kind != YAML_TREE)
        return NULL;
    for (struct yaml *c = tree->first; c; c = c->next)
        if (!strcmp(c->key, key))
            return c;
    return NULL;
}

bool yaml_empty(const struct yaml *node)
{
    static const char *const none[] = {"", "~", "null", "Null", "NULL"};
    if (node->kind != YAML_TEXT || node->quoted)
        return false;
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        if (!strcmp(node->text, none[i]))
            return true;
    return false;
}

const char *yaml_kind_name(const struct yaml *node)
{
    static const char *const names[] = {"text", "a list", "a map"};
    return yaml_empty(node) ? "nothing" : names[node->kind];
}

static void append(struct yaml *parent, struct yaml *child)
{
    if (parent->last)
        parent->last->next = child;
    else
        parent->first = child;
    parent->last = child;
    parent->n_children++;
}

struct yaml *yaml_put(struct yaml *tree, const char *key, struct place at, struct pool *pool)
{
    struct yaml *c = pool_new(pool, 1, sizeof *c);
    if (!c)
        return NULL;
    *c = (struct yaml){.at = at, .key = key, .key_at = at, .text = ""};
    append(tree, c);
    return c;
}

void yaml_remove(struct yaml *tree, const struct yaml *child)
{
    struct yaml *before = NULL;
    for (struct yaml *c = tree->first; c; before = c, c = c->next) {
        if (c != child)
            continue;
        if (before)
            before->next = c->next;
        else
            tree->first = c->next;
        if (tree->last == c)
            tree->last = before;
        tree->n_children--;
        return;
    }
}

static struct place place_of(const struct reader *r, yaml_mark_t mark)
{
    const bool file = !r->override;
    return (struct place){.override = r->override,
                          .line = file ? (int)mark.line + 1 : 0,
                          .column = file ? (int)mark.column + 1 : 0};
}

/* Puts a new node where it belongs; NULL after a mistake. */
static struct yaml *attach(struct reader *r, enum yaml_kind kind, struct place at)
{
    if (++r->n_nodes > NODES_MAX) {
        mistake_add(r->bad, at, "more than %d values", NODES_MAX);
        return NULL;
    }
    struct yaml *node = pool_new(r->pool, 1, sizeof *node);
    if (!node) {
        mistake_add(r->bad, at, "%s", err_text());
        return NULL;
    }
    *node = (struct yaml){.kind = kind, .at = at, .text = ""};
    if (!r->depth) {
        r->root = node;
        return node;
    }
    struct yaml *parent = r->open[r->depth - 1], *key = &r->key[r->depth - 1];
    if (parent->kind == YAML_LIST) {
        append(parent, node);
        return node;
    }
    node->key = key->key;
    node->key_at = key->key_at;
    key->key = NULL;
    const struct yaml *first = yaml_get(parent, node->key);
    if (first)
        mistake_add(r->bad, node->key_at, "'%.60s' is given twice, first at line %d", node->key,
                    first->key_at.line);
    else if (parent->n_children < KEYS_MAX)
        append(parent, node);
    else
        mistake_add(r->bad, node->key_at, "more than %d keys in a map", KEYS_MAX);
    return first || node == parent->last ? node : NULL;
}

static bool awaits_key(const struct reader *r)
{
    return r->depth && r->open[r->depth - 1]->kind == YAML_TREE && !r->key[r->depth - 1].key;
}

static bool take_text(struct reader *r, const yaml_event_t *e, struct place at)
{
    const char *s = (const char *)e->data.scalar.value;
    const size_t n = e->data.scalar.length;
    if (memchr(s, 0, n)) {
        mistake_add(r->bad, at, "text with a NUL byte");
        return false;
    }
    const char *copy = pool_text(r->pool, s, n);
    if (!copy) {
        mistake_add(r->bad, at, "%s", err_text());
        return false;
    }
    if (awaits_key(r)) {
        r->key[r->depth - 1] = (struct yaml){.key = copy, .key_at = at};
        return true;
    }
    struct yaml *node = attach(r, YAML_TEXT, at);
    if (!node)
        return false;
    node->text = copy;
    node->n = n;
    node->quoted = e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    return true;
}

static bool take_open(struct reader *r, enum yaml_kind kind, struct place at)
{
    if (awaits_key(r)) {
        mistake_add(r->bad, at, "a key must be text");
        return false;
    }
    if (r->depth == DEPTH_MAX) {
        mistake_add(r->bad, at, "nested deeper than %d levels", DEPTH_MAX);
        return false;
    }
    struct yaml *node = attach(r, kind, at);
    if (!node)
        return false;
    r->key[r->depth] = (struct yaml){0};
    r->open[r->depth++] = node;
    return true;
}

static bool refuse_extras(struct reader *r, const void *anchor, const void *tag, struct place at)
{
    if (anchor)
        mistake_add(r->bad, at, "anchors (&) are not supported: write the value out");
    else if (tag)
        mistake_add(r->bad, at, "tags (!) are not supported");
    return !anchor && !tag;
}

/* False: stop reading. */
static bool take_event(struct reader *r, const yaml_event_t *e)
{
    const struct place at = place_of(r, e->start_mark);
    switch (e->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (r->n_documents++) {
            mistake_add(r->bad, at, "a second document begins here: one file, one config");
            return false;
        }
        return true;
    case YAML_ALIAS_EVENT:
        mistake_add(r->bad, at, "aliases (*) are not supported: write the value out");
        return false;
    case YAML_SCALAR_EVENT:
        return refuse_extras(r, e->data.scalar.anchor, e->data.scalar.tag, at) &&
               take_text(r, e, at);
    case YAML_SEQUENCE_START_EVENT:
        return refuse_extras(r, e->data.sequence_start.anchor, e->data.sequence_start.tag, at) &&
               take_open(r, YAML_LIST, at);
    case YAML_MAPPING_START_EVENT:
        return refuse_extras(r, e->data.mapping_start.anchor, e->data.mapping_start.tag, at) &&
               take_open(r, YAML_TREE, at);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        r->depth--;
        return true;
    default:
        return true;
    }
}

static struct place place_of_byte(const struct reader *r, const char *text, size_t offset)
{
    struct place at = {.override = r->override};
    if (r->override)
        return at;
    at.line = at.column = 1;
    for (size_t i = 0; i < offset; i++) {
        at.column += ((unsigned char)text[i] & 0xc0) != 0x80;
        if (text[i] == '\n') {
            at.line++;
            at.column = 1;
        }
    }
    return at;
}

static void syntax_mistake(struct reader *r, const yaml_parser_t *p, const char *text, size_t n)
{
    const char *problem = p->problem ? p->problem : "not YAML";
    if (p->error == YAML_MEMORY_ERROR)
        problem = "out of memory";
    if (p->error == YAML_READER_ERROR) // which sets no mark
        mistake_add(r->bad, place_of_byte(r, text, p->problem_offset < n ? p->problem_offset : n),
                    "%s", problem);
    else if (p->context && !r->override)
        mistake_add(r->bad, place_of(r, p->problem_mark), "%s (%s at line %d)", problem, p->context,
                    (int)p->context_mark.line + 1);
    else
        mistake_add(r->bad, place_of(r, p->problem_mark), "%s", problem);
}

/* libyaml would name neither line nor column. */
static bool check_utf8(struct reader *r, const char *text, size_t n)
{
    const size_t good = utf8_valid(text, n);
    if (good < n)
        mistake_add(r->bad, place_of_byte(r, text, good), "not UTF-8: byte 0x%02x",
                    (unsigned char)text[good]);
    return good == n;
}

struct yaml *yaml_parse(const char *text, size_t n, int override, struct pool *pool,
                        struct mistakes *bad)
{
    struct reader r = {.pool = pool, .bad = bad, .override = override};
    const struct place start = {.override = override, .line = !override, .column = !override};
    if (n > YAML_BYTES_MAX) {
        mistake_add(bad, start, "more than %d bytes", YAML_BYTES_MAX);
        return NULL;
    }
    if (!check_utf8(&r, text, n))
        return NULL;
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser)) {
        mistake_add(bad, start, "out of memory");
        return NULL;
    }
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, n);
    bool going = true, whole = false;
    while (going) {
        yaml_event_t event;
        if (!yaml_parser_parse(&parser, &event)) {
            syntax_mistake(&r, &parser, text, n);
            break;
        }
        whole = event.type == YAML_STREAM_END_EVENT;
        going = take_event(&r, &event) && !whole;
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    if (whole && !r.root)
        mistake_add(bad, start, "nothing is written here");
    return whole ? r.root : NULL;
}
