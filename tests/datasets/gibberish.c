#include "tests/datasets/gibberish.h"

#include <string.h>

#include "autograd/base/utf8.h"

uint64_t gibberish_below(uint64_t *state, uint64_t n)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return (*state * 0x2545f4914f6cdd1du >> 11) % n;
}

static void add_words(uint64_t *state, struct buf *b)
{
    static const char *const parts[] = {
        "a",         "b",  "ab",    "the",      "The",          "A",      " ",   " ",   " ",
        "  ",        "\n", "\r\n",  "\t",       " \n ",         "'s",     "'S",  "'ll", "'rE",
        "'\xc5\xbf", "'",  "don't", "1",        "23",           "4567",   "!",   "?!",  "...",
        "-",         "\"", "_",     "\xc3\xa9", "\xe2\x80\x99", "\n\n\n", "   ", "<|",  "|>",
    };
    buf_text(b, parts[gibberish_below(state, sizeof parts / sizeof *parts)]);
}

static void add_character(uint64_t *state, struct buf *b)
{
    static const struct block {
        uint32_t first, n;
    } blocks[] = {
        {0x20, 0x5f},   {0x09, 5},      {0x80, 0x80},    {0x100, 0x100},   {0x300, 0x70},
        {0x370, 0x90},  {0x400, 0x100}, {0x590, 0x70},   {0x600, 0x100},   {0x900, 0x80},
        {0xe00, 0x60},  {0x1100, 0x80}, {0x1680, 1},     {0x2000, 0x70},   {0x2150, 0x40},
        {0x2460, 0x60}, {0x3000, 0x40}, {0x3040, 0xc0},  {0x4e00, 0x400},  {0xac00, 0x400},
        {0xfb00, 0x50}, {0xff00, 0x60}, {0x10140, 0x40}, {0x1d400, 0x400}, {0x1f300, 0x300},
        {0x0d, 1},      {0x0a, 1},      {0x20, 1},       {0x20, 1},        {0x27, 1},
    };
    const struct block k = blocks[gibberish_below(state, sizeof blocks / sizeof *blocks)];
    char utf8[4];
    const size_t run = 1 + gibberish_below(state, 3); // runs of a script, not only single ones
    for (size_t i = 0; i < run; i++)
        buf_add(b, utf8, utf8_encode(k.first + (uint32_t)gibberish_below(state, k.n), utf8));
}

void gibberish_text(uint64_t *state, enum gibberish kind, size_t n, struct buf *b)
{
    buf_clear(b);
    for (size_t i = 0; i < n; i++) {
        const char byte = (char)gibberish_below(state, 256);
        if (kind == GIBBERISH_WORDS)
            add_words(state, b);
        else if (kind == GIBBERISH_SCRIPT || gibberish_below(state, 4) == 0)
            add_character(state, b);
        else
            buf_add(b, &byte, 1);
    }
}
