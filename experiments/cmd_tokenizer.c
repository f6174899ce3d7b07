/* attar tokenizer train | encode | decode */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "autograd/base/err.h"
#include "autograd/base/file.h"
#include "autograd/base/mem.h"
#include "datasets/bpe_train.h"
#include "experiments/cmd.h"

enum { READ_MOST = 1 << 30, BLOCK = 1 << 22 };

/* The options of all three; each takes those of its letters. */
struct options {
    const char *tokenizer, *out, *pre;
    long vocab_size;
    bool special;
    char **file; /* n_files of them */
    int n_files;
};

static const struct option names[] = {
    {"vocab-size", required_argument, NULL, 'V'}, {"pre", required_argument, NULL, 'p'},
    {"output", required_argument, NULL, 'o'},     {"tokenizer", required_argument, NULL, 't'},
    {"special", no_argument, NULL, 's'},          {0},
};

static int usage(const char *why, const char *what)
{
    err("%s%s\n"
        "usage: attar tokenizer train --vocab-size N [--pre gpt-2|llama-bpe|qwen2|smollm]\n"
        "                             -o OUT.json FILE...\n"
        "       attar tokenizer encode -t TOKENIZER.json [--special] [FILE|-]\n"
        "       attar tokenizer decode -t TOKENIZER.json [FILE|-]",
        why, what);
    return CMD_USAGE;
}

/* argv[0] is the verb. 0, or CMD_USAGE with err(). */
static int read_options(int argc, char **argv, const char *letters, struct options *o)
{
    opterr = 0;
    optind = 0; // starts over: main may have scanned options of its own
    for (int c; (c = getopt_long(argc, argv, "V:p:o:t:s", names, NULL)) != -1;) {
        if (c == '?')
            return usage("unknown or incomplete option ", argv[optind - 1]);
        if (!strchr(letters, c))
            return usage("an option that does not belong here: ", argv[optind - 1]);
        char *end = NULL;
        if (c == 'V') {
            errno = 0;
            o->vocab_size = strtol(optarg, &end, 10);
            if (errno || end == optarg || *end)
                return usage("--vocab-size takes a number, not ", optarg);
        } else if (c == 'p') {
            o->pre = optarg;
        } else if (c == 'o') {
            o->out = optarg;
        } else if (c == 't') {
            o->tokenizer = optarg;
        } else {
            o->special = true;
        }
    }
    o->file = argv + optind;
    o->n_files = argc - optind;
    return 0;
}

/* Bytes of s [n] up to the last place where every rule cuts, whatever follows: behind a letter or
   digit and before a blank. 0: there is none. */
static size_t cut_before(const char *s, size_t n)
{
    for (size_t i = n; i-- > 1;)
        if ((s[i] == ' ' || s[i] == '\n') && isascii(s[i - 1]) && isalnum(s[i - 1]))
            return i;
    return 0;
}

static int train_fd(struct bpe_train *b, int fd, struct buf *rest)
{
    char *block = mem_new(BLOCK, 1);
    if (!block)
        return -1;
    int rc = 0;
    for (ssize_t got; !rc && (got = read(fd, block, BLOCK)) != 0;) {
        if (got < 0) {
            rc = errno == EINTR ? 0 : err("cannot read: %s", strerror(errno));
            continue;
        }
        buf_add(rest, block, (size_t)got);
        size_t n = cut_before(rest->p ? rest->p : "", rest->n);
        if (!n && rest->n > 16 * (size_t)BLOCK)
            n = rest->n; // text without blanks: it is cut somewhere, memory stays bounded
        rc = rest->failed || bpe_train_add(b, rest->p, n);
        memmove(rest->p, rest->p + n, rest->n - n);
        rest->n -= n;
    }
    free(block);
    if (!rc)
        rc = bpe_train_add(b, rest->p, rest->n);
    return rc ? -1 : 0;
}

static int train_file(struct bpe_train *b, const char *path)
{
    const bool from_stdin = !strcmp(path, "-");
    const int fd = from_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err("%s: cannot open: %s", path, strerror(errno));
    struct buf rest = {0};
    const int rc = train_fd(b, fd, &rest);
    buf_free(&rest);
    if (!from_stdin)
        close(fd);
    return rc ? err_in("%s", path) : 0;
}

static int train(int argc, char **argv)
{
    struct options o = {.pre = "gpt-2"};
    if (read_options(argc, argv, "Vpo", &o))
        return CMD_USAGE;
    if (!o.vocab_size || !o.out || !o.n_files)
        return usage("train takes --vocab-size, -o and one file or more", "");
    if (o.vocab_size < 1 || o.vocab_size > 1 << 24)
        return err("--vocab-size %ld is out of range", o.vocab_size);
    struct bpe_train *b = bpe_train_new(o.pre, (int)o.vocab_size, NULL);
    if (!b)
        return -1;
    for (int i = 0; i < o.n_files; i++) {
        if (train_file(b, o.file[i])) {
            bpe_train_free(b);
            return -1;
        }
    }
    struct tokenizer *t = bpe_train_finish(b);
    if (!t)
        return -1;
    const int rc = tokenizer_save(t, o.out);
    const int made = tokenizer_vocab_size(t);
    if (!rc && made < o.vocab_size)
        err_warn("%s has %d tokens, not %ld: no pair of tokens occurs twice any more", o.out, made,
                 o.vocab_size);
    tokenizer_free(t);
    return rc;
}

/* The tokenizer and the text of a verb that has one input. 0, -1 or CMD_USAGE. */
static int open_both(int argc, char **argv, const char *letters, struct options *o,
                     struct tokenizer **t, struct buf *text)
{
    if (read_options(argc, argv, letters, o))
        return CMD_USAGE;
    if (!o->tokenizer || o->n_files > 1)
        return usage(argv[0], " takes -t TOKENIZER.json and one file at most");
    const char *path = o->n_files ? o->file[0] : "-";
    if (file_read(strcmp(path, "-") != 0 ? path : "/dev/stdin", READ_MOST, text))
        return -1;
    *t = tokenizer_load(o->tokenizer);
    return *t ? 0 : -1;
}

static int flush(void)
{
    return fflush(stdout) || ferror(stdout) ? err("cannot write the output: %s", strerror(errno))
                                            : 0;
}

static int print_ids(const struct tokens *ids)
{
    struct buf line = {0};
    for (size_t i = 0; i < ids->n && !line.failed; i++) {
        buf_printf(&line, i ? " %d" : "%d", ids->id[i]);
        if (line.n >= BLOCK) {
            fwrite(line.p, 1, line.n, stdout);
            buf_clear(&line);
        }
    }
    buf_text(&line, "\n");
    if (!line.failed)
        fwrite(line.p, 1, line.n, stdout);
    const int rc = line.failed ? -1 : flush();
    buf_free(&line);
    return rc;
}

static int encode(int argc, char **argv)
{
    struct options o = {0};
    struct tokenizer *t = NULL;
    struct buf text = {0};
    struct tokens ids = {0};
    int rc = open_both(argc, argv, "ts", &o, &t, &text);
    if (!rc)
        rc = tokenizer_encode(t, text.p ? text.p : "", text.n, o.special, &ids);
    if (!rc)
        rc = print_ids(&ids);
    tokens_free(&ids);
    buf_free(&text);
    tokenizer_free(t);
    return rc;
}

static int parse_ids(const char *s, struct tokens *ids)
{
    for (;;) {
        char *end;
        while (isspace((unsigned char)*s))
            s++;
        if (!*s)
            return 0;
        errno = 0;
        const long id = strtol(s, &end, 10);
        if (errno || end == s || (*end && !isspace((unsigned char)*end)) || id < 0 ||
            id > INT32_MAX)
            return err("'%.20s' is no token id; ids are numbers with blanks between them", s);
        s = end;
        if (tokens_add(ids, &(int32_t){(int32_t)id}, 1))
            return -1;
    }
}

static int decode(int argc, char **argv)
{
    struct options o = {0};
    struct tokenizer *t = NULL;
    struct buf list = {0}, text = {0};
    struct tokens ids = {0};
    int rc = open_both(argc, argv, "t", &o, &t, &list);
    if (!rc)
        rc = parse_ids(list.p ? list.p : "", &ids) || tokenizer_decode(t, ids.id, ids.n, &text) ? -1
                                                                                                : 0;
    if (!rc && text.n)
        fwrite(text.p, 1, text.n, stdout);
    if (!rc)
        rc = flush();
    tokens_free(&ids);
    buf_free(&list);
    buf_free(&text);
    tokenizer_free(t);
    return rc;
}

int cmd_tokenizer(int argc, char **argv)
{
    static const struct verb {
        const char *name;
        int (*run)(int argc, char **argv);
    } verbs[] = {{"train", train}, {"encode", encode}, {"decode", decode}};
    for (size_t i = 0; argc > 1 && i < sizeof verbs / sizeof *verbs; i++)
        if (!strcmp(argv[1], verbs[i].name))
            return verbs[i].run(argc - 1, argv + 1);
    return usage(argc > 1 ? "unknown: attar tokenizer " : "what should the tokenizer do?",
                 argc > 1 ? argv[1] : "");
}
