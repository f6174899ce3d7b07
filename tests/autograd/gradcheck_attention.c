#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/half.h"
#include "tests/gradcheck.h"

enum { SEQS = 4 };

struct args {
    int D, n;
    int64_t len[SEQS];
};

static bool build(struct ctx *ctx, const void *arg, struct tensor *const in[], struct tensor *out[],
                  struct loss *loss)
{
    const struct args *a = arg;
    struct attention_seq seqs[SEQS] = {0};
    int64_t at = 0;
    for (int i = 0; i < a->n; at += a->len[i++])
        seqs[i] = (struct attention_seq){.start = at, .len = a->len[i]};
    (void)loss;
    out[0] = op_attention(ctx, in[0], in[1], in[2], a->D, seqs, a->n);
    return out[0] != NULL;
}

/* Self-attention without projections: one tensor in three places. */
static bool threefold(struct ctx *ctx, const void *arg, struct tensor *const in[],
                      struct tensor *out[], struct loss *loss)
{
    return build(ctx, arg, (struct tensor *const[]){in[0], in[0], in[0]}, out, loss);
}

static void gradients(void)
{
    const struct args one = {4, 1, {7}}, ragged = {2, 3, {3, 1, 5}}, long_ = {2, 2, {66, 2}};
    const struct gradcheck cases[] = {
        {"attention", {{7, 8}, {7, 8}, {7, 8}}, build, &one},
        {"attention, groups of 2", {{7, 16}, {7, 8}, {7, 8}}, build, &one},
        {"attention, groups of 4", {{9, 16}, {9, 4}, {9, 4}}, build, &ragged},
        {"attention, two tiles", {{68, 4}, {68, 2}, {68, 2}}, build, &long_},
        {"attention, sharp", {{7, 8, .std = 4}, {7, 8}, {7, 8}}, build, &one, .step = 0.01f},
        {"attention, frozen q", {{7, 8, .frozen = true}, {7, 8}, {7, 8}}, build, &one},
        {"attention, frozen k", {{7, 8}, {7, 8, .frozen = true}, {7, 8}}, build, &one},
        {"attention, only v",
         {{7, 8, .frozen = true}, {7, 8, .frozen = true}, {7, 8}},
         build,
         &one},
        {"attention of itself", {{7, 8}}, threefold, &one},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        gradcheck_run(&cases[i]);
}

static void misuse(void)
{
    const struct args d4 = {4, 1, {7}}, d3 = {3, 1, {7}}, less = {4, 1, {6}}, none = {4, 0, {0}};
    const struct args more = {4, 2, {7, 1}}, zero = {4, 2, {7, 0}}, d0 = {0, 1, {7}};
    const struct {
        struct gradcheck c;
        const char *part;
    } cases[] = {
        {{"head width", {{7, 8}, {7, 8}, {7, 8}}, build, &d3}, "heads of 3"},
        {{"no head width", {{7, 8}, {7, 8}, {7, 8}}, build, &d0}, "heads of 0"},
        {{"groups", {{7, 12}, {7, 8}, {7, 8}}, build, &d4}, "queries of 12 and keys of 8"},
        {{"more kv", {{7, 8}, {7, 16}, {7, 16}}, build, &d4}, "keys of 16"},
        {{"v is not k", {{7, 8}, {7, 8}, {7, 4}}, build, &d4}, "attention"},
        {{"rows", {{7, 8}, {6, 8}, {6, 8}}, build, &d4}, "attention"},
        {{"rows left", {{7, 8}, {7, 8}, {7, 8}}, build, &less}, "cover 7 rows"},
        {{"rows missing", {{7, 8}, {7, 8}, {7, 8}}, build, &more}, "cover 7 rows"},
        {{"empty", {{7, 8}, {7, 8}, {7, 8}}, build, &zero}, "cover 7 rows"},
        {{"none", {{7, 8}, {7, 8}, {7, 8}}, build, &none}, "cover 7 rows"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        gradcheck_refuses(&cases[i].c, cases[i].part);
}

/* One head in f64: y [T,D], and the gradients for dy, added. ld: floats from token to token. */
struct plain {
    int64_t T, D, ldq, ldkv;
    const float *q, *k, *v, *dy;
    double *y, *dq, *dk, *dv;
};

static void plain_row(const struct plain *a, int64_t i, double *p)
{
    const double scale = 1 / sqrt((double)a->D);
    double top = -INFINITY, sum = 0, delta = 0;
    for (int64_t j = 0; j <= i; j++) {
        p[j] = 0;
        for (int64_t d = 0; d < a->D; d++)
            p[j] += scale * a->q[i * a->ldq + d] * a->k[j * a->ldkv + d];
        top = fmax(top, p[j]);
    }
    for (int64_t j = 0; j <= i; j++)
        sum += p[j] = exp(p[j] - top);
    for (int64_t j = 0; j <= i; j++)
        for (int64_t d = 0; d < a->D; d++) {
            const double part = p[j] / sum * a->v[j * a->ldkv + d];
            a->y[i * a->ldq + d] += part;
            a->dv[j * a->ldkv + d] += p[j] / sum * a->dy[i * a->ldq + d];
            delta += part * a->dy[i * a->ldq + d];
        }
    for (int64_t j = 0; j <= i; j++) {
        double dp = 0;
        for (int64_t d = 0; d < a->D; d++)
            dp += (double)a->dy[i * a->ldq + d] * a->v[j * a->ldkv + d];
        const double ds = p[j] / sum * (dp - delta) * scale;
        for (int64_t d = 0; d < a->D; d++) {
            a->dq[i * a->ldq + d] += ds * a->k[j * a->ldkv + d];
            a->dk[j * a->ldkv + d] += ds * a->q[i * a->ldq + d];
        }
    }
}

static void near(const char *what, int64_t n, double most, const float *got, const double *want)
{
    double off = 0, all = 1e-3 * (double)n; // one token has no gradient of q and k at all
    for (int64_t i = 0; i < n; i++) {
        off += (got[i] - want[i]) * (got[i] - want[i]);
        all += want[i] * want[i];
    }
    if (!(sqrt(off / all) < most))
        fail_msg("attention: %s is off by %.2g", what, sqrt(off / all));
}

/* Sequences of the given lengths, H heads on Hkv, forward and backward against plain loops. sharp:
   deviation of the queries; apart: what queries are below 0 and keys above, on average. */
static void shape(const struct args *a, int H, int Hkv, float sharp, float apart)
{
    // a score of s is off by s * 2^-24, and so is the logarithm of its probability
    const double most = 2e-6 * (1 + (double)sharp + (double)(apart * apart));
    int64_t N = 0, longest = 0;
    for (int i = 0; i < a->n; i++) {
        N += a->len[i];
        longest = a->len[i] > longest ? a->len[i] : longest;
    }
    const int64_t D = a->D, ldq = H * D, ldkv = Hkv * D;
    float *q = gradcheck_normal(1, sharp, N * ldq), *k = gradcheck_normal(2, 1, N * ldkv);
    float *v = gradcheck_normal(3, 1, N * ldkv), *dy = gradcheck_normal(4, 1, N * ldq);
    for (int64_t i = 0; i < N * ldq; i++)
        q[i] -= apart;
    for (int64_t i = 0; i < N * ldkv; i++)
        k[i] += apart;
    double *ref = calloc((size_t)(2 * N * (ldq + ldkv)), sizeof *ref), *y = ref;
    double *dq = y + N * ldq, *dk = dq + N * ldq, *dv = dk + N * ldkv;
    double *p = malloc((size_t)longest * sizeof *p);
    int64_t at = 0;
    for (int s = 0; s < a->n; at += a->len[s++])
        for (int64_t h = 0; h < H; h++) {
            const int64_t first = at * ldq + h * D, kv = at * ldkv + h / (H / Hkv) * D;
            const struct plain one = {a->len[s], D,          ldq,     ldkv,
                                      q + first, k + kv,     v + kv,  dy + first,
                                      y + first, dq + first, dk + kv, dv + kv};
            for (int64_t i = 0; i < a->len[s]; i++)
                plain_row(&one, i, p);
        }
    struct tensor tq = {&dtype_f32, 2, {N, ldq}, q, NULL, true}, *out[NODE_OUT];
    struct tensor tk = {&dtype_f32, 2, {N, ldkv}, k, NULL, true};
    struct tensor tv = {&dtype_f32, 2, {N, ldkv}, v, NULL, true};
    struct ctx ctx;
    assert_int_equal(ctx_init(&ctx, 64 << 20), 0);
    ctx.recording = true;
    assert_true(build(&ctx, a, (struct tensor *const[]){&tq, &tk, &tv}, out, NULL));
    near("y", N * ldq, most, out[0]->data, y);
    out[0]->grad = dy;
    tape_backward(&ctx, NULL);
    near("dq", N * ldq, most, tq.grad, dq);
    near("dk", N * ldkv, most, tk.grad, dk);
    near("dv", N * ldkv, most, tv.grad, dv);
    ctx_free(&ctx);
    free(q), free(k), free(v), free(dy), free(ref), free(p);
}

/* A cache of T tokens whose blocks lie in no order: a table of [T / KVBLOCK, rounded up]. */
struct paged {
    struct attention_cache cache;
    int32_t *block;
};

static struct paged paged_new(enum kvblock_type type, int64_t T, int64_t D, int64_t Hkv)
{
    const int64_t n = (T + KVBLOCK - 1) / KVBLOCK;
    struct paged p = {{.type = type, .stride = (size_t)Hkv * kvblock_bytes(type, D)}, NULL};
    p.cache.base = malloc((size_t)n * p.cache.stride);
    memset(p.cache.base, 0xff, (size_t)n * p.cache.stride); // NaN where nothing was stored
    p.block = malloc((size_t)n * sizeof *p.block);
    for (int64_t i = 0; i < n; i++)
        p.block[i] = (int32_t)(i * 7 % n);
    for (int64_t i = 0; i < n && n % 7 == 0; i++)
        p.block[i] = (int32_t)(n - 1 - i);
    return p;
}

static void paged_free(struct paged *p)
{
    free(p->cache.base);
    free(p->block);
}

/* The last `len` rows by way of a cache, to which all come in three parts, are the last rows of the
   whole; with the same bits, whatever the parts are and what stands beside them. */
static void cache(int64_t T, int64_t len, int Hkv)
{
    enum { D = 8, H = 4, OTHER = 3 };
    const int64_t ldq = H * D, ldkv = Hkv * D, at[] = {0, (T - len) / 3, T - len, T};
    float *q = gradcheck_normal(1, 2, T * ldq), *k = gradcheck_normal(2, 1, T * ldkv);
    float *v = gradcheck_normal(3, 1, T * ldkv);
    struct tensor tq = {.dt = &dtype_f32, .nd = 2, .dim = {T, ldq}, .data = q};
    struct tensor tk = {.dt = &dtype_f32, .nd = 2, .dim = {T, ldkv}, .data = k};
    struct tensor tv = tk;
    tv.data = v;
    struct paged p = paged_new(KVBLOCK_F32, T, D, Hkv), once = paged_new(KVBLOCK_F32, T, D, Hkv);
    struct ctx ctx;
    assert_int_equal(ctx_init(&ctx, 64 << 20), 0);
    const struct attention_seq all = {.len = T};
    const struct tensor *whole = op_attention(&ctx, &tq, &tk, &tv, D, &all, 1), *part = NULL;
    assert_non_null(whole);
    const struct attention_seq cached = {.len = T,
                                         .cache = &once.cache,
                                         .block = once.block,
                                         .kv_len = T};
    const struct tensor *direct = op_attention(&ctx, &tq, &tk, &tv, D, &cached, 1);
    assert_non_null(direct);
    for (int i = 0; i < 3; i++) {
        // the batch: OTHER rows of a sequence without a cache, then the cached one
        const int64_t n = at[i + 1] - at[i];
        if (!n)
            continue;
        struct tensor *b[3];
        const float *from[] = {q, k, v};
        for (int j = 0; j < 3; j++) {
            const int64_t ld = j ? ldkv : ldq;
            b[j] = ctx_matrix(&ctx, &dtype_f32, OTHER + n, ld);
            memcpy(b[j]->data, from[j], (size_t)(OTHER * ld) * sizeof(float));
            memcpy((float *)b[j]->data + OTHER * ld, from[j] + at[i] * ld,
                   (size_t)(n * ld) * sizeof(float));
        }
        const struct attention_seq seqs[] = {
            {.len = OTHER},
            {.start = OTHER, .len = n, .cache = &p.cache, .block = p.block, .kv_len = at[i + 1]}};
        part = op_attention(&ctx, b[0], b[1], b[2], D, seqs, 2);
        assert_non_null(part);
        const struct attention_seq shorter = {.len = OTHER + n,
                                              .cache = &p.cache,
                                              .block = p.block,
                                              .kv_len = OTHER + n - 1};
        assert_null(op_attention(&ctx, b[0], b[1], b[2], D, &shorter, 1));
        ctx.failed = false;
        const float *x = (const float *)part->data + OTHER * ldq;
        const float *y = (const float *)whole->data + at[i] * ldq;
        for (int64_t j = 0; j < n * ldq; j++)
            assert_true(fabsf(x[j] - y[j]) < 2e-5f);
        assert_memory_equal(x, (const float *)direct->data + at[i] * ldq,
                            (size_t)(n * ldq) * sizeof *x);
    }
    ctx_free(&ctx);
    paged_free(&p);
    paged_free(&once);
    free(q), free(k), free(v);
}

/* A cache in a narrower type is one in f32 of what the type makes of keys and values, to the bit;
   and so for any number of threads. */
static void narrow_cache(enum kvblock_type type, int64_t T, int64_t len)
{
    enum { D = 64, H = 6, HKV = 2, LDQ = H * D, LDKV = HKV * D };
    float *x[3], *rounded[3] = {NULL};
    struct tensor t[3], r[3];
    for (int i = 0; i < 3; i++) {
        const int64_t ld = i ? LDKV : LDQ;
        x[i] = gradcheck_normal((uint64_t)i + 5, 1, T * ld);
        rounded[i] = gradcheck_normal((uint64_t)i + 5, 1, T * ld);
        for (int64_t g = 0; i && g < T * ld; g += KVBLOCK_GROUP) {
            int8_t q[KVBLOCK_GROUP];
            uint16_t scale;
            kvblock_to_q8_0(KVBLOCK_GROUP, x[i] + g, q, &scale);
            for (int k = 0; k < KVBLOCK_GROUP; k++)
                rounded[i][g + k] = type == KVBLOCK_Q8_0 ? half_float(scale) * q[k]
                                                         : half_float(half_of(x[i][g + k]));
        }
    }
    float *y[3];
    for (int way = 0; way < 3; way++) { // narrow; f32 of the same values; narrow, other threads
        const bool wide = way == 1;
        struct paged p = paged_new(wide ? KVBLOCK_F32 : type, T, D, HKV);
        const int threads = omp_get_max_threads();
        struct ctx ctx;
        y[way] = malloc((size_t)(len * LDQ) * sizeof(float));
        assert_int_equal(ctx_init(&ctx, 64 << 20), 0);
        omp_set_num_threads(way == 2 ? 5 : 1);
        for (int64_t at = 0; at < T; at += at ? len : T - len) {
            const int64_t n = at ? len : T - len;
            for (int i = 0; i < 3; i++) {
                const int64_t ld = i ? LDKV : LDQ;
                t[i] = (struct tensor){.dt = &dtype_f32, .nd = 2, .dim = {n, ld}};
                t[i].data = (wide ? rounded : x)[i] + at * ld;
                r[i] = t[i];
            }
            const struct attention_seq seq = {.len = n,
                                              .cache = &p.cache,
                                              .block = p.block,
                                              .kv_len = at + n};
            const struct tensor *out = op_attention(&ctx, &r[0], &r[1], &r[2], D, &seq, 1);
            if (!out)
                fail_msg("%s", ctx.text);
            if (at)
                memcpy(y[way], out->data, (size_t)(len * LDQ) * sizeof(float));
        }
        omp_set_num_threads(threads);
        paged_free(&p);
        ctx_free(&ctx);
    }
    assert_memory_equal(y[0], y[1], (size_t)(len * LDQ) * sizeof(float));
    assert_memory_equal(y[0], y[2], (size_t)(len * LDQ) * sizeof(float));
    for (int i = 0; i < 3; i++)
        free(x[i]), free(rounded[i]), free(y[i]);
}

/* A gradient through a cache would be lost: the ctx fails, whichever of q, k, v needs one. */
static void cache_has_no_gradient(void)
{
    float x[8] = {0};
    for (int which = 0; which < 3; which++) {
        struct tensor t[3];
        struct ctx ctx;
        assert_int_equal(ctx_init(&ctx, 1 << 20), 0);
        for (int i = 0; i < 3; i++)
            t[i] = (struct tensor){&dtype_f32, 2, {2, 4}, x, NULL, i == which};
        struct paged p = paged_new(KVBLOCK_F32, 2, 4, 1);
        const struct attention_seq seq = {.len = 2,
                                          .cache = &p.cache,
                                          .block = p.block,
                                          .kv_len = 2};
        assert_non_null(op_attention(&ctx, &t[0], &t[1], &t[2], 4, &seq, 1));
        ctx.recording = true;
        assert_null(op_attention(&ctx, &t[0], &t[1], &t[2], 4, &seq, 1));
        assert_non_null(strstr(ctx.text, "cache"));
        paged_free(&p);
        ctx_free(&ctx);
    }
}

void gradcheck_attention(void **state)
{
    (void)state;
    gradients();
    misuse();
    static const int64_t limits[] = {1, 2, 63, 64, 65, 130};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
        for (int group = 1; group <= 4; group *= 2)
            shape(&(struct args){8, 1, {limits[i]}}, 4, 4 / group, 1, 0);
    shape(&(struct args){16, 4, {65, 1, 130, 64}}, 4, 2, 1, 0);
    shape(&(struct args){12, 2, {70, 129}}, 2, 1, 30, 0);
    shape(&(struct args){8, 2, {70, 129}}, 2, 1, 1, 9); // all scores near -230
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        cache(130, limits[i], 2);
        cache(200, limits[i], 4);
        cache(700, limits[i], 1);
    }
    for (int type = KVBLOCK_F16; type < KVBLOCK_TYPES; type++) {
        narrow_cache((enum kvblock_type)type, 600, 1);
        narrow_cache((enum kvblock_type)type, 300, 100);
    }
    cache_has_no_gradient();
}
