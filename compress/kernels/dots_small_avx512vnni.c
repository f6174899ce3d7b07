#if defined __x86_64__
#include "compress/kernels/dots_small_avx512vnni.h"

#include "compress/kernels/dots.h"
#include "compress/kernels/panels8.h"

enum {
    MOST = PANELS8_MIN - 1, /* activations in work */
    GROUPS = 128,           /* of all of them, put in order: 64 KiB */
    AHEAD = 8192,           /* bytes that are fetched ahead at least */
    BLOCK_MOST = sizeof(struct q8_0),
};

/* Four rows, and T activations whose groups are put in order. */
struct place {
    const char *row[4];
    int64_t groups, blocks;
    const struct small_act *x; /* [T][groups] */
    const char *next;          /* what comes behind the rows, in memory and in time; NULL: cached */
};

/* A row's last blocks, where fewer than a group are left, with zeros behind them. */
OPEN_INLINE void complete(const struct place *p, const struct small_traits *f, int64_t g,
                          char (*copy)[SMALL_GROUP * BLOCK_MOST], const char **group)
{
    const size_t left = (size_t)((p->blocks - g * SMALL_GROUP) * f->bytes);
    for (int r = 0; r < 4; r++) {
        memset(copy[r], 0, sizeof copy[r]);
        memcpy(copy[r], group[r], left);
        group[r] = copy[r];
    }
}

OPEN_INLINE void four(const struct place *p, const struct small_traits *f, int T, __m128 *y)
{
    const int bytes = SMALL_GROUP * f->bytes;
    const char *next = p->next;
    __m512 parts[MOST];
    for (int t = 0; t < T; t++)
        parts[t] = _mm512_setzero_ps();
    for (int64_t g = 0; g < p->groups; g++) {
        char copy[4][SMALL_GROUP * BLOCK_MOST];
        const char *group[4];
        for (int r = 0; r < 4; r++)
            group[r] = p->row[r] + g * bytes;
        if (p->blocks - g * SMALL_GROUP < SMALL_GROUP)
            complete(p, f, g, copy, group);
        for (int i = 0; next && i < 4 * bytes; i += 64)
            _mm_prefetch(next + i, _MM_HINT_T1);
        next += next ? 4 * bytes : 0;
        __m512 d[2], m[2];
        __m512i w[4][4];
        small_halves(group, f->bytes, 0, d);
        if (f->min)
            small_halves(group, f->bytes, 1, m);
        for (int r = 0; r < 4; r++)
            small_codes(f, group[r], w[r]);
        for (int t = 0; t < T; t++) {
            const struct small_act *x = &p->x[t * p->groups + g];
            __m512i part[2][4], sum[2];
            for (int r = 0; r < 4; r++) {
                __m512i s[2];
                small_dot(f, w[r], x, s);
                part[0][r] = s[0];
                part[1][r] = s[1];
            }
            sum[0] = open_sums(part[0]);
            sum[1] = open_sums(part[1]);
            parts[t] = small_add(f, d, m, sum, x, parts[t]);
        }
    }
    for (int t = 0; t < T; t++)
        y[t] = small_total(parts[t]);
}

/* T activations from i on with all rows. */
OPEN_INLINE void some(const struct dots_job *j, const struct small_traits *f, int64_t i, int T)
{
    static _Thread_local struct small_act x[GROUPS] __attribute__((aligned(64)));
    const size_t four_rows = 4 * j->stride, ahead = four_rows > AHEAD ? four_rows : AHEAD;
    struct place p = {.groups = act8_groups(j->cols), .blocks = j->cols / 32, .x = x};
    const struct act8 *a = (const struct act8 *)j->a + i * p.groups;
    for (int64_t g = 0; g < T * p.groups; g++)
        small_order(f, &a[g], &x[g]);
    for (int64_t r = 0; r < j->rows; r += 4) {
        const int64_t last = j->rows - r - 1; // rows that are not there are computed twice
        const char *w = j->w + (size_t)r * j->stride;
        __m128 y[MOST];
        p.next = T == 1 ? w + ahead : NULL;
        for (int k = 0; k < 4; k++)
            p.row[k] = w + (size_t)(k < last ? k : last) * j->stride;
        four(&p, f, T, y);
        for (int t = 0; t < T; t++)
            _mm_mask_storeu_ps(j->y + (i + t) * j->ldy + r,
                               last < 3 ? (__mmask8)((2 << last) - 1) : 0xf, y[t]);
    }
}

OPEN_INLINE void product(const struct dots_job *j, const struct small_traits *f)
{
    const int64_t room = GROUPS / act8_groups(j->cols), most = room < MOST ? room : MOST;
    if (!most) {
        dots_avx2.fn[j->format](j);
        return;
    }
    for (int64_t i = 0; i < j->n; i += most) {
        const int64_t n = j->n - i < most ? j->n - i : most;
        if (n == 1)
            some(j, f, i, 1);
        else
            some(j, f, i, (int)n);
    }
}

#define SMALL_PRODUCT(stem, nibbles, less, min)                                                    \
    void dots_small_##stem(const struct dots_job *j)                                               \
    {                                                                                              \
        if (j->n >= PANELS8_MIN)                                                                   \
            panels8_##stem(j);                                                                     \
        else                                                                                       \
            product(j, &stem##_small);                                                             \
    }
SMALL_FORMATS(SMALL_PRODUCT)
#endif
