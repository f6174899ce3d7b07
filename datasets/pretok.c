#include "datasets/pretok.h"

#include <stdint.h>
#include <string.h>
#include <utf8proc.h>

#include "autograd/base/buf.h"
#include "autograd/base/err.h"
#include "autograd/base/utf8.h"
#include "datasets/charclass.h"

#define GPT2(number, not_space)                                                                    \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+|" number "| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!" not_space ")|"    \
    "\\s+"
#define LLAMA3(number)                                                                             \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" number                           \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

/* smollm: the GPT-2 expression runs on what lies between number characters, so that one also ends
   the text for its look-ahead; in one expression that is [^\s\p{N}]. */
/* llama.cpp's way with files that name no rule: four expressions, each on the pieces of the one
   before it; in one, punctuation also ends the text for the look-ahead. */
#define APART  "\\p{P}$+<=>^~|"
#define THREES "[0-9]{3}|(?:(?![0-9]{3})\\p{N})+"

enum { RULE_GPT2, RULE_LLAMA3, RULE_QWEN2, RULE_SMOLLM, RULE_DEFAULT, RULES };

const struct pretok pretok_rules[] = {
    [RULE_GPT2] = {.name = "gpt-2",
                   .regex = GPT2(" ?\\p{N}+", "\\S"),
                   .byte_level_regex = true,
                   .gpt2 = true},
    [RULE_LLAMA3] = {.name = "llama-bpe", .regex = LLAMA3("\\p{N}{1,3}"), .most_numbers = 3},
    [RULE_QWEN2] = {.name = "qwen2", .regex = LLAMA3("\\p{N}"), .most_numbers = 1},
    [RULE_SMOLLM] = {.name = "smollm",
                     .regex = GPT2("\\p{N}", "[^\\s\\p{N}]"),
                     .byte_level_regex = true,
                     .digits_step = true,
                     .gpt2 = true,
                     .most_numbers = 1},
    [RULE_DEFAULT] = {.name = "default",
                      .regex = "[" APART "]+| ?\\p{L}+|" THREES "| ?[^\\s\\p{L}\\p{N}" APART "]+|"
                               "\\s+(?![^\\s" APART "])|\\s+",
                      .gpt2 = true,
                      .apart = true},
    [RULES] = {.name = NULL},
};

const struct pretok *pretok_find(const char *name)
{
    struct buf names = {0};
    for (const struct pretok *r = pretok_rules; r->name; r++) {
        if (!strcmp(r->name, name)) {
            buf_free(&names);
            return r;
        }
        buf_printf(&names, " %s", r->name);
    }
    err("unknown pre-tokenizer '%s'; known are%s", name, names.p ? names.p : "");
    buf_free(&names);
    return NULL;
}

/* As llama.cpp has them (src/llama-vocab.cpp), for the rules above. */
static const struct pretok_name names[] = {
#define NAME(name, rule, whole, add_bos) {name, &pretok_rules[rule], whole, add_bos},
#include "datasets/pretok_names.def"
#undef NAME
};

const struct pretok_name *pretok_named(const char *name, size_t n)
{
    struct buf known = {0};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (n == strlen(names[i].name) && !memcmp(names[i].name, name, n)) {
            buf_free(&known);
            return &names[i];
        }
        buf_printf(&known, " %s", names[i].name);
    }
    err("unknown pre-tokenizer '%.*s'; known are%s", (int)(n < 100 ? n : 100), name,
        known.p ? known.p : "");
    buf_free(&known);
    return NULL;
}

const struct pretok *pretok_recognize(bool digits_step, const char *regex)
{
    for (const struct pretok *r = pretok_rules; r->name; r++) {
        if (r->digits_step != digits_step)
            continue;
        // GPT-2's expression may stand in the file as well as be left to ByteLevel
        if (regex ? !digits_step && !strcmp(r->regex, regex) : r->byte_level_regex)
            return r;
    }
    return NULL;
}

/* Bytes of s [n] from `at` on that are characters of one class, `most` characters at most. */
static size_t run_of(enum charclass class, const char *s, size_t n, size_t at, size_t most)
{
    size_t i = at;
    for (size_t len; i < n && most && charclass_next(s + i, n - i, &len) == class; most--)
        i += len;
    return i - at;
}

static size_t letters(const char *s, size_t n, size_t at)
{
    size_t i = at;
    while (i < n && (unsigned char)s[i] < 0x80 &&
           charclass_ascii[(unsigned char)s[i]] == CHARCLASS_LETTER)
        i++;
    if (i < n && (unsigned char)s[i] >= 0x80)
        i += run_of(CHARCLASS_LETTER, s, n, i, SIZE_MAX);
    return i - at;
}

/* 's 't 're 've 'm 'll 'd behind s[0] == '\'': the bytes of the whole, or 0. */
static size_t contraction(bool any_case, const char *s, size_t n)
{
    const char fold = any_case ? 0x20 : 0;
    if (n < 2)
        return 0;
    const char a = s[1] | fold;
    if (a == 's' || a == 't' || a == 'm' || a == 'd')
        return 2;
    // U+017F, the long s, is an s to a caseless match
    if (any_case && n > 2 && !memcmp(s + 1, "\xc5\xbf", 2))
        return 3;
    if (n < 3)
        return 0;
    const char b = s[2] | fold;
    return (b == 'e' && (a == 'r' || a == 'v')) || (a == 'l' && b == 'l') ? 3 : 0;
}

/* Does s [n] start with punctuation, or with what RULE_DEFAULT takes for it? *len: its bytes. */
static bool stands_apart(const char *s, size_t n, size_t *len)
{
    uint32_t code;
    if (charclass_next(s, n, len) != CHARCLASS_OTHER)
        return false;
    if ((unsigned char)*s < 0x80)
        return *s > ' ' && *s != '`' && *s != 0x7f;
    if (!utf8_decode(s, n, &code))
        return false;
    const utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)code);
    return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
}

/* Bytes of s [n] from `at` on of class OTHER that do, or do not, stand apart. */
static size_t others(bool apart, const char *s, size_t n, size_t at)
{
    size_t i = at;
    for (size_t len; i < n && charclass_next(s + i, n - i, &len) == CHARCLASS_OTHER; i += len)
        if (stands_apart(s + i, n - i, &len) != apart)
            break;
    return i - at;
}

static bool three_digits(const char *s, size_t n)
{
    for (size_t i = 0; i < 3; i++)
        if (i == n || s[i] < '0' || s[i] > '9')
            return false;
    return true;
}

/* s [n] starts with a number: three digits, or what lies in front of them. */
static size_t threes(const char *s, size_t n)
{
    size_t i = 0;
    if (three_digits(s, n))
        return 3;
    for (size_t len; i < n && charclass_next(s + i, n - i, &len) == CHARCLASS_NUMBER; i += len)
        if (three_digits(s + i, n - i))
            break;
    return i;
}

/* s [n] starts with a space or newline that leads no other piece. */
static size_t spaces(const struct pretok *rule, const char *s, size_t n)
{
    size_t end = 0, last = 0, behind_newline = 0, len = 0;
    enum charclass class = CHARCLASS_OTHER;
    while (end < n) {
        class = charclass_next(s + end, n - end, &len);
        if (class != CHARCLASS_SPACE && class != CHARCLASS_NEWLINE)
            break;
        last = end;
        end += len;
        if (class == CHARCLASS_NEWLINE)
            behind_newline = end;
    }
    if (!rule->gpt2 && behind_newline)
        return behind_newline;
    if (end == n || (rule->digits_step && class == CHARCLASS_NUMBER) ||
        (rule->apart && stands_apart(s + end, n - end, &len)))
        return end;
    return last ? last : end; // the last space leads the next piece, or stands alone
}

static size_t next_apart(const struct pretok *rule, const char *s, size_t n)
{
    size_t len;
    const enum charclass first = charclass_next(s, n, &len);
    if (first == CHARCLASS_LETTER)
        return letters(s, n, 0);
    if (first == CHARCLASS_NUMBER)
        return threes(s, n);
    if (first == CHARCLASS_OTHER)
        return others(stands_apart(s, n, &len), s, n, 0);
    if (*s == ' ') {
        const size_t word = letters(s, n, 1), signs = word ? word : others(false, s, n, 1);
        if (signs)
            return 1 + signs;
    }
    return spaces(rule, s, n);
}

size_t pretok_next(const struct pretok *rule, const char *s, size_t n)
{
    if (rule->apart)
        return next_apart(rule, s, n);
    const size_t most = rule->most_numbers ? (size_t)rule->most_numbers : SIZE_MAX;
    size_t len;
    const enum charclass first = charclass_next(s, n, &len);
    if (first == CHARCLASS_LETTER)
        return letters(s, n, 0);
    if (first == CHARCLASS_NUMBER)
        return run_of(CHARCLASS_NUMBER, s, n, 0, most);
    if (*s == '\'') {
        const size_t whole = contraction(!rule->gpt2, s, n);
        if (whole)
            return whole;
    }
    const bool blank = *s == ' ';
    if (blank || (!rule->gpt2 && first != CHARCLASS_NEWLINE)) {
        const size_t word = letters(s, n, len);
        if (word)
            return len + word;
    }
    if (blank && rule->gpt2 && !rule->digits_step) {
        const size_t number = run_of(CHARCLASS_NUMBER, s, n, 1, SIZE_MAX);
        if (number)
            return 1 + number;
    }
    if (blank || first == CHARCLASS_OTHER) {
        size_t end = blank ? 1 : 0;
        end += run_of(CHARCLASS_OTHER, s, n, end, SIZE_MAX);
        if (end > (blank ? 1 : 0))
            return end + (rule->gpt2 ? 0 : run_of(CHARCLASS_NEWLINE, s, n, end, SIZE_MAX));
    }
    return spaces(rule, s, n);
}
