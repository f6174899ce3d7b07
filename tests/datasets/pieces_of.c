#include "tests/datasets/pieces_of.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/datasets/gibberish.h"

void pieces_of_add(struct pieces_of *p, const char *text, size_t n, float score, int32_t type)
{
    const size_t id = p->parts.n;
    if (n >= sizeof p->text[0] || id >= PIECES_OF_MOST)
        return;
    for (size_t i = 0; i < id; i++)
        if (p->token[i].n == n && !memcmp(p->token[i].s, text, n))
            return;
    memcpy(p->text[id], text, n);
    p->token[id] = (struct tokenizer_text){p->text[id], n};
    p->score[id] = score;
    p->type[id] = type;
    p->parts.n++;
}

/* The first k characters of s, spaces as U+2581. */
static size_t take(const char *s, size_t n, size_t k, struct buf *out)
{
    size_t i = 0;
    buf_clear(out);
    while (i < n && k--) {
        size_t end = i + 1;
        while (end < n && ((unsigned char)s[end] & 0xc0) == 0x80)
            end++;
        spm_mark(s + i, end - i, out);
        i = end;
    }
    return i;
}

void pieces_of(struct pieces_of *p, uint64_t seed, bool across)
{
    struct buf text = {0}, piece = {0};
    char name[8];
    memset(p, 0, sizeof *p);
    p->parts = (struct tokenizer_parts){.spm = true,
                                        .token = p->token,
                                        .score = p->score,
                                        .type = p->type,
                                        .role = {1, 2, -1, -1, 0, -1, -1},
                                        .add_bos = true};
    pieces_of_add(p, "<unk>", 5, 0, VOCAB_UNKNOWN);
    pieces_of_add(p, "<s>", 3, 0, VOCAB_CONTROL);
    pieces_of_add(p, "</s>", 4, 0, VOCAB_CONTROL);
    pieces_of_add(p, "\n", 1, 0, VOCAB_USER);
    for (int b = 0; b < 256; b++) {
        spm_byte_name((uint8_t)b, name);
        pieces_of_add(p, name, 6, 0, VOCAB_BYTE);
    }
    for (int kind = 0; kind < 2; kind++) {
        gibberish_text(&seed, (enum gibberish)kind, 400, &text);
        for (size_t at = 0; at < text.n;) {
            const size_t k = 1 + gibberish_below(&seed, 5);
            const size_t step = take(text.p + at, text.n - at, 1, &piece);
            if (gibberish_below(&seed, 3)) // the others stay characters that are no pieces
                pieces_of_add(p, piece.p, piece.n, -1000, VOCAB_NORMAL);
            take(text.p + at, text.n - at, k, &piece);
            const char *mark = memmem(piece.p + 1, piece.n - 1, "\xe2\x96\x81", 3);
            if (k > 1 && !memchr(piece.p, '\n', piece.n) && (across || !mark))
                pieces_of_add(p, piece.p, piece.n, -(float)gibberish_below(&seed, 60),
                              VOCAB_NORMAL);
            at += step;
        }
    }
    pieces_of_add(p, "\xe2\x96\x81\xe2\x96\x81", 6, -5, VOCAB_NORMAL);
    pieces_of_add(p, "\xe2\x96\x81\xe2\x96\x81\xe2\x96\x81", 9, -5, VOCAB_NORMAL);
    pieces_of_add(p, "old one", 7, 0, VOCAB_UNUSED);
    buf_free(&text);
    buf_free(&piece);
}
