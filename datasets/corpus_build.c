#include "datasets/corpus_build.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "autograd/base/err.h"
#include "autograd/base/file.h"
#include "autograd/base/mem.h"
#include "autograd/base/number.h"
#include "datasets/bpe_train.h"
#include "datasets/corpus_format.h"
#include "datasets/corpus_write.h"
#include "datasets/pass.h"

struct build {
    const struct corpus_spec *spec;
    const struct corpus_progress *progress;
    struct inputs in;
    struct buf settings; /* all that the content depends on */
    size_t n_files;      /* bytes of settings about files, and of the choices behind them */
    size_t n_choices;
    struct buf hashes;  /* SHA-256 of the texts */
    struct buf sources; /* JSON */
    struct pass_total total;
    struct tokenizer *tokenizer; /* NULL: yet to be learnt */
    int64_t train_bytes;         /* about */
    bool both;                   /* lines that are pairs or texts were taken as pairs */
};

static void build_free(struct build *b)
{
    inputs_free(&b->in);
    buf_free(&b->settings);
    buf_free(&b->sources);
    buf_free(&b->hashes);
    tokenizer_free(b->tokenizer);
}

static int make_folders(const char *path)
{
    struct buf b = {0};
    int r = 0;
    for (size_t n = 0; !r && path[n];) {
        n += strspn(path + n, "/");
        n += strcspn(path + n, "/");
        buf_clear(&b);
        buf_add(&b, path, n);
        if (b.failed || (mkdir(b.p, 0777) && errno != EEXIST))
            r = err("%s: cannot make this folder: %s", path, strerror(errno));
    }
    buf_free(&b);
    return r;
}

/* ---- the tokenizer that is given ---- */

static struct tokenizer *tokenizer_of_h5(const char *path)
{
    struct h5file *f;
    struct buf json = {0};
    struct tokenizer *t = NULL;
    if (h5file_open(&f, path))
        return NULL;
    if (!h5file_read_text(f, "tokenizer", &json))
        t = tokenizer_parse(json.n ? json.p : "", json.n);
    h5file_close(f);
    buf_free(&json);
    return t;
}

static struct tokenizer *tokenizer_of_file(const struct corpus_spec *spec)
{
    struct buf path = {0};
    struct tokenizer *t = NULL;
    if (*spec->tokenizer_path != '/' && strcmp(spec->base_dir, "."))
        buf_printf(&path, "%s/", spec->base_dir);
    buf_text(&path, spec->tokenizer_path);
    if (!path.failed) {
        const bool h5 = path.n > 3 && !strcmp(path.p + path.n - 3, ".h5");
        t = h5 ? tokenizer_of_h5(path.p) : tokenizer_load(path.p);
    }
    buf_free(&path);
    return t;
}

static int find_tokenizer(struct build *b)
{
    const struct corpus_spec *spec = b->spec;
    if (spec->tokenizer == CORPUS_BPE)
        return 0;
    if (spec->tokenizer == CORPUS_BYTE)
        b->tokenizer = tokenizer_new_byte();
    else if (spec->tokenizer == CORPUS_FILE)
        b->tokenizer = tokenizer_of_file(spec);
    else
        b->tokenizer = tokenizer_parse(spec->tokenizer_json, spec->n_tokenizer_json);
    if (!b->tokenizer)
        return err_in("tokenizer");
    if (tokenizer_eot(b->tokenizer) < 0)
        err_warn("the tokenizer has no token for the end of a document: documents follow one "
                 "another without any");
    return 0;
}

/* ---- identity ---- */

static void add_setting(struct buf *out, const char *key, const char *value)
{
    if (!value)
        return;
    buf_printf(out, "%s: ", key);
    buf_json(out, value, strlen(value));
    buf_text(out, "\n");
}

static int add_tokenizer_setting(struct build *b)
{
    struct buf json = {0};
    if (!b->tokenizer) {
        buf_printf(&b->settings, "tokenizer: bpe %d %s\n", b->spec->vocab_size, b->spec->pre);
        return 0;
    }
    const int r = tokenizer_write(b->tokenizer, &json);
    if (!r)
        buf_printf(&b->settings, "tokenizer: %s %016llx\n", tokenizer_name(b->tokenizer),
                   (unsigned long long)XXH3_64bits(json.p, json.n));
    buf_free(&json);
    return r;
}

/* How what may hold pairs is read. Plain text has no such line, as ever. */
static void add_special_setting(struct build *b)
{
    static const char *const names[] = {[CORPUS_SPECIAL_NONE] = "none",
                                        [CORPUS_SPECIAL_ALL] = "all",
                                        [CORPUS_SPECIAL_PAIRS] = "pairs"};
    const enum corpus_special special = b->spec->parse_special;
    bool jsonl = false;
    for (size_t i = 0; i < b->in.n; i++)
        jsonl |= b->in.input[i].kind == INPUT_JSONL;
    if (jsonl || special == CORPUS_SPECIAL_ALL)
        buf_printf(&b->settings, "special: %s\n", names[special]);
    if (jsonl)
        buf_printf(&b->settings, "pairs: as prompts%s\n", b->spec->prompt_key ? ", first" : "");
}

static int describe(struct build *b)
{
    const struct corpus_spec *spec = b->spec;
    struct buf *out = &b->settings;
    buf_printf(out, "corpus: %d\n", CORPUS_VERSION);
    for (size_t i = 0; i < b->in.n; i++) {
        const struct input *in = &b->in.input[i];
        char *path = in->kind == INPUT_BIBLE ? NULL : realpath(in->path, NULL);
        add_setting(out, "file", path ? path : in->path);
        free(path);
        buf_printf(out, "size: %lld\ntime: %lld\n", (long long)in->size, (long long)in->mtime);
        add_setting(out, "sha256", in->sha256);
    }
    b->n_files = out->n;
    add_setting(out, "split_on", spec->split_on ? spec->split_on : "blank");
    add_setting(out, "text_key", spec->text_key ? spec->text_key : "text");
    add_setting(out, "prompt_key", spec->prompt_key ? spec->prompt_key : "prompt");
    add_setting(out, "completion_key", spec->completion_key ? spec->completion_key : "completion");
    buf_printf(out, "valid: %s\nvalid_fraction: ", spec->valid == SPLIT_HASH ? "hash" : "tail");
    number_print(spec->valid_fraction, out);
    buf_printf(out, "\nseed: %llu\n", (unsigned long long)spec->seed);
    if (add_tokenizer_setting(b))
        return -1;
    b->n_choices = out->n - b->n_files;
    add_special_setting(b);
    return out->failed ? -1 : 0;
}

/* ---- readings ---- */

static void describe_sources(struct build *b, const struct source *source)
{
    buf_text(&b->sources, "[");
    for (size_t i = 0; i < b->in.n; i++) {
        const struct input *in = &b->in.input[i];
        buf_printf(&b->sources, "%s{\"path\": ", i ? ", " : "");
        buf_json(&b->sources, in->path, strlen(in->path));
        buf_printf(&b->sources, ", \"sha256_of_text\": \"%s\"}", source_sha256(source, i));
        buf_printf(&b->hashes, "%s\n", source_sha256(source, i));
    }
    buf_text(&b->sources, "]\n");
}

static void say_files(const struct build *b)
{
    struct buf text = {0};
    inputs_describe(&b->in, &text);
    if (text.n && !text.failed && b->progress && b->progress->say)
        b->progress->say(b->progress->arg, text.p);
    buf_free(&text);
}

static void choose_split(struct build *b)
{
    const struct corpus_spec *spec = b->spec;
    b->total.mode = spec->valid;
    if (spec->valid == SPLIT_TAIL || spec->valid_fraction == 0 || !b->total.documents ||
        b->total.documents >= CORPUS_FEW_DOCUMENTS)
        return;
    b->total.mode = SPLIT_TAIL;
    err_warn("too few documents to choose some for validation (%lld): it takes the last %g %% of "
             "the text, as with `valid: tail`",
             (long long)b->total.documents, 100 * spec->valid_fraction);
}

static int first_reading(struct build *b)
{
    struct pass p;
    struct document doc;
    bool valid;
    int r;
    if (pass_open(&p, &b->in, b->spec, &b->total, b->progress, "reading"))
        return -1;
    while ((r = pass_next(&p, &doc, &valid)) == 1)
        b->train_bytes += valid ? 0 : (int64_t)doc.n;
    if (!r) {
        b->total = p.now;
        describe_sources(b, p.source);
        choose_split(b);
        source_warn_of_binary(p.source);
        b->both = source_both(p.source) > 0;
        if (source_empty_pairs(p.source))
            err_warn("%lld pairs are left out: their completion is empty",
                     (long long)source_empty_pairs(p.source));
        r = b->sources.failed || b->hashes.failed ? -1 : 0;
    }
    if (!r && !b->total.documents)
        r = err("corpus: there is no text in it");
    pass_close(&p);
    return r;
}

/* Whether a piece teaches the tokenizer, of which an even share is to. */
static bool is_sampled(const struct document *doc, double share)
{
    enum { SEED = 0x62706521 };
    const uint64_t h = XXH3_64bits_withSeed(doc->text, doc->n, SEED);
    return share >= 1 || (double)(h >> 11) * 0x1p-53 < share;
}

static int learn(struct build *b, struct bpe_train *t)
{
    struct pass p;
    struct document doc;
    bool valid;
    int r;
    const double share = (double)CORPUS_BPE_BYTES / (double)(b->train_bytes + 1);
    if (pass_open(&p, &b->in, b->spec, &b->total, b->progress, "learning a tokenizer"))
        return -1;
    while ((r = pass_next(&p, &doc, &valid)) == 1) {
        if (valid || !is_sampled(&doc, share))
            continue;
        // no merge crosses from a prompt to its completion
        if (bpe_train_add(t, doc.text, doc.prompt) ||
            bpe_train_add(t, doc.text + doc.prompt, doc.n - doc.prompt)) {
            r = -1;
            break;
        }
    }
    pass_close(&p);
    return r;
}

static int learn_tokenizer(struct build *b)
{
    if (b->tokenizer)
        return 0;
    struct bpe_train *t = bpe_train_new(b->spec->pre, b->spec->vocab_size, NULL);
    if (!t)
        return err_in("tokenizer");
    if (learn(b, t)) {
        bpe_train_free(t);
        return -1;
    }
    b->tokenizer = bpe_train_finish(t);
    return b->tokenizer ? 0 : err_in("tokenizer");
}

static int encode(struct build *b, struct corpus_write *w)
{
    struct pass p;
    struct corpus_batch batch = {0};
    struct document doc;
    bool valid;
    int r;
    if (pass_open(&p, &b->in, b->spec, &b->total, b->progress, "encoding"))
        return -1;
    while ((r = pass_next(&p, &doc, &valid)) == 1) {
        const int full = corpus_batch_add(&batch, &doc, valid);
        if (full < 0 || (full && corpus_write_batch(w, &batch))) {
            r = -1;
            break;
        }
    }
    if (!r)
        r = corpus_write_batch(w, &batch);
    corpus_batch_free(&batch);
    pass_close(&p);
    return r;
}

/* ---- the whole ---- */

static int check_context(const struct corpus_spec *spec, bool pairs,
                         const struct corpus_part part[2])
{
    for (int i = 0; i < 2; i++) {
        if (i == CORPUS_VALID && spec->valid_fraction == 0)
            continue;
        // pairs need not fill a window
        if (part[i].tokens <= (pairs ? 1 : spec->context))
            return err("corpus: the %s part has %lld tokens, one context of %lld needs %lld: use "
                       "more text, a smaller context, or another valid_fraction%s",
                       i == CORPUS_TRAIN ? "training" : "validation", (long long)part[i].tokens,
                       (long long)spec->context, (long long)spec->context + 1,
                       spec->valid == SPLIT_HASH ? " or valid: tail" : "");
    }
    return 0;
}

/* A hash of what decides over every token, wherever the files are now. How pairs and special tokens
   are read counts where the text has any: elsewhere it makes no difference. */
static int write_content(struct build *b, const struct corpus_write *w, const struct buf *tokenizer)
{
    struct buf all = {0};
    char hex[CORPUS_HEX];
    buf_printf(&all, "corpus: %d\n", CORPUS_VERSION);
    buf_add(&all, b->settings.p + b->n_files, b->n_choices);
    buf_printf(&all, "%s%s%s", w->parsed ? "special tokens are parsed\n" : "",
               w->started ? "pairs start as prompts\n" : "", b->both ? "pairs first\n" : "");
    buf_add(&all, b->hashes.p, b->hashes.n);
    buf_add(&all, tokenizer->p, tokenizer->n);
    const XXH128_hash_t h = all.failed ? (XXH128_hash_t){0} : XXH3_128bits(all.p, all.n);
    snprintf(hex, sizeof hex, "%016llx%016llx", (unsigned long long)h.high64,
             (unsigned long long)h.low64);
    const int r = all.failed ? -1 : h5file_set_text(w->file, "/", "content", hex);
    buf_free(&all);
    return r;
}

static int write_texts(struct build *b, const struct corpus_write *w)
{
    struct buf json = {0};
    struct h5file *f = w->file;
    int r = tokenizer_write(b->tokenizer, &json);
    if (!r)
        r = h5file_write_text(f, "tokenizer", json.p, json.n) || write_content(b, w, &json) ? -1
                                                                                            : 0;
    buf_free(&json);
    if (r || h5file_write_text(f, "settings", b->settings.p, b->settings.n) ||
        h5file_write_text(f, "sources", b->sources.p, b->sources.n) ||
        h5file_set_text(f, "/", "format", CORPUS_FORMAT) ||
        h5file_set_int(f, "/", "version", CORPUS_VERSION) ||
        h5file_set_int(f, "/", "vocab_size", tokenizer_vocab_size(b->tokenizer)) ||
        h5file_set_int(f, "/", "eot", tokenizer_eot(b->tokenizer)))
        return -1;
    return 0;
}

static void warn_of_special(const struct corpus_write *w)
{
    size_t n;
    if (!w->plain)
        return;
    const char *one = tokenizer_bytes(w->tokenizer, w->plain_one, &n);
    err_warn(
        "the text spells out special tokens in %lld places (the first is %.*s): they are taken "
        "as plain text, which prompts do not do; data.parse_special: true takes them for what "
        "they name, and split_on can cut documents there",
        (long long)w->plain, (int)n, one);
}

static int write_file(struct build *b, const char *path)
{
    struct corpus_write w = {.tokenizer = b->tokenizer,
                             .masked = b->total.pairs > 0,
                             .parse_special = b->spec->parse_special};
    if (h5file_create(&w.file, path))
        return -1;
    int r = encode(b, &w);
    if (!r)
        r = corpus_write_finish(&w);
    if (!r)
        r = check_context(b->spec, w.masked,
                          (struct corpus_part[2]){w.side[0].part, w.side[1].part});
    if (!r)
        r = write_texts(b, &w);
    if (!r)
        warn_of_special(&w);
    if (r)
        h5file_abandon(w.file);
    else
        r = h5file_commit(w.file);
    corpus_write_free(&w);
    return r;
}

/* 1: the corpus is there, whole and the one that is wanted. */
static int is_there(const struct build *b, const char *path)
{
    struct corpus c;
    struct buf settings = {0};
    const int there = file_exists(path);
    if (there <= 0)
        return there;
    if (corpus_open(&c, path)) {
        if (!err_is_damage())
            return -1;
        err_warn("%s; it is made again", err_text());
        return 0;
    }
    int r = h5file_read_text(c.file, "settings", &settings);
    if (r && err_is_damage())
        r = 0;
    else if (!r)
        r = settings.n == b->settings.n && !memcmp(settings.p, b->settings.p, settings.n);
    if (r > 0 && check_context(b->spec, c.part[0].masked, c.part))
        r = -1;
    buf_free(&settings);
    corpus_close(&c);
    return r;
}

static int build(struct build *b, struct buf *path)
{
    const struct corpus_spec *spec = b->spec;
    if (make_folders(spec->cache_dir) ||
        inputs_find(&b->in, spec->n_sources, spec->source, spec->sha256, spec->base_dir,
                    spec->cache_dir) ||
        find_tokenizer(b) || describe(b))
        return -1;
    say_files(b);
    const XXH128_hash_t key = XXH3_128bits(b->settings.p, b->settings.n);
    const size_t at = path->n;
    buf_printf(path, "%s/corpus-%016llx.h5", spec->cache_dir, (unsigned long long)key.high64);
    if (path->failed)
        return -1;
    const int there = is_there(b, path->p + at);
    if (there)
        return there < 0 ? -1 : 0;
    if (first_reading(b) || learn_tokenizer(b))
        return -1;
    return write_file(b, path->p + at);
}

int corpus_build(const struct corpus_spec *spec, const struct corpus_progress *progress,
                 struct buf *path)
{
    struct build b = {.spec = spec, .progress = progress};
    const int r = build(&b, path);
    build_free(&b);
    return r;
}
