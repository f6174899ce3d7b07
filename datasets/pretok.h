/*
 * Pre-tokenization: cutting text into the pieces inside which byte pairs are merged. The rules are
 * those that llama.cpp names in `tokenizer.ggml.pre`, and cut as Hugging Face tokenizers does; a
 * scanner of our own does it, in time linear in the text, because it also has to take bytes that
 * are no UTF-8. Each rule carries its regular expression: files are recognized by it, and the
 * tests compare the scanner with it.
 */
#ifndef ATTAR_DATASETS_PRETOK_H
#define ATTAR_DATASETS_PRETOK_H

#include <stdbool.h>
#include <stddef.h>

struct pretok {
    const char *name;      /* "gpt-2", "llama-bpe", "qwen2", "smollm"                             */
    const char *regex;     /* alternatives, the first that matches wins; no look-behind           */
    bool byte_level_regex; /* tokenizer.json leaves the expression to its ByteLevel step          */
    bool digits_step;      /* ... after a Digits step that sets every number character apart      */
    bool gpt2;             /* only ' ' may lead a piece, contractions in lower case, no newlines
                              behind punctuation; otherwise the wider rules of Llama 3            */
    bool apart;            /* punctuation stands apart, as do numbers, ASCII's digits in threes;
                              for files that name no rule: no tokenizer is trained with it        */
    int most_numbers;      /* number characters in a piece at most; 0: any                        */
};

/* All rules; the last has name NULL. */
extern const struct pretok pretok_rules[];

/* What tokenizer.ggml.pre of a GGUF file means: several names stand for the same rule. */
struct pretok_name {
    const char *name;
    const struct pretok *rule;
    bool whole;   /* a piece that is a token is that token, whatever the merges would make of it */
    bool add_bos; /* where the file does not say */
};

/* NULL with err() listing the names. */
const struct pretok_name *pretok_named(const char *name, size_t n);

/* The rule of that name; NULL with err() listing the names. */
const struct pretok *pretok_find(const char *name);

/* The rule whose tokenizer.json steps are [Digits,] [Split(regex),] ByteLevel, regex NULL where
   ByteLevel uses its own expression; NULL (no err) if there is none. */
const struct pretok *pretok_recognize(bool digits_step, const char *regex);

/* Bytes in the first piece of s [n], 1..n; n > 0. */
size_t pretok_next(const struct pretok *rule, const char *s, size_t n);

#endif
