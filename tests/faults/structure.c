/*
 * structure ATTAR: small valid files, changed in their structure and given to the command that
 * reads them: two tensors' places exchanged, a dimension, type, count, offset or length changed, a
 * key dropped, doubled or of another kind, NaN, huge numbers, files of HDF5 with their seal made
 * anew. The fuzzers see that no parser breaks on bytes; this, that no whole command believes a file
 * that contradicts itself.
 *
 * A mutant ends in 1 with a message, or in 0. It is a fault if it ends in anything else, takes more
 * than PATIENCE seconds or MEMORY bytes, or ends in 0 where the change breaks the file for certain,
 * or in another output where it cannot matter. MUTANTS (3000), SEED (1); MUTANT=N repeats one, and
 * leaves its file. The N-th mutant of a seed is always the same.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <hdf5.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "datasets/h5seal.h"

enum { PATH = 4096, PATIENCE = 60, WORDS = 24, MARKS = 4096 };
static const rlim_t MEMORY = (rlim_t)8 << 30; /* of addresses: arenas are reserved, not used */

/* What a change of structure must lead to. */
enum effect { ANY, BROKEN, HARMLESS };

static char attar[PATH], top[PATH];
static uint64_t state;

static _Noreturn void give_up(const char *what)
{
    printf("structure: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t draw(void)
{
    state += 0x9e3779b97f4a7c15; // splitmix64
    uint64_t z = state;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static size_t below(size_t n)
{
    return (size_t)(draw() % n);
}

static char *at(char path[PATH], const char *name)
{
    if (snprintf(path, PATH, "%s/%s", top, name) >= PATH)
        give_up(name);
    return path;
}

/* ---- bytes ---- */

struct bytes {
    unsigned char *p;
    size_t n;
};

static struct bytes read_bytes(const char *name)
{
    char path[PATH];
    struct bytes b = {0};
    FILE *f = fopen(at(path, name), "rb");
    if (!f || fseek(f, 0, SEEK_END))
        give_up(path);
    b.n = (size_t)ftell(f);
    rewind(f);
    b.p = malloc(b.n + 4096); // room to insert
    if (!b.p || fread(b.p, 1, b.n, f) != b.n)
        give_up(path);
    fclose(f);
    return b;
}

static void write_bytes(const char *name, const void *p, size_t n)
{
    char path[PATH];
    FILE *f = fopen(at(path, name), "wb");
    if (!f || fwrite(p, 1, n, f) != n || fclose(f))
        give_up(path);
}

static uint64_t number_at(const struct bytes *b, size_t i, int bytes)
{
    uint64_t v = 0;
    memcpy(&v, b->p + i, (size_t)bytes);
    return v;
}

/* Another number: near, large, small, of the other byte order. */
static void change_number(struct bytes *b, size_t i, int bytes)
{
    const uint64_t was = number_at(b, i, bytes);
    const uint64_t mask = bytes == 8 ? ~UINT64_C(0) : (UINT64_C(1) << 8 * bytes) - 1;
    const uint64_t choices[] = {was + 1,
                                was - 1,
                                was * 2,
                                was / 2 + 3,
                                0,
                                mask,
                                mask >> 1,
                                (mask >> 1) + 1,
                                was ^ UINT64_C(1) << below((size_t)bytes * 8),
                                __builtin_bswap64(was) >> (64 - 8 * bytes),
                                was + 32};
    uint64_t now = was;
    for (int tries = 0; (now & mask) == was && tries < 50; tries++)
        now = choices[below(sizeof choices / sizeof *choices)];
    memcpy(b->p + i, &now, (size_t)bytes);
}

/* ---- GGUF: where its numbers are ---- */

enum mark_kind { COUNT, KEY_LENGTH, KIND, VALUE, NAME_LENGTH, N_DIMS, DIM, TYPE, OFFSET };

struct mark {
    enum mark_kind kind;
    size_t at;
    int bytes;
};

struct gguf {
    struct bytes b;
    struct mark mark[MARKS];
    size_t n_marks, key[512], n_keys, tensor[512], n_tensors, head_end;
};

static void mark(struct gguf *g, enum mark_kind kind, size_t i, int bytes)
{
    if (g->n_marks < MARKS)
        g->mark[g->n_marks++] = (struct mark){kind, i, bytes};
}

static size_t skip_value(struct gguf *g, size_t i, uint64_t kind, bool note)
{
    static const int size[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    if (kind == 8) {
        if (note)
            mark(g, VALUE, i, 8);
        return i + 8 + number_at(&g->b, i, 8);
    }
    if (kind == 9) {
        const uint64_t of = number_at(&g->b, i, 4), n = number_at(&g->b, i + 4, 8);
        mark(g, KIND, i, 4);
        mark(g, COUNT, i + 4, 8);
        i += 12;
        for (uint64_t k = 0; k < n; k++)
            i = skip_value(g, i, of, k == n / 2);
        return i;
    }
    if (note)
        mark(g, VALUE, i, size[kind]);
    return i + (size_t)size[kind];
}

static void map_gguf(struct gguf *g, const char *name)
{
    g->b = read_bytes(name);
    const uint64_t tensors = number_at(&g->b, 8, 8), keys = number_at(&g->b, 16, 8);
    mark(g, COUNT, 4, 4); // the version
    mark(g, COUNT, 8, 8);
    mark(g, COUNT, 16, 8);
    size_t i = 24;
    for (uint64_t k = 0; k < keys; k++) {
        g->key[g->n_keys++] = i;
        mark(g, KEY_LENGTH, i, 8);
        i += 8 + number_at(&g->b, i, 8);
        mark(g, KIND, i, 4);
        i = skip_value(g, i + 4, number_at(&g->b, i, 4), true);
    }
    for (uint64_t k = 0; k < tensors; k++) {
        g->tensor[g->n_tensors++] = i;
        mark(g, NAME_LENGTH, i, 8);
        i += 8 + number_at(&g->b, i, 8);
        const uint64_t dims = number_at(&g->b, i, 4);
        mark(g, N_DIMS, i, 4);
        i += 4;
        for (uint64_t d = 0; d < dims; d++, i += 8)
            mark(g, DIM, i, 8);
        mark(g, TYPE, i, 4);
        mark(g, OFFSET, i + 4, 8);
        i += 12;
    }
    g->tensor[g->n_tensors] = g->key[g->n_keys] = i;
    g->key[g->n_keys] = g->tensor[0];
    g->head_end = i;
}

/* The data begins at a multiple of 32: what a change of the head adds or takes, its padding gives.
 */
static size_t data_of(size_t head_end)
{
    return (head_end + 31) / 32 * 32;
}

/* Replaces n bytes of the head at i by m others, keeping the data. */
static void replace_head(struct gguf *g, size_t i, size_t n, const void *p, size_t m)
{
    const size_t head = g->head_end - n + m, from = data_of(g->head_end), to = data_of(head);
    unsigned char *out = calloc(to + g->b.n - from + 4096, 1);
    memcpy(out, g->b.p, i);
    memcpy(out + i, p, m);
    memcpy(out + i + m, g->b.p + i + n, g->head_end - i - n);
    memcpy(out + to, g->b.p + from, g->b.n - from);
    g->b.n = to + g->b.n - from;
    free(g->b.p);
    g->b.p = out;
}

static void add_to(struct gguf *g, size_t i, int more)
{
    const uint64_t n = number_at(&g->b, i, 8) + (uint64_t)(int64_t)more;
    memcpy(g->b.p + i, &n, 8);
}

static bool key_is(const struct gguf *g, size_t k, const char *name)
{
    const size_t i = g->key[k];
    return number_at(&g->b, i, 8) == strlen(name) && !memcmp(g->b.p + i + 8, name, strlen(name));
}

/* A place in the tensor list: exchanged offsets. */
static enum effect swap_offsets(struct gguf *g, char *what)
{
    size_t offsets[512], n = 0;
    for (size_t i = 0; i < g->n_marks; i++)
        if (g->mark[i].kind == OFFSET)
            offsets[n++] = g->mark[i].at;
    const size_t a = offsets[below(n)], b = offsets[below(n)];
    const uint64_t x = number_at(&g->b, a, 8), y = number_at(&g->b, b, 8);
    memcpy(g->b.p + a, &y, 8);
    memcpy(g->b.p + b, &x, 8);
    sprintf(what, "offsets at %zu and %zu exchanged", a, b);
    return a == b ? HARMLESS : ANY; // two of the same size are another valid model
}

static enum effect mutate_gguf(const char *from, const char *to, char *what)
{
    struct gguf g = {0};
    enum effect effect = ANY;
    map_gguf(&g, from);
    switch (below(8)) {
    case 0: {
        const size_t k = below(g.n_keys);
        sprintf(what, "key %zu (%.*s) dropped", k, (int)number_at(&g.b, g.key[k], 8),
                (const char *)g.b.p + g.key[k] + 8);
        effect = key_is(&g, k, "general.name") ? HARMLESS : ANY;
        add_to(&g, 16, -1);
        replace_head(&g, g.key[k], g.key[k + 1] - g.key[k], "", 0);
        break;
    }
    case 1: {
        const size_t k = below(g.n_keys), n = g.key[k + 1] - g.key[k];
        sprintf(what, "key %zu doubled", k);
        effect = BROKEN;
        add_to(&g, 16, 1);
        unsigned char *copy = malloc(n);
        memcpy(copy, g.b.p + g.key[k], n);
        replace_head(&g, g.key[k], 0, copy, n);
        free(copy);
        break;
    }
    case 2: {
        static const char key[] = "\x0b\0\0\0\0\0\0\0x.not_known\4\0\0\0\7\0\0\0";
        sprintf(what, "a key of another program's added");
        effect = HARMLESS;
        add_to(&g, 16, 1);
        replace_head(&g, g.key[below(g.n_keys)], 0, key, sizeof key - 1);
        break;
    }
    case 3: {
        const size_t k = below(g.n_tensors);
        const bool drop = below(2);
        sprintf(what, "tensor %zu %s", k, drop ? "dropped" : "doubled");
        // without its head a model is one whose head is the embedding
        effect = drop && !memcmp(g.b.p + g.tensor[k] + 8, "output.weight", 13) ? ANY : BROKEN;
        const size_t n = g.tensor[k + 1] - g.tensor[k];
        unsigned char *copy = malloc(n);
        memcpy(copy, g.b.p + g.tensor[k], n);
        add_to(&g, 8, drop ? -1 : 1);
        replace_head(&g, g.tensor[k], drop ? n : 0, copy, drop ? 0 : n);
        free(copy);
        break;
    }
    case 4:
        effect = swap_offsets(&g, what);
        break;
    case 5:
        g.b.n -= 1 + below(g.b.n - 1);
        sprintf(what, "cut off to %zu bytes", g.b.n);
        effect = BROKEN;
        break;
    case 6: {
        const float nan_value = NAN;
        const size_t i = data_of(g.head_end) + below((g.b.n - data_of(g.head_end)) / 4) * 4;
        memcpy(g.b.p + i, &nan_value, 4);
        sprintf(what, "NaN at %zu", i);
        break;
    }
    default: {
        const struct mark *m = &g.mark[below(g.n_marks)];
        sprintf(what, "number of kind %d at %zu was %llu", (int)m->kind, m->at,
                (unsigned long long)number_at(&g.b, m->at, m->bytes));
        change_number(&g.b, m->at, m->bytes);
        effect = m->kind == DIM || m->kind == TYPE || m->kind == N_DIMS || m->kind == OFFSET ||
                         m->kind == COUNT
                     ? BROKEN
                     : ANY;
    }
    }
    write_bytes(to, g.b.p, g.b.n);
    free(g.b.p);
    return effect;
}

/* ---- JSON ---- */

static json_t *another_value(const json_t *was)
{
    static const double huge[] = {-1, 0, 1e18, 2147483648.0, 4294967295.0, 7.5};
    switch (below(7)) {
    case 0:
        return json_null();
    case 1:
        return json_string("\xc3\xa4 \\ {}");
    case 2:
        return json_array();
    case 3:
        return json_object();
    case 4:
        return json_boolean(below(2));
    case 5:
        if (json_is_integer(was))
            return json_integer(json_integer_value(was) + (below(2) ? 1 : -1));
        break;
    }
    const double x = huge[below(sizeof huge / sizeof *huge)];
    return below(2) ? json_real(x) : json_integer((json_int_t)x);
}

/* Changes one value below v; the deeper the more seldom the way ends early. */
static void mutate_value(json_t *v, char *what)
{
    const size_t n = json_is_object(v) ? json_object_size(v) : json_array_size(v);
    if (!n)
        return;
    size_t i = below(n);
    if (json_is_array(v)) {
        json_t *child = json_array_get(v, i);
        if ((json_is_object(child) || json_is_array(child)) && below(5)) {
            mutate_value(child, what);
            return;
        }
        sprintf(what, "element %zu of an array of %zu", i, n);
        const size_t how = below(4);
        if (how == 0)
            json_array_remove(v, i);
        else if (how == 1)
            json_array_insert(v, i, json_incref(child));
        else
            json_array_set_new(v, i, another_value(child));
        return;
    }
    const char *key = NULL;
    json_t *child = NULL;
    void *tmp;
    json_object_foreach_safe(v, tmp, key, child)
    {
        if (!i--)
            break;
    }
    if ((json_is_object(child) || json_is_array(child)) && below(5)) {
        mutate_value(child, what);
        return;
    }
    sprintf(what, "key %.60s", key);
    if (below(3))
        json_object_set_new(v, key, another_value(child));
    else
        json_object_del(v, key);
}

static enum effect mutate_json(const char *from, const char *to, char *what)
{
    const struct bytes b = read_bytes(from);
    json_t *root = json_loadb((const char *)b.p, b.n, 0, NULL);
    free(b.p);
    if (!root)
        give_up(from);
    mutate_value(root, what);
    char *text = json_dumps(root, JSON_ENSURE_ASCII);
    write_bytes(to, text, strlen(text));
    free(text);
    json_decref(root);
    return ANY;
}

static enum effect mutate_safetensors(const char *from, const char *to, char *what)
{
    struct bytes b = read_bytes(from);
    const size_t n = (size_t)number_at(&b, 0, 8);
    enum effect effect = ANY;
    if (below(4)) {
        json_t *root = json_loadb((const char *)b.p + 8, n, 0, NULL);
        if (!root)
            give_up(from);
        mutate_value(root, what);
        char *text = json_dumps(root, JSON_COMPACT);
        const uint64_t m = strlen(text);
        unsigned char *out = malloc(8 + m + b.n - n);
        memcpy(out, &m, 8);
        memcpy(out + 8, text, m);
        memcpy(out + 8 + m, b.p + 8 + n, b.n - 8 - n);
        write_bytes(to, out, m + b.n - n);
        free(out);
        free(text);
        json_decref(root);
    } else if (below(2)) {
        change_number(&b, 0, 8);
        sprintf(what, "length of the header");
        write_bytes(to, b.p, b.n);
        effect = BROKEN;
    } else {
        b.n -= 1 + below(b.n - 1);
        sprintf(what, "cut off to %zu bytes", b.n);
        write_bytes(to, b.p, b.n);
        effect = BROKEN;
    }
    free(b.p);
    return effect;
}

/* ---- log-probabilities ---- */

static enum effect mutate_logits(const char *from, const char *to, char *what)
{
    struct bytes b = read_bytes(from);
    enum effect effect = BROKEN;
    if (below(3)) {
        const size_t i = 8 + 4 * below(3);
        sprintf(what, "number at %zu was %llu", i, (unsigned long long)number_at(&b, i, 4));
        change_number(&b, i, 4);
        effect = ANY; // fewer chunks of a file are a file
    } else if (below(2)) {
        b.n -= 1 + below(b.n - 1);
        sprintf(what, "cut off to %zu bytes", b.n);
    } else {
        const size_t i = 20 + 4 * below(100);
        sprintf(what, "token at %zu", i);
        change_number(&b, i, 4);
        effect = ANY;
    }
    write_bytes(to, b.p, b.n);
    free(b.p);
    return effect;
}

/* ---- HDF5, with its seal made anew ---- */

struct names {
    char name[512][128];
    int n;
};

static herr_t add_name(hid_t group, const char *name, const H5L_info_t *info, void *arg)
{
    struct names *s = arg;
    (void)group, (void)info;
    if (s->n < 512 && strlen(name) < sizeof *s->name)
        strcpy(s->name[s->n++], name);
    return 0;
}

static herr_t add_attribute(hid_t object, const char *name, const H5A_info_t *info, void *arg)
{
    return add_name(object, name, (const H5L_info_t *)(const void *)info, arg);
}

static const char *another_attribute(hid_t f)
{
    static const char *const groups[] = {"/", "model", "train", "valid", "blocks", "optim/ema"};
    static char text[256];
    struct names s = {0};
    const char *group = groups[below(sizeof groups / sizeof *groups)];
    if (strcmp(group, "/") && H5Lexists(f, group, H5P_DEFAULT) <= 0)
        group = "/";
    const hid_t o = H5Oopen(f, group, H5P_DEFAULT);
    H5Aiterate2(o, H5_INDEX_NAME, H5_ITER_INC, NULL, add_attribute, &s);
    if (!s.n) {
        H5Oclose(o);
        return "no attribute there";
    }
    const char *name = s.name[below((size_t)s.n)];
    const hid_t a = H5Aopen(o, name, H5P_DEFAULT), type = H5Aget_type(a);
    if (!below(3) || H5Tget_class(type) == H5T_STRING) {
        H5Aclose(a);
        H5Adelete(o, name);
        snprintf(text, sizeof text, "attribute %s of %s dropped", name, group);
    } else {
        static const int64_t numbers[] = {-1, 0, 1, 3, 1 << 20, INT32_MAX, INT64_MAX, INT64_MIN};
        static const double reals[] = {NAN, INFINITY, -1, 0, 1e300};
        const int64_t i = numbers[below(8)];
        const double x = reals[below(5)];
        if (H5Tget_class(type) == H5T_INTEGER)
            H5Awrite(a, H5T_NATIVE_INT64, &i);
        else
            H5Awrite(a, H5T_NATIVE_DOUBLE, &x);
        H5Aclose(a);
        snprintf(text, sizeof text, "attribute %s of %s is another", name, group);
    }
    H5Tclose(type);
    H5Oclose(o);
    return text;
}

/* A dataset of this name of another shape or type, in place of the one that was there. */
static void another_dataset(hid_t f, const char *name)
{
    hsize_t dim[3] = {1 + below(70), 1 + below(70), 2};
    const hid_t types[] = {H5T_STD_U8LE,  H5T_STD_U16LE,  H5T_STD_I32LE,
                           H5T_STD_I64LE, H5T_IEEE_F32LE, H5T_IEEE_F64LE};
    const hid_t space = H5Screate_simple((int)below(3) + 1, dim, NULL);
    H5Ldelete(f, name, H5P_DEFAULT);
    H5Dclose(H5Dcreate2(f, name, types[below(6)], space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    H5Sclose(space);
}

static enum effect mutate_h5(const char *from, const char *to, char *what)
{
    char path[PATH];
    struct stat st;
    const struct bytes b = read_bytes(from);
    write_bytes(to, b.p, b.n);
    free(b.p);
    const hid_t f = H5Fopen(at(path, to), H5F_ACC_RDWR, H5P_DEFAULT);
    static struct names s;
    s.n = 0;
    H5Lvisit(f, H5_INDEX_NAME, H5_ITER_INC, add_name, &s);
    const char *a = s.name[below((size_t)s.n)], *c = s.name[below((size_t)s.n)];
    switch (below(5)) {
    case 0:
        H5Ldelete(f, a, H5P_DEFAULT);
        sprintf(what, "%s dropped", a);
        break;
    case 1:
        H5Lmove(f, a, f, "aside", H5P_DEFAULT, H5P_DEFAULT);
        if (strcmp(a, c) && H5Lexists(f, c, H5P_DEFAULT) > 0)
            H5Lmove(f, c, f, a, H5P_DEFAULT, H5P_DEFAULT);
        H5Lmove(f, "aside", f, c, H5P_DEFAULT, H5P_DEFAULT);
        sprintf(what, "%s and %s exchanged", a, c);
        break;
    case 2:
        another_dataset(f, a);
        sprintf(what, "%s of another shape or type", a);
        break;
    default:
        sprintf(what, "%s", another_attribute(f));
    }
    H5Fclose(f);
    const int fd = open(path, O_RDWR);
    if (fd < 0 || fstat(fd, &st) || h5seal_write(fd, st.st_size))
        give_up(path);
    close(fd);
    return ANY;
}

/* ---- commands ---- */

static int wait_for(pid_t pid)
{
    int status = 0;
    const time_t began = time(NULL);
    while (!waitpid(pid, &status, WNOHANG)) {
        if (time(NULL) - began > PATIENCE) {
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            return -1;
        }
        nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int run(const char *program, const char *args)
{
    char text[PATH], path[PATH];
    char *argv[WORDS] = {(char *)(uintptr_t)program}, *rest = text;
    const pid_t pid = fork();
    if (pid)
        return pid < 0 ? -1 : wait_for(pid);
    snprintf(text, sizeof text, "%s", args);
    for (int i = 1; i < WORDS - 1 && (argv[i] = strsep(&rest, " ")); i++)
        continue;
    const int out = open(at(path, "stdout"), O_WRONLY | O_CREAT | O_TRUNC, 0666);
    const int err = open(at(path, "stderr"), O_WRONLY | O_CREAT | O_TRUNC, 0666);
    const struct rlimit r = {MEMORY, MEMORY};
    dup2(out, 1), dup2(err, 2);
    setrlimit(RLIMIT_AS, &r);
    setenv("OMP_WAIT_POLICY", "passive", 1);
    setenv("OMP_NUM_THREADS", "1", 1);
    if (chdir(top))
        _exit(126);
    execvp(program, argv);
    _exit(127);
}

static void must(const char *program, const char *args)
{
    char path[PATH], line[PATH + 16];
    const int status = run(program, args);
    if (!status)
        return;
    printf("structure: `%s %s`: exit status %d\n", program, args, status);
    snprintf(line, sizeof line, "cat '%s'", at(path, "stderr"));
    exit(system(line) ? 1 : 1);
}

static const struct target {
    const char *name, *from, *to, *args; /* args "perplexity ...": output is the model's alone */
    enum effect (*mutate)(const char *from, const char *to, char *what);
} targets[] = {
    {"GGUF, perplexity", "f.gguf", "x.gguf", "perplexity -m x.gguf -f s.txt -c 32", mutate_gguf},
    {"GGUF, quantize", "f.gguf", "x.gguf", "quantize x.gguf o.gguf q4_0", mutate_gguf},
    {"GGUF, import", "m.gguf", "x.gguf", "import x.gguf o.h5", mutate_gguf},
    {"imatrix", "i.gguf", "x.gguf", "quantize --imatrix x.gguf f.gguf o.gguf q4_0", mutate_gguf},
    {"checkpoint, export", "m.h5", "x.h5", "export x.h5 o.gguf", mutate_h5},
    {"checkpoint, inspect", "m.h5", "x.h5", "inspect x.h5", mutate_h5},
    {"corpus, show", "c.h5", "x.h5", "data show x.h5", mutate_h5},
    {"safetensors", "hf/model.safetensors", "hx/model.safetensors", "import hx o.h5",
     mutate_safetensors},
    {"config.json", "hf/config.json", "hx/config.json", "import hx o.h5", mutate_json},
    {"tokenizer.json", "tok.json", "x.json", "tokenizer encode -t x.json s.txt", mutate_json},
    {"log-probabilities", "l.dat", "x.dat",
     "perplexity -m f.gguf --kl-divergence-base x.dat --kl-divergence", mutate_logits},
};

enum { TARGETS = sizeof targets / sizeof *targets };

static const char CONFIG[] =
    "name: t\n"
    "data: {corpus: text.txt, tokenizer: {type: byte}, valid_fraction: 20%}\n"
    "model: {arch: llama, n_layers: 1, d_model: 32, n_heads: 2, d_ff: 64, context: 32}\n"
    "stages:\n"
    "  - pretrain: {steps: 2, batch_tokens: 64, lr: 1e-3, ema: 0.9}\n"
    "  - qat: {type: q8_0, steps: 1, batch_tokens: 64, lr: 1e-3}\n";

static void write_text(const char *name, int documents)
{
    char path[PATH];
    unsigned x = 1;
    FILE *f = fopen(at(path, name), "w");
    if (!f)
        give_up(path);
    for (int i = 0; i < documents; i++) {
        for (int w = 0; w < 24; w++) {
            x = x * 1664525 + 1013904223;
            fprintf(f, "%s%.*s", w ? " " : "", 2 + (int)(x >> 29),
                    &"andthewordsofit"[(x >> 20) % 8]);
        }
        fputs(".\n\n", f);
    }
    fclose(f);
}

/* A folder as Hugging Face's libraries write it: one layer of 32, 2 heads, a vocabulary of 264. */
static void write_hf(void)
{
    static const struct {
        const char *name;
        int rows, cols;
    } tensors[] = {{"embed_tokens", 264, 32},
                   {"layers.0.input_layernorm", 32, 0},
                   {"layers.0.mlp.down_proj", 32, 64},
                   {"layers.0.mlp.gate_proj", 64, 32},
                   {"layers.0.mlp.up_proj", 64, 32},
                   {"layers.0.post_attention_layernorm", 32, 0},
                   {"layers.0.self_attn.k_proj", 32, 32},
                   {"layers.0.self_attn.o_proj", 32, 32},
                   {"layers.0.self_attn.q_proj", 32, 32},
                   {"layers.0.self_attn.v_proj", 32, 32},
                   {"norm", 32, 0}};
    static const char config[] =
        "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_size\":32,"
        "\"intermediate_size\":64,\"num_hidden_layers\":1,\"num_attention_heads\":2,"
        "\"num_key_value_heads\":2,\"vocab_size\":264,\"rms_norm_eps\":1e-5,"
        "\"max_position_embeddings\":64,\"rope_theta\":10000.0,\"tie_word_embeddings\":true,"
        "\"hidden_act\":\"silu\"}";
    json_t *head = json_object();
    uint64_t bytes = 0;
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        char name[96];
        json_t *shape = json_array();
        const uint64_t n =
            4 * (uint64_t)tensors[i].rows * (uint64_t)(tensors[i].cols | !tensors[i].cols);
        json_array_append_new(shape, json_integer(tensors[i].rows));
        if (tensors[i].cols)
            json_array_append_new(shape, json_integer(tensors[i].cols));
        snprintf(name, sizeof name, "model.%s.weight", tensors[i].name);
        json_object_set_new(head, name,
                            json_pack("{s:s, s:o, s:[I, I]}", "dtype", "F32", "shape", shape,
                                      "data_offsets", (json_int_t)bytes, (json_int_t)(bytes + n)));
        bytes += n;
    }
    char *text = json_dumps(head, JSON_COMPACT);
    const uint64_t n = strlen(text);
    unsigned char *all = malloc(8 + n + bytes);
    memcpy(all, &n, 8);
    memcpy(all + 8, text, n);
    for (uint64_t i = 0; i < bytes / 4; i++) {
        const float x = (float)(i % 97) / 97 - 0.5f;
        memcpy(all + 8 + n + 4 * i, &x, 4);
    }
    write_bytes("hf/model.safetensors", all, 8 + n + bytes);
    write_bytes("hf/config.json", config, sizeof config - 1);
    free(all);
    free(text);
    json_decref(head);
}

static void prepare(void)
{
    write_text("text.txt", 30);
    write_text("s.txt", 4);
    write_bytes("t.yaml", CONFIG, sizeof CONFIG - 1);
    must("mkdir", "hf");
    write_hf();
    must(attar, "run t.yaml");
    must("cp", "runs/t/02-qat/checkpoint.h5 m.h5");
    must(attar, "export m.h5 m.gguf");
    must(attar, "export runs/t/01-pretrain/checkpoint.h5 f.gguf --type f32");
    must(attar, "imatrix -m f.gguf -f s.txt -c 32 -o i.gguf");
    must(attar, "perplexity -m f.gguf -f s.txt -c 32 --kl-divergence-base l.dat");
    must(attar, "tokenizer train -v 264 -o tok.json s.txt");
    must("cp", "tok.json hf/tokenizer.json");
    must("sh", "-c mv${IFS}data/corpus-*.h5${IFS}c.h5");
}

/* NULL, or what is wrong. */
static const char *judge(const struct target *t, int status, enum effect effect,
                         const struct bytes *reference)
{
    static char text[64];
    if (status < 0)
        return "it does not end";
    snprintf(text, sizeof text, status > 128 ? "signal %d" : "exit status %d",
             status > 128 ? status - 128 : status);
    if (status > 1)
        return text;
    if (status == 0 && effect == BROKEN)
        return "it is believed";
    if (status == 1) {
        const struct bytes said = read_bytes("stderr");
        said.p[said.n] = 0;
        const bool message = strstr((const char *)said.p, "attar: ") != NULL;
        free(said.p);
        return !message ? "no message" : effect == HARMLESS ? "it is refused" : NULL;
    }
    if (effect != HARMLESS || strncmp(t->args, "perplexity", 10))
        return NULL;
    const struct bytes out = read_bytes("stdout");
    const bool same = out.n == reference->n && !memcmp(out.p, reference->p, out.n);
    free(out.p);
    return same ? NULL : "another output";
}

static long of_environment(const char *name, long usual)
{
    const char *s = getenv(name);
    return s && *s ? strtol(s, NULL, 10) : usual;
}

static int remove_one(const char *path, const struct stat *s, int type, struct FTW *f)
{
    (void)s, (void)type, (void)f;
    return remove(path);
}

int main(int argc, char **argv)
{
    const char *tmp = getenv("TMPDIR");
    struct bytes reference[TARGETS];
    int count[TARGETS][3] = {{0}}, faults = 0;
    const long mutants = of_environment("MUTANTS", 3000), one = of_environment("MUTANT", -1);
    const uint64_t seed = (uint64_t)of_environment("SEED", 1);
    if (argc != 2 || !realpath(argv[1], attar))
        give_up("usage: structure ATTAR");
    snprintf(top, sizeof top, "%s/structure-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(top))
        give_up(top);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    prepare();
    for (int i = 0; i < TARGETS; i++) { // as it is, under the mutant's name
        const struct bytes b = read_bytes(targets[i].from);
        must("rm", "-rf hx");
        must("cp", "-r hf hx");
        write_bytes(targets[i].to, b.p, b.n);
        free(b.p);
        must(attar, targets[i].args);
        reference[i] = read_bytes("stdout");
    }
    for (long k = one < 0 ? 0 : one; k < (one < 0 ? mutants : one + 1); k++) {
        const int i = (int)(k % TARGETS);
        char what[512] = "nothing";
        state = seed * 1000003 + (uint64_t)k;
        must("rm", "-rf hx o.gguf o.h5");
        must("cp", "-r hf hx");
        const enum effect effect = targets[i].mutate(targets[i].from, targets[i].to, what);
        const int status = run(attar, targets[i].args);
        const char *wrong = judge(&targets[i], status, effect, &reference[i]);
        count[i][wrong ? 2 : status == 1 ? 0 : 1]++;
        faults += wrong != NULL;
        if (wrong || one >= 0)
            printf("mutant %ld, %s: %s: %s\n", k, targets[i].name, what, wrong ? wrong : "held");
        fflush(stdout);
    }
    for (int i = 0; i < TARGETS && one < 0; i++)
        printf("%-24s %5d refused, %5d read, %3d faults\n", targets[i].name, count[i][0],
               count[i][1], count[i][2]);
    printf("%d faults\n", faults);
    if (one >= 0)
        printf("its files are in %s\n", top);
    else
        (void)nftw(top, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return faults != 0;
}
