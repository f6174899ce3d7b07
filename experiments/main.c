/* attar: the command line. Nothing else prints errors or exits. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/aside.h"
#include "autograd/base/err.h"
#include "autograd/base/file.h"
#include "autograd/base/spell.h"
#include "autograd/kernels/gemm.h"
#include "experiments/cmd.h"
#include "experiments/config.h"

struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help; /* one line */
};

static const struct command commands[] = {
    {"check", cmd_check, "list a config's mistakes, or what its run will need"},
    {"run", cmd_run, "run the stages of a config; goes on where it was stopped"},
    {"data", cmd_data, "make a corpus, look at one"},
    {"tokenizer", cmd_tokenizer, "train a tokenizer, encode and decode with one"},
    {"generate", cmd_generate, "write text with a model"},
    {"perplexity", cmd_perplexity, "measure a model on a text"},
    {"export", cmd_export, "write a trained model as a GGUF file"},
    {"quantize", cmd_quantize, "write a GGUF file's matrices in other types"},
    {"imatrix", cmd_imatrix, "collect what quantizing should weigh errors with"},
    {"import", cmd_import, "make a checkpoint of a GGUF file or a Hugging Face folder"},
    {"inspect", cmd_inspect, "say what is in a .h5, .gguf, .safetensors or tokenizer.json"},
    {"bench", cmd_bench, "measure this machine: products, training steps by op"},
    {"report", cmd_report, "a page of a run: curves, samples, results"},
    {0},
};

static void print_help(void)
{
    printf("attar " CMD_VERSION ": trains small transformer language models on CPUs\n\n"
           "usage: attar COMMAND [arguments]\n\n");
    for (const struct command *c = commands; c->name; c++)
        printf("  %-12s %s\n", c->name, c->help);
    printf("\n"
           "  help COMMAND    its arguments and flags\n"
           "  help config     every key of a config: meaning, range, default; or of a part of it:\n"
           "                  help config finetune, help config model, help config lr\n"
           "  --version\n");
}

/* All of a config, or the parts that are named. */
static int print_config_docs(int n, char **names)
{
    struct buf docs = {0};
    int rc = 0;
    if (!n)
        config_docs(&docs);
    for (int i = 0; i < n && !rc; i++)
        rc = config_docs_of(names[i], &docs) ? CMD_USAGE : 0;
    if (docs.failed)
        rc = -1;
    else if (docs.n)
        fputs(docs.p, stdout);
    buf_free(&docs);
    return rc;
}

static int unknown_command(const char *name)
{
    struct spell near = {.word = name};
    for (const struct command *c = commands; c->name; c++)
        spell_offer(&near, c->name);
    static const char *const others[] = {"help", "--help", "--version", NULL};
    for (int i = 0; others[i]; i++)
        spell_offer(&near, others[i]);
    if (!strcmp(name, "-v") || !strcmp(name, "-V") || !strcmp(name, "version"))
        near.best = "--version";
    if (spell_distance(name, "config") <= 2)
        near.best = "help config";
    if (near.best)
        err("unknown command '%s'; did you mean '%s'?", name, near.best);
    else
        err("unknown command '%s'; `attar --help` lists them", name);
    return CMD_USAGE;
}

static int dispatch(int argc, char **argv)
{
    for (const struct command *c = commands; c->name; c++)
        if (!strcmp(c->name, argv[0]))
            return c->run(argc, argv);
    return unknown_command(argv[0]);
}

static int help(int argc, char **argv)
{
    char flag[] = "--help";
    if (argc < 2) {
        print_help();
        return 0;
    }
    if (!strcmp(argv[1], "config"))
        return print_config_docs(argc - 2, argv + 2);
    char *with_help[] = {argv[1], flag, NULL};
    return dispatch(2, with_help);
}

static int run(int argc, char **argv)
{
    const char *first = argc > 1 ? argv[1] : "";
    if (!*first) {
        print_help();
        err("a command is missing");
        return CMD_USAGE;
    }
    if (!strcmp(first, "--version")) {
        printf("attar " CMD_VERSION "\n");
        return 0;
    }
    if (!strcmp(first, "help") || !strcmp(first, "--help") || !strcmp(first, "-h"))
        return help(argc - 1, argv + 1);
    return dispatch(argc - 1, argv + 1);
}

/* Threads that write text meet a hundred times a token: one that fell asleep while another was held
   up costs more than looking for a millisecond. */
static int spin_of(int argc, char **argv)
{
    const char *first = argc > 1 ? argv[1] : "";
    bool decodes = !strcmp(first, "generate");
    for (int i = 2; i < argc && !strcmp(first, "bench"); i++)
        decodes = decodes || !strncmp(argv[i], "-m", 2) || !strncmp(argv[i], "--model", 7);
    return decodes ? 100 * GEMM_SPIN : GEMM_SPIN;
}

/* A process may be started without standard streams; the first files that it opens would take their
   place, and messages would be written into them. */
static int open_streams(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/dev/null", O_RDWR) != fd)
            return -1;
    return 0;
}

int main(int argc, char **argv)
{
    if (open_streams())
        return 1;             // there is no stream to say it on
    atexit(aside_remove_all); // libraries that give up call exit()
    file_catch_cut();
    int rc = gemm_init(argv, spin_of(argc, argv)); // first: it may execute the program again
    if (!rc)
        rc = run(argc, argv);
    const bool printed = !fflush(stdout) && !ferror(stdout);
    if (!rc && !printed)
        rc = err("the output could not be written to the end");
    if (rc)
        fprintf(stderr, "attar: %s\n", err_text());
    return rc == CMD_USAGE ? 2 : rc ? 1 : 0;
}
