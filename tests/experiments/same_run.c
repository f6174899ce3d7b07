#include "tests/experiments/same_run.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "datasets/h5file.h"
#include "experiments/metrics.h"
#include "tests/datasets/h5names.h"

enum { NAMES = 256 };

struct names {
    char *name[NAMES];
    int n;
};

static int note(void *arg, const char *name)
{
    struct names *s = arg;
    static const char *const groups[] = {"weights/", "optim/", "blocks/", "scales/", "lora/"};
    bool known = false;
    for (int i = 0; i < 5; i++)
        known |= !strncmp(name, groups[i], strlen(groups[i]));
    if (!known)
        return 0;
    assert_true(s->n < NAMES);
    s->name[s->n++] = strdup(name);
    return 0;
}

static struct h5file *open_newest(const char *folder, struct names *names)
{
    char path[4096];
    struct h5file *f;
    checkpoint_name(path, folder, -1);
    if (h5file_open(&f, path) || h5names_each(f, note, names))
        fail_msg("%s", err_text());
    return f;
}

static float *read_tensor(struct h5file *f, const char *name, int64_t *n)
{
    struct h5shape s;
    if (h5file_shape(f, name, &s))
        fail_msg("%s", err_text());
    float *x = malloc((size_t)s.n * sizeof *x);
    uint8_t *bytes = (uint8_t *)x;
    if (h5file_read(f, name, s.type, s.ndim, s.dim, x))
        fail_msg("%s", err_text());
    for (int64_t i = s.n; i-- > 0 && s.type == H5_U8;)
        x[i] = bytes[i];
    *n = s.n;
    return x;
}

/* The largest difference in what starts with `group`; NAN where bits differ in a NaN. */
static double compare(const char *a, const char *b, const char *group, bool exact)
{
    struct names in_a = {0}, in_b = {0};
    struct h5file *fa = open_newest(a, &in_a), *fb = open_newest(b, &in_b);
    double worst = 0;
    assert_true(in_a.n > 0);
    assert_int_equal(in_a.n, in_b.n);
    for (int i = 0; i < in_a.n; i++) {
        assert_string_equal(in_a.name[i], in_b.name[i]);
        if (!strncmp(in_a.name[i], group, strlen(group))) {
            int64_t na, nb;
            float *x = read_tensor(fa, in_a.name[i], &na), *y = read_tensor(fb, in_a.name[i], &nb);
            assert_int_equal(na, nb);
            if (exact && memcmp(x, y, (size_t)na * sizeof *x))
                fail_msg("%s and %s differ in %s", a, b, in_a.name[i]);
            for (int64_t k = 0; k < na; k++)
                worst = fmax(worst, fabs((double)x[k] - (double)y[k]));
            free(x);
            free(y);
        }
        free(in_a.name[i]);
        free(in_b.name[i]);
    }
    h5file_close(fa);
    h5file_close(fb);
    return worst;
}

double same_run_distance(const char *a, const char *b)
{
    return compare(a, b, "weights/", false);
}

struct checkpoint_state same_run_state(const char *folder)
{
    char path[4096];
    struct checkpoint c;
    checkpoint_name(path, folder, -1);
    if (checkpoint_open(&c, path))
        fail_msg("%s", err_text());
    const struct checkpoint_state state = c.state;
    checkpoint_close(&c);
    return state;
}

static int add_line(void *arg, int64_t step, const json_t *line)
{
    static const char *const clock[] = {"time", "tokens_per_s"};
    struct buf *out = arg;
    (void)step;
    if (json_object_get(line, "event"))
        return 0;
    json_t *kept = json_copy((json_t *)(uintptr_t)line);
    for (int i = 0; i < 2; i++)
        json_object_del(kept, clock[i]);
    char *text = json_dumps(kept, JSON_SORT_KEYS | JSON_REAL_PRECISION(17));
    buf_printf(out, "%s\n", text);
    free(text);
    json_decref(kept);
    return 0;
}

static void read_lines(const char *folder, struct buf *out)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/metrics.jsonl", folder);
    if (metrics_read(path, add_line, out))
        fail_msg("%s", err_text());
    assert_true(out->n > 0);
}

void same_run(const char *a, const char *b)
{
    struct buf x = {0}, y = {0};
    (void)compare(a, b, "", true);
    struct checkpoint_state sa = same_run_state(a), sb = same_run_state(b);
    sa.seconds = sb.seconds = 0;
    assert_memory_equal(&sa.step, &sb.step, offsetof(struct checkpoint_state, left));
    assert_int_equal(sa.left, sb.left);
    read_lines(a, &x);
    read_lines(b, &y);
    assert_string_equal(x.p, y.p);
    buf_free(&x);
    buf_free(&y);
}

void same_run_text(const char *path, int documents, unsigned seed)
{
    static const char *const words[] = {"the", "king", "went", "out",  "of",   "his", "house",
                                        "and", "said", "unto", "them", "thus", "all", "people"};
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    uint32_t x = seed * 2654435761u + 1;
    for (int d = 0; d < documents; d++) {
        for (int w = 0; w < 60; w++) {
            x = x * 1664525u + 1013904223u;
            fprintf(f, "%s%s", w ? w % 12 ? " " : ".\n" : "", words[(x >> 16) % 14]);
        }
        fprintf(f, ".\n\n");
    }
    assert_int_equal(fclose(f), 0);
}
