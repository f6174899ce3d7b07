/*
 * Panels of bytes where the instruction set has no vectors of 512 bits: blocks of PANEL_ROWS rows
 * (256 elements of each) are opened, laid out so that a lane is a row, and multiplied with all
 * activations. Once included by each dots_<isa>.c, behind dots_vec.h, which defines
 *
 *     PANEL_LANES, PANEL_ROWS              rows of a vector, of a panel
 *     PANEL_LESS(less)                     what is added to levels to make them codes >= 0, or 0
 *     PANEL_RUN(top, sub)                  groups of 4 elements whose products panel_add() may add,
 *                                          of codes up to `top` (TOP_SIGNED: all of int8), of sub
 *                                          elements that share a scale
 *     panel_part, panel_add(p, w, a, top)  sums of products of bytes w [PANEL_LANES][4] with 4 of
 *                                          an activation
 *     panel_scaled(sum, p, scale)          sum + scale p; scale [PANEL_LANES] as PANEL_SCALE(s)
 *     PANEL_MIN(s, i)                      where in panel.min that of 16 elements s of row i is
 *     panel_mins(min, a, v)                rows PANEL_LANES v ...: the sum of min (sum of a)
 *     panel_fma(a, b, c)                   a b + c, of floats
 */
enum {
    PANEL_VECS = PANEL_ROWS / PANEL_LANES,
    PANEL_ACTS = 4,    /* activations in work */
    PANEL_CHUNK = 512, /* activations that share a panel at most */
};

typedef float panel_floats __attribute__((vector_size(4 * PANEL_LANES)));

struct panel {
    int8_t w[GRID_BLOCK / 4][PANEL_ROWS][4];
    int32_t scale[16][PANEL_ROWS];               /* of 16 elements each */
    int16_t min[16 * PANEL_ROWS];                /* of 16 elements each, or scale less */
    float d[8][PANEL_ROWS], dmin[8][PANEL_ROWS]; /* formats of 256: [0]; of 32: a block each */
} __attribute__((aligned(64)));

struct panel_traits {
    struct vec_traits vec;
    bool small; /* blocks of 32 */
    int less;   /* added to levels it makes them codes, 0 ... top */
    int top;
    int sub; /* elements that share a scale */
};

VEC_INLINE panel_floats panel_load(const float *p)
{
    panel_floats x;
    memcpy(&x, p, sizeof x);
    return x;
}

VEC_INLINE panel_floats panel_all(float x)
{
    return (panel_floats){0} + x;
}

/* ---- packing ---- */

VEC_INLINE void panel_row(const struct panel_traits *f, const char *blocks, int64_t n, int i,
                          struct panel *p)
{
    struct vec_open o;
    f->vec.open(blocks, n, &o);
    for (int k = 0; k < 8; k++) {
        int8_t four[8][4];
        o.v[k] += (int8_t)PANEL_LESS(f->less);
        memcpy(four, &o.v[k], sizeof four);
        for (int q = 0; q < 8; q++)
            memcpy(p->w[8 * k + q][i], four[q], sizeof four[q]);
    }
    for (int k = 0; k < 8 && f->small; k++) {
        p->d[k][i] = o.d32[k];
        p->dmin[k][i] = o.m32[k];
    }
    for (int s = 0; s < 16 && !f->small; s++) {
        p->scale[s][i] = PANEL_SCALE(o.scale[s]);
        if (f->vec.min || PANEL_LESS(f->less))
            p->min[PANEL_MIN(s, i)] =
                f->vec.min ? o.min[s] : (int16_t)(o.scale[s] * PANEL_LESS(f->less));
    }
    if (f->small)
        return;
    p->d[0][i] = o.d;
    p->dmin[0][i] = f->vec.min ? o.dmin : 0;
}

VEC_INLINE void panel_pack(const struct dots_job *j, const struct panel_traits *f, int64_t r,
                           int64_t g, struct panel *p)
{
    const int each = f->small ? 8 : 1; // blocks
    for (int i = 0; i < PANEL_ROWS; i++) {
        const int64_t row = r + i < j->rows ? r + i : j->rows - 1;
        panel_row(f, j->w + (size_t)row * j->stride + g * each * f->vec.bytes, j->cols / 32 - 8 * g,
                  i, p);
    }
}

/* ---- products ---- */

/* Adds elements 4 from ... 4 (from + n) - 1 of T activations, their scales multiplied in. */
VEC_INLINE void panel_sums(const struct panel *p, const struct panel_traits *f,
                           const struct act8 *const *a, int T, int from, int n,
                           vec_sums (*sum)[PANEL_VECS])
{
    const int run = PANEL_RUN(f->top, f->sub);
    for (int k = from; k < from + n; k += run) {
        panel_part part[PANEL_ACTS][PANEL_VECS];
        for (int t = 0; t < T; t++)
            for (int v = 0; v < PANEL_VECS; v++)
                part[t][v] = (panel_part){0};
        for (int i = k; i < k + run; i++)
            for (int t = 0; t < T; t++)
                for (int v = 0; v < PANEL_VECS; v++)
                    part[t][v] =
                        panel_add(part[t][v], p->w[i][PANEL_LANES * v], a[t]->q + 4 * i, f->top);
        for (int t = 0; t < T; t++)
            for (int v = 0; v < PANEL_VECS; v++)
                sum[t][v] = panel_scaled(sum[t][v], part[t][v], &p->scale[k / 4][PANEL_LANES * v]);
    }
}

/* y [T][PANEL_ROWS]; `first`: nothing is there yet. */
VEC_INLINE void panel_few(const struct panel *p, const struct panel_traits *f,
                          const struct act8 *const *a, int T, bool first, float *y)
{
    vec_sums sum[PANEL_ACTS][PANEL_VECS] = {{{0}}};
    panel_sums(p, f, a, T, 0, GRID_BLOCK / 4, sum);
    for (int t = 0; t < T; t++)
        for (int v = 0; v < PANEL_VECS; v++) {
            float *to = y + t * PANEL_ROWS + PANEL_LANES * v;
            vec_sums low = {0};
            if (f->vec.min || PANEL_LESS(f->less))
                low = panel_mins(p->min, a[t], v);
            if (!f->vec.min)
                sum[t][v] -= low;
            panel_floats z = first ? panel_all(0) : panel_load(to);
            z = panel_fma(panel_load(p->d[0] + PANEL_LANES * v) * a[t]->d,
                          __builtin_convertvector(sum[t][v], panel_floats), z);
            if (f->vec.min)
                z = panel_fma(-(panel_load(p->dmin[0] + PANEL_LANES * v) * a[t]->d),
                              __builtin_convertvector(low, panel_floats), z);
            memcpy(to, &z, sizeof z);
        }
}

/* y plus block k's d e (sum of level a), plus its m (e sum of a). */
VEC_INLINE void panel_block(const struct panel *p, const struct panel_traits *f, int k,
                            const struct act8 *const *a, int T, panel_floats (*y)[PANEL_VECS])
{
    vec_sums sum[PANEL_ACTS][PANEL_VECS];
    for (int t = 0; t < T; t++)
        for (int v = 0; v < PANEL_VECS; v++)
            sum[t][v] = (vec_sums){0} - PANEL_LESS(f->less) * a[t]->sum32[k];
    panel_sums(p, f, a, T, 8 * k, 8, sum);
    for (int t = 0; t < T; t++)
        for (int v = 0; v < PANEL_VECS; v++) {
            const float e = a[t]->d32[k];
            y[t][v] = panel_fma(panel_load(p->d[k] + PANEL_LANES * v) * e,
                                __builtin_convertvector(sum[t][v], panel_floats), y[t][v]);
            if (f->vec.min)
                y[t][v] = panel_fma(panel_load(p->dmin[k] + PANEL_LANES * v),
                                    panel_all(e * (float)a[t]->sum32[k]), y[t][v]);
        }
}

/* y [T][DOTS_PARTS][PANEL_ROWS] */
VEC_INLINE void panel_few_32(const struct panel *p, const struct panel_traits *f,
                             const struct act8 *const *a, int T, bool first, float *y)
{
    enum { EACH = DOTS_PARTS * PANEL_ROWS };
    for (int i = 0; i < DOTS_PARTS; i++) {
        panel_floats part[PANEL_ACTS][PANEL_VECS];
        float *const to = y + i * PANEL_ROWS;
        for (int t = 0; t < T; t++)
            for (int v = 0; v < PANEL_VECS; v++)
                part[t][v] = first ? panel_all(0) : panel_load(to + t * EACH + PANEL_LANES * v);
        panel_block(p, f, 2 * i, a, T, part);
        panel_block(p, f, 2 * i + 1, a, T, part);
        for (int t = 0; t < T; t++)
            for (int v = 0; v < PANEL_VECS; v++)
                memcpy(to + t * EACH + PANEL_LANES * v, &part[t][v], sizeof part[t][v]);
    }
}

/* Results of their parts. */
VEC_INLINE void panel_total(bool small, const float *tile, float *y)
{
    const float *a = tile, *b = a + PANEL_ROWS, *c = b + PANEL_ROWS, *d = c + PANEL_ROWS;
    for (int i = 0; i < PANEL_ROWS; i++)
        y[i] = small ? (a[i] + b[i]) + (c[i] + d[i]) : a[i];
}

/* n activations, a block each, `stride` apart. */
VEC_INLINE void panel_multiply(const struct panel *p, const struct panel_traits *f,
                               const struct act8 *first, int64_t stride, int64_t n, bool begin,
                               float *y)
{
    for (int64_t i = 0; i < n; i += PANEL_ACTS) {
        const struct act8 *a[PANEL_ACTS];
        for (int t = 0; t < PANEL_ACTS; t++)
            a[t] = first + (i + t < n ? i + t : i) * stride;
        if (f->small)
            panel_few_32(p, f, a, PANEL_ACTS, begin, y + i * DOTS_PARTS * PANEL_ROWS);
        else
            panel_few(p, f, a, PANEL_ACTS, begin, y + i * PANEL_ROWS);
    }
}

VEC_INLINE void panel_product(const struct dots_job *j, const struct panel_traits *f)
{
    static _Thread_local float tile[PANEL_CHUNK * DOTS_PARTS * PANEL_ROWS]
        __attribute__((aligned(64)));
    struct panel p;
    const int64_t groups = act8_groups(j->cols), each = (f->small ? DOTS_PARTS : 1) * PANEL_ROWS;
    for (int s = 0; s < 16 && f->small; s++)
        for (int i = 0; i < PANEL_ROWS; i++)
            p.scale[s][i] = PANEL_SCALE(1);
    for (int64_t i = 0; i < j->n; i += PANEL_CHUNK) {
        const int64_t n = j->n - i < PANEL_CHUNK ? j->n - i : PANEL_CHUNK;
        const struct act8 *a = (const struct act8 *)j->a + i * groups;
        for (int64_t r = 0; r < j->rows; r += PANEL_ROWS) {
            for (int64_t g = 0; g < groups; g++) {
                panel_pack(j, f, r, g, &p);
                panel_multiply(&p, f, a + g, groups, n, g == 0, tile);
            }
            const int64_t wide = j->rows - r < PANEL_ROWS ? j->rows - r : PANEL_ROWS;
            for (int64_t t = 0; t < n; t++) {
                float y[PANEL_ROWS];
                panel_total(f->small, tile + t * each, y);
                memcpy(j->y + (i + t) * j->ldy + r, y, (size_t)wide * sizeof *y);
            }
        }
    }
}

#define PANEL_PRODUCT(stem, min, small, less, top, sub)                                            \
    static void panel_product_##stem(const struct dots_job *j)                                     \
    {                                                                                              \
        static const struct panel_traits f = {                                                     \
            {vec_##stem, sizeof(struct stem), min}, small, less, top, sub};                        \
        if (j->n >= PANELS8_MIN)                                                                   \
            panel_product(j, &f);                                                                  \
        else                                                                                       \
            vec_product_##stem(j);                                                                 \
    }
#define PANEL_ENTRY(stem, min, small, less, top, sub) [DOTS_##stem] = panel_product_##stem,
