/* attar data build | show | text */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/field.h"
#include "autograd/base/mem.h"
#include "autograd/base/spell.h"
#include "datasets/corpus.h"
#include "experiments/cmd.h"
#include "experiments/config.h"
#include "experiments/flags.h"
#include "experiments/inspect.h"
#include "experiments/interrupt.h"
#include "experiments/run.h"

enum { SHOW_COLUMNS = 96, TOKENS_PER_LINE = 64 };

struct data_args {
    const char *file;
    struct texts overrides;
    int64_t lines;
    int part; /* enum corpus_side */
};

static const struct field build_table[] = {
    {FIELD_AT(data_args, file), .type = FIELD_TEXT, .flags = FIELD_REQUIRED | FIELD_POSITIONAL,
     .doc = "the config"},
    {FIELD_AT(data_args, overrides), .type = FIELD_TEXTS, .flags = FIELD_POSITIONAL,
     .doc = "key=value: replaces what the config says"},
    {0},
};

static const struct field show_table[] = {
    {FIELD_AT(data_args, file), .type = FIELD_TEXT, .flags = FIELD_REQUIRED | FIELD_POSITIONAL,
     .doc = "a corpus"},
    {FIELD_AT(data_args, lines), .type = FIELD_INT, .min = 0, .max = 1000, .def = "3",
     .doc = "lines of text to show of each part"},
    {0},
};

static const char *const part_names[] = {"train", "valid", NULL};

static const struct field text_table[] = {
    {FIELD_AT(data_args, file), .type = FIELD_TEXT, .flags = FIELD_REQUIRED | FIELD_POSITIONAL,
     .doc = "a corpus"},
    {FIELD_AT(data_args, part), .type = FIELD_ENUM, .names = part_names, .def = "train",
     .doc = "the part to write"},
    {0},
};

static const struct flags build_flags = {"data build CONFIG.yaml [key=value ...]",
                                         "Makes the corpus that a run of this config trains on, "
                                         "unless it is there, and prints its path.",
                                         build_table};

static const struct flags show_flags = {
    "data show CORPUS.h5 [--lines N]",
    "Says what is in a corpus: documents, tokens, bytes, and how its text begins.", show_table};

static const struct flags text_flags = {
    "data text CORPUS.h5 [--part train|valid]",
    "Writes the text of a part to stdout: its tokens, decoded, a blank line between documents.",
    text_table};

static int build_corpus(const struct data_args *a)
{
    struct config config;
    struct corpus_spec spec;
    struct corpus c = {0};
    int rc = config_read(&config, a->file, a->overrides.n, a->overrides.value);
    if (!rc) {
        interrupt_catch();
        run_corpus_spec(&config, &spec);
        rc = run_open_corpus(&spec, &c);
    }
    if (!rc)
        printf("%s\n", h5file_path(c.file));
    corpus_close(&c);
    config_free(&config);
    return rc;
}

/* The first lines of a part, each cut to the width of a terminal. */
static int show_lines(const struct corpus *c, enum corpus_side side, const struct tokenizer *t,
                      int64_t lines, struct buf *out)
{
    int64_t n = lines * TOKENS_PER_LINE;
    if (n > c->part[side].tokens)
        n = c->part[side].tokens;
    int32_t *token = mem_new((size_t)n, sizeof *token);
    struct buf text = {0};
    int rc = token ? corpus_read(c, side, 0, n, token) : -1;
    if (!rc)
        rc = tokenizer_decode(t, token, (size_t)n, &text);
    const char *line = text.p, *end = text.n ? text.p + text.n : line;
    for (int64_t i = 0; !rc && i < lines && line < end; i++) {
        const char *nl = memchr(line, '\n', (size_t)(end - line));
        const size_t length = (size_t)((nl ? nl : end) - line);
        buf_text(out, "  | ");
        inspect_text(out, line, length, SHOW_COLUMNS);
        buf_text(out, "\n");
        line += length + 1;
    }
    free(token);
    buf_free(&text);
    return rc;
}

static void show_part(const struct corpus *c, enum corpus_side side, struct buf *out)
{
    const struct corpus_part *p = &c->part[side];
    inspect_line(out, side == CORPUS_TRAIN ? "training" : "validation",
                 "%lld documents, %lld tokens, %lld bytes, %.3f bytes per token",
                 (long long)p->documents, (long long)p->tokens, (long long)p->bytes,
                 p->tokens ? (double)p->bytes / (double)p->tokens : 0.0);
    if (p->masked)
        buf_printf(out, "  completions, which are learnt from: %lld bytes\n",
                   (long long)p->loss_bytes);
}

static int show(const struct corpus *c, const struct tokenizer *t, int64_t lines, struct buf *out)
{
    inspect_line(out, "corpus", "%s", h5file_path(c->file));
    inspect_line(out, "hash", "%s", corpus_hash(c));
    inspect_line(out, "tokenizer", "%s, %d tokens, pre-tokenizer %s", tokenizer_name(t),
                 c->vocab_size, tokenizer_pre(t));
    for (enum corpus_side side = CORPUS_TRAIN; side <= CORPUS_VALID; side++) {
        show_part(c, side, out);
        if (show_lines(c, side, t, lines, out))
            return -1;
    }
    struct buf settings = {0};
    const int rc = h5file_read_text(c->file, "settings", &settings);
    buf_text(out, "made from\n");
    for (const char *s = settings.n ? settings.p : ""; *s; s += strcspn(s, "\n"), s += *s == '\n') {
        buf_text(out, "  ");
        inspect_text(out, s, strcspn(s, "\n"), SHOW_COLUMNS);
        buf_text(out, "\n");
    }
    buf_free(&settings);
    return rc || out->failed ? -1 : 0;
}

static int show_corpus(const struct data_args *a)
{
    struct corpus c;
    struct buf out = {0};
    if (corpus_open(&c, a->file))
        return -1;
    struct tokenizer *t = corpus_tokenizer(&c);
    const int rc = t ? show(&c, t, a->lines, &out) : -1;
    if (!rc)
        fwrite(out.p, 1, out.n, stdout);
    buf_free(&out);
    tokenizer_free(t);
    corpus_close(&c);
    return rc;
}

/* Tokens [0, n) in pieces, the ends of documents as blank lines. */
static int write_text(const struct corpus *c, enum corpus_side side, const struct tokenizer *t)
{
    enum { PIECE = 1 << 16 };
    int32_t *token = mem_new(PIECE, sizeof *token);
    struct buf text = {0};
    int rc = token ? 0 : -1;
    for (int64_t at = 0, all = c->part[side].tokens; at < all && !rc; at += PIECE) {
        const int64_t n = all - at < PIECE ? all - at : PIECE;
        rc = corpus_read(c, side, at, n, token);
        for (int64_t i = 0, from = 0; i <= n && !rc; i++) {
            if (i < n && token[i] != c->eot)
                continue;
            buf_clear(&text);
            rc = tokenizer_decode(t, token + from, (size_t)(i - from), &text);
            if (i < n)
                buf_text(&text, "\n\n");
            fwrite(text.p ? text.p : "", 1, text.n, stdout);
            from = i + 1;
        }
    }
    buf_free(&text);
    free(token);
    return rc;
}

static int text_of_corpus(const struct data_args *a)
{
    struct corpus c;
    if (corpus_open(&c, a->file))
        return -1;
    struct tokenizer *t = corpus_tokenizer(&c);
    const int rc = t ? write_text(&c, (enum corpus_side)a->part, t) : -1;
    tokenizer_free(t);
    corpus_close(&c);
    return rc;
}

static const struct data_verb {
    const char *name;
    const struct flags *flags;
    int (*run)(const struct data_args *a);
} verbs[] = {{"build", &build_flags, build_corpus},
             {"show", &show_flags, show_corpus},
             {"text", &text_flags, text_of_corpus}};

static void print_all(void)
{
    struct buf help = {0};
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        flags_help(verbs[i].flags, &help);
        buf_text(&help, i ? "" : "\n");
    }
    if (!help.failed)
        fputs(help.p, stdout);
    buf_free(&help);
}

int cmd_data(int argc, char **argv)
{
    struct data_args args;
    struct pool pool = {0};
    const char *name = argc > 1 ? argv[1] : "";
    if (!strcmp(name, "--help") || !strcmp(name, "-h")) {
        print_all();
        return 0;
    }
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        if (strcmp(name, verbs[i].name))
            continue;
        int rc = flags_parse(verbs[i].flags, argc - 1, argv + 1, &args, &pool);
        if (!rc)
            rc = verbs[i].run(&args);
        pool_free(&pool);
        return rc == FLAGS_HELP ? 0 : rc;
    }
    struct spell near = {.word = name};
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        spell_offer(&near, verbs[i].name);
    if (near.best)
        return err("data has no '%s'; did you mean '%s'?", name, near.best), CMD_USAGE;
    err("data: %s%s%sbuild, show or text?\nusage: attar data build CONFIG.yaml [key=value ...]\n"
        "       attar data show CORPUS.h5 [--lines N]\n"
        "       attar data text CORPUS.h5 [--part train|valid]",
        *name ? "'" : "", name, *name ? "' is none of them: " : "");
    return CMD_USAGE;
}
