#include "experiments/summary.h"

#include <math.h>
#include <omp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/buf.h"
#include "autograd/base/err.h"
#include "autograd/base/file.h"
#include "autograd/base/mem.h"
#include "autograd/kernels/gemm.h"
#include "experiments/metrics.h"

enum { FILE_MAX = 1 << 20 };
enum key_type { KEY_TEXT, KEY_COUNT, KEY_NUMBER };

struct key {
    const char *name;
    enum key_type type;
    size_t offset;
};

#define KEY(type, member, key_type)                                                                \
    {                                                                                              \
#member, key_type, offsetof(struct type, member)                                           \
    }

static const struct key summary_keys[] = {
    KEY(summary, stage, KEY_TEXT),
    KEY(summary, kind, KEY_TEXT),
    KEY(summary, steps, KEY_COUNT),
    KEY(summary, tokens, KEY_COUNT),
    KEY(summary, seconds, KEY_NUMBER),
    KEY(summary, parameters, KEY_COUNT),
    KEY(summary, model, KEY_TEXT),
    KEY(summary, corpus, KEY_TEXT),
    KEY(summary, trained, KEY_TEXT),
    KEY(summary, train_loss, KEY_NUMBER),
    KEY(summary, valid_loss, KEY_NUMBER),
    KEY(summary, bits_per_byte, KEY_NUMBER),
    KEY(summary, best_valid_loss, KEY_NUMBER),
    KEY(summary, best_step, KEY_COUNT),
    KEY(summary, cpu, KEY_TEXT),
    KEY(summary, blas, KEY_TEXT),
    KEY(summary, threads, KEY_COUNT),
    KEY(summary, version, KEY_TEXT),
    KEY(summary, seed, KEY_COUNT),
    KEY(summary, started, KEY_TEXT),
    KEY(summary, finished, KEY_TEXT),
    {NULL, KEY_TEXT, 0},
};

static const struct key row_keys[] = {
    KEY(summary_row, name, KEY_TEXT),           KEY(summary_row, loss, KEY_NUMBER),
    KEY(summary_row, perplexity, KEY_NUMBER),   KEY(summary_row, bits_per_byte, KEY_NUMBER),
    KEY(summary_row, kld, KEY_NUMBER),          KEY(summary_row, kld_error, KEY_NUMBER),
    KEY(summary_row, trained_loss, KEY_NUMBER), KEY(summary_row, tokens, KEY_COUNT),
    KEY(summary_row, size, KEY_COUNT),          {NULL, KEY_TEXT, 0},
};

static const struct key fact_keys[] = {
    KEY(summary_fact, name, KEY_TEXT),
    KEY(summary_fact, value, KEY_TEXT),
    {NULL, KEY_TEXT, 0},
};

/* The arrays of objects inside a summary. */
static const struct list {
    const char *name;
    size_t offset, n_offset, size; /* of the pointer, of its count; of an element */
    const struct key *keys;
} lists[] = {
    {"rows", offsetof(struct summary, row), offsetof(struct summary, n_rows),
     sizeof(struct summary_row), row_keys},
    {"facts", offsetof(struct summary, fact), offsetof(struct summary, n_facts),
     sizeof(struct summary_fact), fact_keys},
};

enum { LISTS = sizeof lists / sizeof lists[0], LIST_MAX = 1000 };

static void clear(void *object, const struct key *keys)
{
    for (const struct key *k = keys; k->name; k++) {
        char *member = (char *)object + k->offset;
        if (k->type == KEY_TEXT)
            *(const char **)member = NULL;
        else if (k->type == KEY_COUNT)
            *(int64_t *)member = 0;
        else
            *(double *)member = NAN;
    }
}

void summary_init(struct summary *s)
{
    *s = (struct summary){0};
    clear(s, summary_keys);
}

/* ---- writing ---- */

/* The members that are known, as `"key":value` with commas and `gap` between them. */
static void add_members(struct buf *b, const void *object, const struct key *keys, const char *gap)
{
    const char *comma = "";
    for (const struct key *k = keys; k->name; k++) {
        const char *member = (const char *)object + k->offset;
        const char *text = k->type == KEY_TEXT ? *(const char *const *)member : NULL;
        const int64_t count = k->type == KEY_COUNT ? *(const int64_t *)member : 0;
        const double number = k->type == KEY_NUMBER ? *(const double *)member : NAN;
        if (!text && !count && !isfinite(number))
            continue;
        buf_printf(b, "%s%s\"%s\": ", comma, gap, k->name);
        if (text)
            buf_json(b, text, strlen(text));
        else if (count)
            buf_printf(b, "%lld", (long long)count);
        else
            metrics_add_number(b, number);
        comma = ",";
    }
}

int summary_write(const struct summary *s, const char *path)
{
    struct buf b = {0};
    buf_text(&b, "{");
    add_members(&b, s, summary_keys, "\n  ");
    for (int i = 0; i < LISTS; i++) {
        const struct list *l = &lists[i];
        const char *element = *(const char *const *)((const char *)s + l->offset);
        const int64_t n = *(const int64_t *)((const char *)s + l->n_offset);
        buf_printf(&b, "%s\n  \"%s\": [", b.n > 1 ? "," : "", l->name);
        for (int64_t j = 0; j < n; j++) {
            buf_text(&b, j ? ",\n    {" : "\n    {");
            add_members(&b, element + (size_t)j * l->size, l->keys, " ");
            buf_text(&b, " }");
        }
        buf_text(&b, "]");
    }
    buf_text(&b, "\n}\n");
    const int rc = b.failed ? err_in("%s", path) : file_replace(path, b.p, b.n);
    buf_free(&b);
    return rc;
}

/* ---- reading ---- */

static int get_member(const char *path, char *member, const struct key *k, const json_t *x)
{
    static const char *const what[] = {"a text", "a whole number", "a number"};
    if (k->type == KEY_TEXT && json_is_string(x))
        *(const char **)member = json_string_value(x);
    else if (k->type == KEY_COUNT && json_is_integer(x))
        *(int64_t *)member = json_integer_value(x);
    else if (k->type == KEY_NUMBER && json_is_number(x))
        *(double *)member = json_number_value(x);
    else
        return err_damaged("%s: \"%s\" is not %s", path, k->name, what[k->type]);
    return 0;
}

static int get_members(const char *path, void *object, const struct key *keys, const json_t *json)
{
    clear(object, keys);
    for (const struct key *k = keys; k->name; k++) {
        const json_t *x = json_object_get(json, k->name);
        if (x && !json_is_null(x) && get_member(path, (char *)object + k->offset, k, x))
            return -1;
    }
    return 0;
}

static int get_list(const char *path, struct summary *s, const struct list *l)
{
    const json_t *array = json_object_get(s->json, l->name);
    const size_t n = json_array_size(array);
    if (!array)
        return 0;
    if (!json_is_array(array) || n > LIST_MAX)
        return err_damaged("%s: \"%s\" is not a list of at most %d", path, l->name, LIST_MAX);
    char *element = mem_new(n, l->size);
    if (!element)
        return err_in("%s", path);
    *(char **)((char *)s + l->offset) = element;
    *(int64_t *)((char *)s + l->n_offset) = (int64_t)n;
    for (size_t i = 0; i < n; i++) {
        void *object = element + i * l->size;
        clear(object, l->keys);
        if (get_members(path, object, l->keys, json_array_get(array, i)))
            return -1;
    }
    return 0;
}

int summary_read(struct summary *s, const char *path)
{
    struct buf b = {0};
    json_error_t e;
    summary_init(s);
    int rc = file_read(path, FILE_MAX, &b);
    if (!rc) {
        s->json = json_loadb(b.p ? b.p : "", b.n, JSON_REJECT_DUPLICATES, &e);
        if (!s->json)
            rc = err_damaged("%s:%d:%d: %s", path, e.line, e.column, e.text);
        else if (!json_is_object(s->json))
            rc = err_damaged("%s: not a JSON object", path);
    }
    if (!rc)
        rc = get_members(path, s, summary_keys, s->json);
    for (int i = 0; i < LISTS && !rc; i++)
        rc = get_list(path, s, &lists[i]);
    buf_free(&b);
    if (rc)
        summary_free(s);
    return rc;
}

void summary_free(struct summary *s)
{
    if (s->json) {
        free((void *)s->row);
        free((void *)s->fact);
        json_decref(s->json);
    }
    summary_init(s);
}

/* ---- the machine ---- */

static void find_cpu(char *out, size_t cap)
{
    char line[512];
    FILE *f = fopen("/proc/cpuinfo", "re");
    snprintf(out, cap, "unknown CPU");
    while (f && fgets(line, sizeof line, f)) {
        const char *colon = strchr(line, ':');
        if (!colon || strncmp(line, "model name", 10))
            continue;
        const char *name = colon + 1 + strspn(colon + 1, " \t");
        snprintf(out, cap, "%.*s", (int)strcspn(name, "\n"), name);
        break;
    }
    if (f)
        fclose(f);
}

void summary_machine(struct summary *s)
{
    static char cpu[128];
    if (!*cpu)
        find_cpu(cpu, sizeof cpu);
    s->cpu = cpu;
    s->blas = gemm_describe();
    s->threads = omp_get_max_threads();
}
