#include "autograd/base/utf8.h"

size_t utf8_decode(const char *s, size_t n, uint32_t *code)
{
    const unsigned char *u = (const unsigned char *)s;
    if (!n)
        return 0;
    if (u[0] < 0x80) {
        *code = u[0];
        return 1;
    }
    const size_t len = u[0] >= 0xf0 ? 4 : u[0] >= 0xe0 ? 3 : 2;
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    if (u[0] < 0xc2 || u[0] > 0xf4 || n < len)
        return 0;
    uint32_t c = u[0] & (0xffu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        if ((u[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (u[i] & 0x3f);
    }
    if (c < least[len] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        return 0;
    *code = c;
    return len;
}

size_t utf8_encode(uint32_t code, char out[4])
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    const size_t len = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = len; i-- > 1; code >>= 6)
        out[i] = (char)(0x80 | (code & 0x3f));
    out[0] = (char)((0xf00u >> len & 0xf0) | code);
    return len;
}

size_t utf8_valid(const char *s, size_t n)
{
    size_t i = 0;
    uint32_t code;
    for (size_t len; i < n && (len = utf8_decode(s + i, n - i, &code)); i += len)
        ;
    return i;
}

/* Can s [n], n < 4, become a code point when bytes follow? */
static bool begins(const char *s, size_t n)
{
    // what decides is the second byte: the lowest and the highest possible continuation are tried
    for (int high = 0; high < 2; high++) {
        char full[4];
        uint32_t code;
        for (size_t i = 0; i < 4; i++)
            full[i] = i < n ? s[i] : (char)(high ? 0xbf : 0x80);
        const size_t len = utf8_decode(full, 4, &code);
        if (len > n)
            return true;
    }
    return false;
}

size_t utf8_whole(const char *s, size_t n)
{
    for (size_t k = 1; k < 4 && k <= n; k++)
        if (begins(s + n - k, k))
            return n - k;
    return n;
}
