#include "datasets/charclass.h"

#include "autograd/base/utf8.h"

static const struct run {
    uint32_t first, last;
    enum charclass class;
} runs[] = {
#define RUN(first, last, class) {first, last, CHARCLASS_##class},
#include "datasets/charclass.def"
#undef RUN
};

enum { N_RUNS = sizeof runs / sizeof *runs };

const uint8_t charclass_ascii[128] = {
    // 0 other, 1 letter, 2 number, 3 space, 4 newline
    0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 4, 3, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 0, 0, 0, 0, 0, 0,
    0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0,
    0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0,
};

enum charclass charclass_of(uint32_t code)
{
    int lo = 0, hi = N_RUNS;
    while (lo < hi) {
        const int mid = (lo + hi) / 2;
        if (runs[mid].last < code)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < N_RUNS && runs[lo].first <= code ? runs[lo].class : CHARCLASS_OTHER;
}

enum charclass charclass_next(const char *s, size_t n, size_t *len)
{
    const unsigned char first = (unsigned char)*s;
    *len = 1;
    if (first < 0x80)
        return charclass_ascii[first];
    uint32_t code;
    const size_t bytes = utf8_decode(s, n, &code);
    if (!bytes)
        return CHARCLASS_OTHER;
    *len = bytes;
    return charclass_of(code);
}
