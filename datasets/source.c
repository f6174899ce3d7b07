#include "datasets/source.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/mem.h"
#include "datasets/cutter.h"

enum { REFILL = 1 << 18, CONTEXT = 64 };

struct source {
    const struct inputs *in;
    struct source_spec spec;
    struct cutter *cutter;
    char (*sha256)[STREAM_HEX]; /* [in->n] */
    bool *binary;               /* [in->n] */

    size_t at;             /* the input that is being read */
    struct stream *stream; /* NULL: not opened yet */
    int64_t done;          /* bytes of the inputs before it */

    char *win; /* bytes of the stream, [end]; start is the first that was not handed out */
    size_t cap;
    size_t start, end;
    size_t scan;  /* no separator or line end starts in [start, scan) */
    bool ended;   /* nothing comes after win */
    bool inside;  /* a piece of this document was handed out */
    int64_t line; /* lines taken from the stream */

    struct buf text;    /* document of a .jsonl line, or the verses of a chapter */
    struct buf chapter; /* "Ge1" */

    int64_t empty_pairs, both;
};

int source_open(struct source **out, const struct inputs *in, const struct source_spec *spec)
{
    struct source *s = mem_new(1, sizeof *s);
    if (!s)
        return -1;
    s->in = in;
    s->spec = *spec;
    s->sha256 = mem_new(in->n, sizeof *s->sha256);
    s->binary = mem_new(in->n, sizeof *s->binary);
    if (!s->sha256 || !s->binary || mem_grow(&s->win, &s->cap, REFILL, 1) ||
        cutter_new(&s->cutter, spec->split_on)) {
        source_close(s);
        return -1;
    }
    *out = s;
    return 0;
}

void source_close(struct source *s)
{
    if (!s)
        return;
    stream_close(s->stream);
    cutter_free(s->cutter);
    buf_free(&s->text);
    buf_free(&s->chapter);
    free(s->sha256);
    free(s->binary);
    free(s->win);
    free(s);
}

int64_t source_done(const struct source *s)
{
    return s->done + (s->stream ? stream_done(s->stream) : 0);
}

int64_t source_total(const struct source *s)
{
    int64_t total = 0;
    for (size_t i = 0; i < s->in->n; i++) {
        if (s->in->input[i].kind == INPUT_BIBLE)
            return 0;
        total += s->in->input[i].size;
    }
    return total;
}

int64_t source_empty_pairs(const struct source *s)
{
    return s->empty_pairs;
}

int64_t source_both(const struct source *s)
{
    return s->both;
}

bool source_is_binary(const struct source *s, size_t i)
{
    return s->binary[i];
}

void source_warn_of_binary(const struct source *s)
{
    enum { NAMES = 5 };
    size_t n = 0;
    struct buf names = {0};
    for (size_t i = 0; i < s->in->n; i++)
        if (s->binary[i] && n++ < NAMES)
            buf_printf(&names, "%s%s", n > 1 ? ", " : "", s->in->input[i].path);
    if (n > NAMES)
        buf_printf(&names, " and %zu more", n - NAMES);
    if (n && !names.failed)
        err_warn("%s: bytes 0 are in it, as in binary files and UTF-16, not in text; its bytes are "
                 "learnt all the same",
                 names.p);
    buf_free(&names);
}

const char *source_sha256(const struct source *s, size_t i)
{
    return s->sha256[i];
}

static const struct input *current(const struct source *s)
{
    return &s->in->input[s->at];
}

static int start_input(struct source *s)
{
    static const char *const bible[] = {"bible", "-f", "gen1:1-rev22:21", NULL};
    const struct input *i = current(s);
    s->start = s->end = s->scan = 0;
    s->line = 0;
    s->ended = s->inside = false;
    if (i->kind != INPUT_BIBLE)
        return stream_open(&s->stream, i->path, i->xz, i->sha256);
    return stream_open_program(&s->stream, bible, "bible-kjv") ? err_in("%s", i->path) : 0;
}

static void end_input(struct source *s)
{
    stream_sha256(s->stream, s->sha256[s->at]);
    s->done += stream_done(s->stream);
    stream_close(s->stream);
    s->stream = NULL;
    s->at++;
}

/* Reads more behind what is in the window. */
static int refill(struct source *s)
{
    // a pattern may look at a few bytes before the document
    const size_t drop = s->start > CONTEXT ? s->start - CONTEXT : 0;
    if (drop && (drop >= s->end / 2 || s->end + REFILL > s->cap)) {
        memmove(s->win, s->win + drop, s->end - drop);
        s->start -= drop;
        s->end -= drop;
        s->scan -= drop;
    }
    if (s->end - s->start > SOURCE_LINE_MAX)
        return err("%s: line %lld: more than %d MiB without a line end, or without an end of what "
                   "split_on matches",
                   current(s)->path, (long long)s->line + 1, SOURCE_LINE_MAX >> 20);
    size_t got;
    if (mem_grow(&s->win, &s->cap, s->end + REFILL, 1) ||
        stream_read(s->stream, s->win + s->end, s->cap - s->end, &got))
        return -1;
    if (!s->binary[s->at])
        s->binary[s->at] = memchr(s->win + s->end, 0, got);
    s->end += got;
    s->ended = !got;
    return 0;
}

static bool only_space(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isspace((unsigned char)p[i]))
            return false;
    return true;
}

/* ---- .txt ---- */

/* Hands out win[start, stop) and goes on at `next`. 1, or 0 if there is nothing in it. */
static int hand_out(struct source *s, struct document *doc, size_t stop, size_t next, bool last)
{
    const char *p = s->win + s->start;
    *doc = (struct document){.text = p, .n = stop - s->start, .first = !s->inside, .last = last};
    // the piece before promised another one
    const bool skip = !s->inside && last && only_space(p, doc->n);
    s->start = next;
    if (s->scan < next)
        s->scan = next;
    s->inside = !last;
    return !skip;
}

/* 1: a piece; 0: the end of this input. */
static int next_text(struct source *s, struct document *doc)
{
    for (;;) {
        size_t start, stop;
        const int r =
            cutter_find(s->cutter, s->win, s->end, s->start, &s->scan, s->ended, &start, &stop);
        if (r < 0)
            return err_in("%s", current(s)->path);
        // up to here all belongs to this document
        const size_t sure = r ? start : s->ended ? s->end : s->scan;
        if (sure - s->start > SOURCE_PIECE) {
            const size_t cut =
                s->start + cutter_piece(s->win + s->start, sure - s->start, SOURCE_PIECE);
            return hand_out(s, doc, cut, cut, false);
        }
        if (r) {
            if (hand_out(s, doc, start, stop, true))
                return 1;
        } else if (s->ended) {
            return s->start < s->end ? hand_out(s, doc, s->end, s->end, true) : 0;
        } else if (refill(s)) {
            return -1;
        }
    }
}

/* ---- lines ---- */

/* 1: the next line without its end; 0: no more; -1. */
static int next_line(struct source *s, const char **line, size_t *n)
{
    const char *nl;
    while (!(nl = s->end > s->scan ? memchr(s->win + s->scan, '\n', s->end - s->scan) : NULL)) {
        s->scan = s->end;
        if (s->ended) {
            if (s->start == s->end)
                return 0;
            nl = s->win + s->end;
            break;
        }
        if (refill(s))
            return -1;
    }
    *line = s->win + s->start;
    *n = (size_t)(nl - *line);
    s->start += *n;
    if (s->start < s->end)
        s->start++;
    s->scan = s->start;
    s->line++;
    return 1;
}

static int line_error(const struct source *s)
{
    return err_in("%s:%lld", current(s)->path, (long long)s->line);
}

static int next_json(struct source *s, struct document *doc)
{
    const char *line;
    size_t n;
    int r;
    while ((r = next_line(s, &line, &n)) == 1) {
        if (s->line == 1 && n >= 3 && !memcmp(line, "\xef\xbb\xbf", 3))
            line += 3, n -= 3; // a byte order mark, which is no JSON
        if (only_space(line, n))
            continue;
        struct jsonl_line is;
        if (jsonl_parse(&s->spec.keys, line, n, &s->text, &is))
            return line_error(s);
        *doc = (struct document){.text = s->text.p,
                                 .n = s->text.n,
                                 .prompt = is.prompt,
                                 .pair = is.pair,
                                 .first = true,
                                 .last = true};
        s->both += is.both;
        if (is.pair ? doc->n > doc->prompt : !only_space(doc->text, doc->n))
            return 1;
        s->empty_pairs += is.pair;
    }
    return r;
}

/* Bytes of the reference "2Chr1:10 " in front of a verse and, in *chapter, of "2Chr1"; 0 if there
   is none. */
static size_t reference(const char *line, size_t n, size_t *chapter)
{
    size_t i = 0, digits;
    while (i < n && isdigit((unsigned char)line[i]))
        i++;
    const size_t book = i;
    while (i < n && isalpha((unsigned char)line[i]))
        i++;
    digits = i;
    while (i < n && isdigit((unsigned char)line[i]))
        i++;
    if (book > 1 || digits == book || i == digits || i == n || line[i] != ':')
        return 0;
    *chapter = i++;
    digits = i;
    while (i < n && isdigit((unsigned char)line[i]))
        i++;
    return i > digits && i < n && line[i] == ' ' ? i + 1 : 0;
}

static int end_chapter(struct source *s, struct document *doc)
{
    *doc = (struct document){.text = s->text.p, .n = s->text.n, .first = true, .last = true};
    return 1;
}

static int next_chapter(struct source *s, struct document *doc)
{
    const char *line;
    size_t n, chapter;
    int r;
    buf_clear(&s->text);
    for (;;) {
        if ((r = next_line(s, &line, &n)) != 1)
            return r ? r : s->text.n ? end_chapter(s, doc) : 0;
        const size_t verse = reference(line, n, &chapter);
        if (!verse) {
            err("no reference such as `Ge1:1 ` in front");
            return line_error(s);
        }
        const bool same = s->chapter.n == chapter && !memcmp(s->chapter.p, line, chapter);
        if (!same && s->text.n) {
            // the verse belongs to the next chapter: it will be read again
            s->start = s->scan = (size_t)(line - s->win);
            s->line--;
            return end_chapter(s, doc);
        }
        buf_clear(&s->chapter);
        buf_add(&s->chapter, line, chapter);
        if (s->text.n)
            buf_text(&s->text, "\n");
        buf_add(&s->text, line + verse, n - verse);
        if (s->text.failed || s->chapter.failed)
            return -1;
    }
}

int source_next(struct source *s, struct document *doc)
{
    static int (*const next[])(struct source *, struct document *) = {
        [INPUT_TXT] = next_text, [INPUT_JSONL] = next_json, [INPUT_BIBLE] = next_chapter};
    while (s->at < s->in->n) {
        if (!s->stream && start_input(s))
            return -1;
        const int r = next[current(s)->kind](s, doc);
        if (r)
            return r;
        end_input(s);
    }
    return 0;
}
