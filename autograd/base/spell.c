#include "autograd/base/spell.h"

#include <stdbool.h>
#include <string.h>

enum { WORD_MAX = 63, FAR = 99 };

static int letter(char c)
{
    return c == '-' ? '_' : c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : (unsigned char)c;
}

static int least(int a, int b)
{
    return a < b ? a : b;
}

int spell_distance(const char *a, const char *b)
{
    const int n = (int)strnlen(a, WORD_MAX + 1), m = (int)strnlen(b, WORD_MAX + 1);
    if (n > WORD_MAX || m > WORD_MAX)
        return FAR;
    int row[3][WORD_MAX + 1]; // rows i, i - 1, i - 2 of the distance table
    for (int j = 0; j <= m; j++)
        row[0][j] = j;
    for (int i = 1; i <= n; i++) {
        int *now = row[i % 3];
        const int *up = row[(i + 2) % 3], *up2 = row[(i + 1) % 3];
        now[0] = i;
        for (int j = 1; j <= m; j++) {
            const int same = letter(a[i - 1]) == letter(b[j - 1]);
            now[j] = least(least(up[j], now[j - 1]) + 1, up[j - 1] + !same);
            if (i > 1 && j > 1 && letter(a[i - 1]) == letter(b[j - 2]) &&
                letter(a[i - 2]) == letter(b[j - 1]))
                now[j] = least(now[j], up2[j - 2] + 1);
        }
    }
    return row[n % 3][m];
}

/* Letter for letter the same but for - and _, there or not: Q4KM, Q4_K_M. */
static bool joined(const char *a, const char *b)
{
    for (;; a++, b++) {
        while (*a == '-' || *a == '_')
            a++;
        while (*b == '-' || *b == '_')
            b++;
        if (letter(*a) != letter(*b))
            return false;
        if (!*a)
            return true;
    }
}

void spell_offer(struct spell *s, const char *name)
{
    const int d = joined(s->word, name) ? 0 : spell_distance(s->word, name);
    const size_t n = strlen(s->word);
    const int limit = n < 3 ? 1 : n < 6 ? 2 : (int)(n / 3); // a slip, not another word
    const size_t both = n < strlen(name) ? n : strlen(name);
    if (d > limit || (size_t)d >= both)
        return;
    if (!s->best || d < s->distance) {
        s->best = name;
        s->distance = d;
    }
}
