/*
 * sweep ATTAR SHIM: every command of commands.def, with every kind of call of kinds.def failing,
 * one call a trial: each of the first 100 of a command, then 100 chosen by SEED (1). Trials come in
 * an order that SEED shuffles, until SWEEP_SECONDS (1200) are over; FULL=1 makes all, of every
 * call. ONLY=text: commands whose names begin so. TRIAL=N repeats one and shows what it printed.
 *
 * What a trial may end with:
 *     a message    on stderr and exit status 1; results are not there, or as unfaulted; nothing is
 *                  left of unfinished ones; and the same command, unfaulted, then ends as it should
 *     a going-on   exit status 0 and results as unfaulted
 * Anything else is a fault, and printed. The end is a table, commands by kinds, and 1 if there was
 * a fault.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PATH = 4096, FIRST = 100, CHOSEN = 100, PATIENCE = 60, WORDS = 16, TEXT = 360 };

struct command {
    const char *name, *needs, *args, *results;
};

static const struct command commands[] = {
#define COMMAND(name, needs, args, results) {name, needs, args, results},
#include "tests/faults/commands.def"
#undef COMMAND
};

static const struct kind {
    const char *name, *errors;
} kinds[] = {
#define KIND(name, errors) {#name, errors},
#include "tests/faults/kinds.def"
#undef KIND
};

enum { COMMANDS = sizeof commands / sizeof *commands, KINDS = sizeof kinds / sizeof *kinds };

enum verdict { NOT_RUN, MESSAGE, GOES_ON, FAULT };

struct trial {
    int command, kind, error; /* the error's place in the kind's list */
    long n;
    enum verdict verdict;
    char text[TEXT]; /* of a fault */
};

static char attar[PATH], shim[PATH], top[PATH];

static _Noreturn void give_up(const char *what)
{
    printf("sweep: %s: %s\n", what, strerror(errno));
    exit(1);
}

static char *print_to(char path[PATH], const char *folder, const char *name)
{
    if (snprintf(path, PATH, "%s/%s", folder, name) >= PATH)
        give_up(name);
    return path;
}

/* The i-th word of a list with spaces between, or NULL. */
static const char *word(const char *list, int i, char out[256])
{
    int end = 0;
    for (; i >= 0; i--, list += end) {
        end = 0;
        if (sscanf(list, "%255s%n", out, &end) != 1)
            return NULL;
    }
    return out;
}

/* ---- files ---- */

static char *read_file(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return NULL;
    char *p = NULL;
    *n = 0;
    for (size_t cap = 1 << 16, got = 1; got; *n += got, cap *= 2) {
        p = realloc(p, cap + 1);
        if (!p)
            give_up(path);
        got = fread(p + *n, 1, cap - *n, f);
    }
    p[*n] = 0;
    fclose(f);
    return p;
}

/* What must be the same of a file: its bytes; of a log its steps and losses. */
static char *essence(const char *path, size_t *n)
{
    char *bytes = read_file(path, n);
    if (!bytes || !strstr(path, "metrics.jsonl"))
        return bytes;
    char *out = calloc(*n + 1, 1), *rest = bytes;
    size_t at = 0;
    for (char *line; (line = strsep(&rest, "\n"));) {
        json_t *o = json_loads(line, 0, NULL);
        const json_t *loss = json_object_get(o, "loss");
        if (loss)
            at += (size_t)snprintf(out + at, *n - at, "%lld %.9g\n",
                                   json_integer_value(json_object_get(o, "step")),
                                   json_number_value(loss));
        json_decref(o);
    }
    free(bytes);
    *n = at;
    return out;
}

static int remove_one(const char *path, const struct stat *s, int type, struct FTW *f)
{
    (void)s, (void)type, (void)f;
    return remove(path);
}

static void remove_folder(const char *path)
{
    (void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static _Thread_local char leftover[TEXT];

static int look_leftover(const char *path, const struct stat *s, int type, struct FTW *f)
{
    (void)s, (void)type, (void)f;
    if (strstr(path, ".tmp-"))
        snprintf(leftover, sizeof leftover, "%.*s", TEXT - 1, strrchr(path, '/') + 1);
    return 0;
}

/* ---- processes ---- */

/* Exit status, 128 + signal, or -1: it did not end in time. */
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

/* `program args` in the folder; stdout and stderr go to files there. `fault`, `log`: NULL for none.
 */
static int run(const char *program, const char *folder, const char *args, const char *fault,
               const char *log)
{
    const pid_t pid = fork();
    if (pid)
        return pid < 0 ? -1 : wait_for(pid);
    char text[PATH];
    char *argv[WORDS * 2] = {(char *)(uintptr_t)program}, *rest = text;
    snprintf(text, sizeof text, "%s", args);
    for (int i = 1; i < WORDS * 2 - 1 && (argv[i] = strsep(&rest, " ")); i++)
        continue;
    const int none = open("/dev/null", O_RDONLY);
    if (chdir(folder))
        _exit(126);
    const int out = open("stdout", O_WRONLY | O_CREAT | O_TRUNC, 0666);
    const int err = open("stderr", O_WRONLY | O_CREAT | O_TRUNC, 0666);
    dup2(none, 0), dup2(out, 1), dup2(err, 2);
    setenv("OMP_WAIT_POLICY", "passive", 1);
    setenv("OMP_NUM_THREADS", "2", 1);
    if (fault || log)
        setenv("LD_PRELOAD", shim, 1);
    if (fault)
        setenv("FAULT", fault, 1);
    if (log)
        setenv("FAULT_LOG", log, 1);
    execvp(program, argv);
    _exit(127);
}

static void must(const char *program, const char *folder, const char *args)
{
    const int status = run(program, folder, args, NULL, NULL);
    if (!status)
        return;
    char path[PATH];
    size_t n;
    char *text = read_file(print_to(path, folder, "stderr"), &n);
    printf("sweep: `%s %s`: exit status %d\n%s\n", program, args, status, text ? text : "");
    exit(1);
}

/* ---- what the commands need ---- */

static const char CONFIG[] =
    "name: t\n"
    "seed: 1\n"
    "data: {corpus: text.txt, tokenizer: {type: byte}, valid_fraction: 10%}\n"
    "model: {arch: llama, n_layers: 2, d_model: 32, n_heads: 2, d_ff: 64, context: 32}\n"
    "stages:\n"
    "  - pretrain: {steps: 6, batch_tokens: 128, lr: 1e-3, eval_every: 3, save_every: 2, ema: "
    "0.9}\n"
    "  - qat: {type: q8_0, steps: 2, batch_tokens: 128, lr: 1e-3}\n"
    "  - export: {type: q8_0}\n"
    "  - evaluate: {compare: [pretrain, qat]}\n";

static void write_text(const char *folder, const char *name, int documents)
{
    char path[PATH];
    unsigned x = 1;
    FILE *f = fopen(print_to(path, folder, name), "w");
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

static void write_string(const char *folder, const char *name, const char *text)
{
    char path[PATH];
    FILE *f = fopen(print_to(path, folder, name), "w");
    if (!f || fputs(text, f) < 0 || fclose(f))
        give_up(path);
}

/* A folder as Hugging Face's libraries write it, of zeros: one layer of 32, 2 heads, 32 tokens. */
static void write_hf(const char *base)
{
    static const struct {
        const char *name;
        int rows, cols;
    } tensors[] = {{"model.embed_tokens.weight", 264, 32},
                   {"model.layers.0.input_layernorm.weight", 32, 0},
                   {"model.layers.0.mlp.down_proj.weight", 32, 64},
                   {"model.layers.0.mlp.gate_proj.weight", 64, 32},
                   {"model.layers.0.mlp.up_proj.weight", 64, 32},
                   {"model.layers.0.post_attention_layernorm.weight", 32, 0},
                   {"model.layers.0.self_attn.k_proj.weight", 32, 32},
                   {"model.layers.0.self_attn.o_proj.weight", 32, 32},
                   {"model.layers.0.self_attn.q_proj.weight", 32, 32},
                   {"model.layers.0.self_attn.v_proj.weight", 32, 32},
                   {"model.norm.weight", 32, 0}};
    char folder[PATH], path[PATH], head[4096];
    size_t at = 0;
    int n = snprintf(head, sizeof head, "{");
    if (mkdir(print_to(folder, base, "hf"), 0777))
        give_up(folder);
    write_string(folder, "config.json",
                 "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\","
                 "\"hidden_size\":32,\"intermediate_size\":64,\"num_hidden_layers\":1,"
                 "\"num_attention_heads\":2,\"num_key_value_heads\":2,\"vocab_size\":264,"
                 "\"rms_norm_eps\":1e-5,\"max_position_embeddings\":64,\"rope_theta\":10000.0,"
                 "\"tie_word_embeddings\":true,\"hidden_act\":\"silu\"}");
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        const int cols = tensors[i].cols ? tensors[i].cols : 1;
        const size_t bytes = 4 * (size_t)tensors[i].rows * (size_t)cols;
        n +=
            snprintf(head + n, sizeof head - (size_t)n,
                     "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%d%s%.*d],\"data_offsets\":[%zu,%zu]}",
                     i ? "," : "", tensors[i].name, tensors[i].rows, tensors[i].cols ? "," : "",
                     tensors[i].cols ? 1 : 0, tensors[i].cols, at, at + bytes);
        at += bytes;
    }
    n += snprintf(head + n, sizeof head - (size_t)n, "}");
    FILE *f = fopen(print_to(path, folder, "model.safetensors"), "wb");
    const uint64_t length = (uint64_t)n;
    if (!f || fwrite(&length, 8, 1, f) != 1 || fwrite(head, (size_t)n, 1, f) != 1)
        give_up(path);
    for (size_t i = 0; i < at / 4; i++) {
        const float x = (float)(i % 97) / 97 - 0.5f;
        fwrite(&x, 4, 1, f);
    }
    fclose(f);
}

static void prepare(const char *base)
{
    write_text(base, "text.txt", 60);
    write_text(base, "s.txt", 4);
    write_string(base, "t.yaml", CONFIG);
    write_string(base, "p.jsonl", "{\"prompt\": \"the\"}\n{\"prompt\": \"and\", \"samples\": 2}\n");
    write_hf(base);
    must(attar, base, "run t.yaml");
    must(attar, base, "export runs/t/02-qat/checkpoint.h5 m.gguf");
    must(attar, base, "export runs/t/01-pretrain/checkpoint.h5 f.gguf --type f32");
    must(attar, base, "imatrix -m f.gguf -f s.txt -c 32 -o i.gguf");
    must(attar, base, "perplexity -m f.gguf -f s.txt -c 32 --kl-divergence-base l.dat");
    must(attar, base, "tokenizer train -v 264 -o tok.json s.txt");
    must("cp", base, "tok.json hf/tokenizer.json");
    // as a kill after step 4 of the first stage leaves it
    must("mkdir", base, "stopped");
    must("cp", base, "-a runs stopped/runs");
    must("rm", base,
         "-rf stopped/runs/t/02-qat stopped/runs/t/03-export stopped/runs/t/04-evaluate "
         "stopped/runs/t/01-pretrain/summary.json stopped/runs/t/01-pretrain/checkpoint.h5 "
         "stopped/runs/t/01-pretrain/best.h5 stopped/runs/t/01-pretrain/checkpoint-00000006.h5");
}

/* A folder with what the command needs; a path of "stopped/" loses that. */
static void copy_needs(const struct command *c, const char *base, const char *folder)
{
    char name[256], line[3 * PATH];
    for (int i = 0; word(c->needs, i, name); i++) {
        const char *to = !strncmp(name, "stopped/", 8) ? name + 8 : name;
        const char *slash = strrchr(to, '/');
        snprintf(line, sizeof line, "mkdir -p '%s/%.*s' && cp -a '%s/%s' '%s/%s'", folder,
                 slash ? (int)(slash - to) : 0, to, base, name, folder, to);
        if (system(line))
            give_up(line);
    }
}

static void new_folder(char path[PATH], const char *name)
{
    print_to(path, top, name);
    remove_folder(path);
    if (mkdir(path, 0777))
        give_up(path);
}

/* ---- verdicts ---- */

/* 0: as unfaulted; 1: not there; 2: other. */
static int compare(const char *folder, const char *reference, const char *result)
{
    char a[PATH], b[PATH];
    size_t n, m;
    char *x = essence(print_to(a, folder, result), &n);
    char *y = essence(print_to(b, reference, result), &m);
    const int rc = !y ? 2 : !x ? 1 : n == m && !memcmp(x, y, n) ? 0 : 2;
    free(x);
    free(y);
    return rc;
}

static bool is_log(const char *result)
{
    return strstr(result, "metrics.jsonl") || !strcmp(result, "stdout");
}

/* The first result that is not as unfaulted, or NULL. */
static const char *differs(const struct command *c, const char *folder, const char *reference,
                           bool whole, char name[256])
{
    for (int i = 0; word(c->results, i, name); i++) {
        const int is = whole || !is_log(name) ? compare(folder, reference, name) : 0;
        if (is == 2 || (is && whole))
            return name;
    }
    return NULL;
}

static void found(struct trial *t, const char *format, const char *what, int status)
{
    t->verdict = FAULT;
    snprintf(t->text, sizeof t->text, format, what, status);
}

static bool has_message(const char *folder)
{
    static const char *const speakers[] = {"attar: ", "libgomp: ", "OpenBLAS "};
    char path[PATH];
    size_t n;
    char *text = read_file(print_to(path, folder, "stderr"), &n);
    bool has = false;
    for (size_t i = 0; text && i < sizeof speakers / sizeof *speakers; i++)
        has = has || strstr(text, speakers[i]);
    free(text);
    return has;
}

static void judge(struct trial *t, int status, const char *folder, const char *reference)
{
    const struct command *c = &commands[t->command];
    char name[256];
    const char *other;
    *leftover = 0;
    (void)nftw(folder, look_leftover, 16, FTW_PHYS);
    if (status < 0)
        found(t, "hangs%s%.0d", "", 0);
    else if (status >= 128)
        found(t, "%sended by signal %d", "", status - 128);
    else if (*leftover)
        found(t, "left behind: %s (exit status %d)", leftover, status);
    else if (!status && (other = differs(c, folder, reference, true, name)))
        found(t, "%s is another (exit status %d)", other, 0);
    else if (!status)
        t->verdict = GOES_ON;
    else if (status != 1)
        found(t, "%sexit status %d", "", status);
    else if (!has_message(folder))
        found(t, "no message%s (exit status %d)", "", status);
    else if ((other = differs(c, folder, reference, false, name)))
        found(t, "%s is half a file or another (exit status %d)", other, status);
    else if ((status = run(attar, folder, c->args, NULL, NULL)) ||
             (other = differs(c, folder, reference, true, name)))
        found(t, status ? "run again, unfaulted: %sexit status %d" : "run again: %s is another%.0d",
              status ? "" : other, status);
    else
        t->verdict = MESSAGE;
}

static void print_fault(const struct trial *t, char text[64])
{
    char error[256];
    snprintf(text, 64, "%s:%ld:%.16s", kinds[t->kind].name, t->n,
             word(kinds[t->kind].errors, t->error, error));
}

static void run_trial(struct trial *t, const char *base, const char *folder)
{
    char reference[PATH], fault[64], name[32];
    snprintf(name, sizeof name, "reference-%d", t->command);
    print_to(reference, top, name);
    copy_needs(&commands[t->command], base, folder);
    print_fault(t, fault);
    judge(t, run(attar, folder, commands[t->command].args, fault, NULL), folder, reference);
}

/* ---- all of them ---- */

static uint64_t seed;

static uint64_t draw(void)
{
    seed += 0x9e3779b97f4a7c15; // splitmix64
    uint64_t z = seed;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static long of_environment(const char *name, long usual)
{
    const char *s = getenv(name);
    return s && *s ? strtol(s, NULL, 10) : usual;
}

/* Runs the command unfaulted, twice, into its reference folder; calls[k]: how many of each kind. */
static void make_reference(int command, const char *base, long calls[KINDS])
{
    const struct command *c = &commands[command];
    char folder[PATH], again[PATH], log[PATH], kind[32], name[256];
    long n;
    snprintf(name, sizeof name, "reference-%d", command);
    new_folder(folder, name);
    new_folder(again, "again");
    copy_needs(c, base, folder);
    copy_needs(c, base, again);
    must(attar, again, c->args);
    print_to(log, top, "calls");
    unlink(log);
    if (run(attar, folder, c->args, NULL, log))
        must(attar, folder, c->args);
    if (differs(c, again, folder, true, name)) {
        printf("sweep: %s: unfaulted runs differ in %s\n", c->name, name);
        exit(1);
    }
    FILE *f = fopen(log, "r");
    for (int k = 0; f && fscanf(f, "%31s %ld", kind, &n) == 2; k = (k + 1) % KINDS)
        calls[k] = n; // of the last image that ran
    if (f)
        fclose(f);
}

static struct trial *list;
static size_t n_list, cap_list;

static void add_trials(int command, int kind, long calls, bool full)
{
    char error[256];
    for (int e = 0; word(kinds[kind].errors, e, error); e++)
        for (long i = 0; i < (full || calls < FIRST + CHOSEN ? calls : FIRST + CHOSEN); i++) {
            if (n_list == cap_list &&
                !(list = realloc(list, (cap_list = 2 * cap_list + 1024) * sizeof *list)))
                give_up("trials");
            const bool chosen = !full && i >= FIRST && calls > FIRST + CHOSEN;
            const long n = chosen ? FIRST + 1 + (long)(draw() % (uint64_t)(calls - FIRST)) : i + 1;
            list[n_list++] = (struct trial){.command = command, .kind = kind, .error = e, .n = n};
        }
}

static void shuffle(void)
{
    for (size_t i = n_list; i > 1; i--) {
        const size_t k = draw() % i;
        const struct trial t = list[i - 1];
        list[i - 1] = list[k];
        list[k] = t;
    }
}

static void print_trial(size_t i, const struct trial *t)
{
    char fault[64];
    print_fault(t, fault);
    printf("trial %zu: %s, %s: %s\n", i, commands[t->command].name, fault, t->text);
    fflush(stdout);
}

/* Each worker takes the trials that are left, one by one, until the time is over. */
static void work(int worker, struct trial *shared, size_t *next, time_t end, const char *base)
{
    char folder[PATH], name[32];
    for (size_t i; (i = __atomic_fetch_add(next, 1, __ATOMIC_RELAXED)) < n_list;) {
        if (end && time(NULL) > end)
            break;
        snprintf(name, sizeof name, "trial-%d", worker);
        new_folder(folder, name);
        run_trial(&shared[i], base, folder);
        if (shared[i].verdict == FAULT)
            print_trial(i, &shared[i]);
    }
}

static int print_table(const struct trial *t)
{
    int faults = 0;
    size_t ran = 0;
    printf("%-20s", "trials/messages/goings-on/FAULTS");
    for (int c = -1; c < COMMANDS; c++) {
        long all = 0;
        for (size_t i = 0; c >= 0 && i < n_list; i++)
            all += t[i].command == c;
        if (c >= 0 && all)
            printf("\n%-20s", commands[c].name);
        for (int k = 0; k < KINDS && c >= 0 && all; k++) {
            int n[4] = {0};
            for (size_t i = 0; i < n_list; i++)
                if (t[i].command == c && t[i].kind == k)
                    n[t[i].verdict]++;
            const int sum = n[MESSAGE] + n[GOES_ON] + n[FAULT];
            if (sum)
                printf("  %s %d/%d/%d/%d", kinds[k].name, sum, n[MESSAGE], n[GOES_ON], n[FAULT]);
            faults += n[FAULT];
            ran += (size_t)sum;
        }
    }
    printf("\n%zu of %zu trials, %d faults\n", ran, n_list, faults);
    return faults;
}

static int repeat(long i, const char *base)
{
    char folder[PATH], line[PATH + 32];
    if (i < 0 || (size_t)i >= n_list)
        give_up("TRIAL");
    new_folder(folder, "trial");
    run_trial(&list[i], base, folder);
    print_trial((size_t)i, &list[i]);
    snprintf(line, sizeof line, "cat '%s/stderr'", folder);
    return system(line) || list[i].verdict == FAULT;
}

int main(int argc, char **argv)
{
    char base[PATH];
    const char *only = getenv("ONLY"), *tmp = getenv("TMPDIR");
    if (argc != 3 || !realpath(argv[1], attar) || !realpath(argv[2], shim))
        give_up("usage: sweep ATTAR SHIM.so");
    snprintf(top, sizeof top, "%s/sweep-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(top))
        give_up(top);
    seed = (uint64_t)of_environment("SEED", 1);
    new_folder(base, "base");
    prepare(base);
    for (int c = 0; c < COMMANDS; c++) {
        long calls[KINDS] = {0};
        if (only && strncmp(commands[c].name, only, strlen(only)))
            continue;
        make_reference(c, base, calls);
        for (int k = 0; k < KINDS; k++)
            add_trials(c, k, calls[k], of_environment("FULL", 0));
    }
    shuffle();
    int rc;
    if (getenv("TRIAL")) {
        rc = repeat(of_environment("TRIAL", 0), base);
    } else {
        const size_t bytes = n_list * sizeof *list + sizeof(size_t);
        struct trial *shared =
            mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (shared == MAP_FAILED)
            give_up("mmap");
        memcpy(shared, list, n_list * sizeof *list);
        const time_t end =
            of_environment("FULL", 0) ? 0 : time(NULL) + of_environment("SWEEP_SECONDS", 1200);
        const long workers = of_environment("JOBS", sysconf(_SC_NPROCESSORS_ONLN));
        for (long w = 0; w < workers; w++)
            if (!fork()) {
                work((int)w, shared, (size_t *)(void *)(shared + n_list), end, base);
                fflush(stdout);
                _exit(0);
            }
        while (wait(NULL) > 0)
            continue;
        rc = print_table(shared) != 0;
    }
    remove_folder(top);
    return rc;
}
