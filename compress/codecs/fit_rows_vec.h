/* The kernels of fit.h over elements in their order; a part of fit_vec.h. */

/* Levels of codes q [n] into v where they come from a table; else q is they. */
INLINE const int8_t *levels_of(int n, const int8_t *level, const int8_t *q, int8_t v[GRID_BLOCK])
{
    for (int i = 0; level && i < n; i += GRID_LEVELS)
        bytes_lookup(level, q + i, v + i);
    return level ? v : q;
}

static void spread(int n, int size, const int8_t *level, const int8_t *q, const float *s,
                   const float *m, float *y)
{
    int8_t own[GRID_BLOCK];
    const int8_t *v = levels_of(n, level, q, own);
    for (int j = 0; j < n; j += size, s++, m++)
        for (int i = j; i < j + size; i += VF_N)
            vf_store(y + i, vf_set(*s) * vf_load_i8(v + i) - vf_set(*m));
}

/* Is no element of x, which is 0 times something, NaN? */
INLINE bool all_zero(vf x)
{
    float t[VF_N];
    bool zero = true;
    vf_store(t, x);
    for (int i = 0; i < VF_N; i++)
        zero = zero && t[i] <= 0;
    return zero;
}

static bool snap(int n, int size, const int8_t *level, int lo, int hi, const float *x,
                 const float *s, const float *m, int8_t *q)
{
    const vf least = vf_set((float)lo), most = vf_set((float)hi), zero = vf_set(0);
    const struct table table = table_of(level);
    const int subs = n / size;
    vf odd = zero;
    fit_lanes inverses = {0};
    memcpy(inverses, s, (size_t)subs * sizeof *s);
    for (int j = 0; j < subs; j += VF_N)
        vf_store(inverses + j, inverse(vf_load(inverses + j)));
    for (int j = 0; j < n; j += size, m++) {
        const vf inv = vf_set(inverses[j / size]), min = vf_set(*m);
        for (int i = j; i < j + size; i += VF_N) {
            const vf v = vf_load(x + i);
            const vf t = vf_number((v + min) * inv);
            odd = odd + v * zero;
            vf_store_i8(q + i,
                        level ? nearest_code(&table, t) : vf_round(vf_min(vf_max(t, least), most)));
        }
    }
    return all_zero(odd);
}

static void clip(int n, int size, const float *low, const float *high, const float *x, float *g)
{
    const vf zero = vf_set(0);
    for (int j = 0; j < n; j += size, low++, high++) {
        const vf least = vf_set(*low), most = vf_set(*high);
        for (int i = j; i < j + size; i += VF_N) {
            const vf v = vf_load(x + i), in = vf_pick_less(most, v, zero, vf_load(g + i));
            vf_store(g + i, vf_pick_less(v, least, zero, in));
        }
    }
}

/* out [subs] <- the sums of a [subs][lanes], lanes added in the one order that all widths share.
   Rows behind `subs` become 0. */
INLINE void sum_lanes(int subs, fit_lanes *a, float *out)
{
    enum { TILE = VF_N };
    fit_lanes sums;
    for (int j = subs; j % TILE; j++)
        memset(a[j], 0, sizeof a[j]);
    for (int j = 0; j < subs; j += TILE) {
        vf t[FIT_LANES];
        for (int l = 0; l < FIT_LANES; l += TILE) {
            for (int k = 0; k < TILE; k++)
                t[l + k] = vf_load(a[j + k] + l);
            vf_transpose(t + l);
        }
        for (int w = FIT_LANES / 2; w; w /= 2)
            for (int l = 0; l < w; l++)
                t[l] = t[l] + t[l + w];
        vf_store(sums + j, t[0]);
    }
    for (int j = 0; j < subs; j++)
        out[j] = sums[j];
}

static float dot(int n, const float *x, const float *y)
{
    fit_lanes sums;
    for (int l = 0; l < FIT_LANES; l += VF_N) {
        vf s = vf_set(0);
        for (int i = l; i < n; i += FIT_LANES)
            s = s + vf_load(x + i) * vf_load(y + i);
        vf_store(sums + l, s);
    }
    for (int w = FIT_LANES / 2; w; w /= 2)
        for (int l = 0; l < w; l++)
            sums[l] += sums[l + w];
    return sums[0];
}

static void pull(int n, int size, const int8_t *level, float lo, float hi, const float *x,
                 const float *g, const int8_t *q, const float *s, const float *m, float *ds,
                 float *lost)
{
    const vf zero = vf_set(0), one = vf_set(1), least = vf_set(lo), most = vf_set(hi);
    const int subs = n / size;
    int8_t own[GRID_BLOCK];
    fit_lanes sums[FIT_LANES], outs[FIT_LANES];
    const int8_t *v = levels_of(n, level, q, own);
    for (int j = 0; j < subs; j++) {
        const bool dead = !(s[j] < 0 || s[j] > 0);
        const vf inv = vf_set(dead ? 0 : 1 / s[j]), min = vf_set(m[j]);
        for (int l = 0; l < FIT_LANES; l += VF_N) {
            vf sum = zero, out = zero;
            for (int i = j * size + l; i < (j + 1) * size; i += FIT_LANES) {
                const vf u = (vf_load(x + i) + min) * inv, gi = vf_load(g + i);
                const vf vi = vf_load_i8(v + i);
                // outside: u < lo or u > hi; NaN, which is nothing's fault but x's, is inside
                vf in = vf_pick_less(u, least, zero, vf_pick_less(most, u, zero, one));
                in = dead ? zero : in;
                sum = sum + gi * vf_pick_less(zero, in, vi - u, vi);
                out = out + gi * (one - in);
            }
            vf_store(sums[j] + l, sum);
            vf_store(outs[j] + l, out);
        }
    }
    sum_lanes(subs, sums, ds);
    sum_lanes(subs, outs, lost);
}

static void tally(int n, int size, const int8_t *level, const float *g, const int8_t *q, float *sg,
                  float *sgv)
{
    const int subs = n / size;
    int8_t own[GRID_BLOCK];
    fit_lanes plain[FIT_LANES], times[FIT_LANES];
    const int8_t *v = levels_of(n, level, q, own);
    for (int j = 0; j < subs; j++)
        for (int l = 0; l < FIT_LANES; l += VF_N) {
            vf sum = vf_set(0), by = vf_set(0);
            for (int i = j * size + l; i < (j + 1) * size; i += FIT_LANES) {
                const vf gi = vf_load(g + i);
                sum = sum + gi;
                by = by + gi * vf_load_i8(v + i);
            }
            vf_store(plain[j] + l, sum);
            vf_store(times[j] + l, by);
        }
    sum_lanes(subs, plain, sg);
    sum_lanes(subs, times, sgv);
}

/* ---- learned scales ---- */

/* Moves are small: a polynomial of relative error 1e-7 is enough. */
INLINE vf exponential(vf x)
{
    const vf one = vf_set(1);
    vf y = vf_set(1.0f / 6) + x * vf_set(1.0f / 24);
    y = vf_set(1.0f / 2) + x * y;
    return one + x * (one + x * y);
}

/* s / d as a code of lo ... hi, never 0 but of 0; s is kept where codes can follow. */
INLINE vf code_of(vf *s, vf d, float lo, float hi)
{
    const vf zero = vf_set(0), top = vf_set(hi + 0.5f), bottom = vf_set(lo - 0.5f);
    const vf r = *s / d, kept = vf_pick_less(top, r, top, vf_pick_less(r, bottom, bottom, r));
    const vf over = vf_pick_less(top, r, top * d, *s);
    const vf least = vf_pick_less(r, zero, vf_set(-1), vf_set(1));
    vf code = vf_max(vf_min(vf_round(kept), vf_set(hi)), vf_set(lo));
    code = vf_pick_less(code, zero, code, vf_pick_less(zero, code, code, least));
    code = vf_pick_less(*s, zero, code, vf_pick_less(zero, *s, code, zero));
    *s = vf_pick_less(r, bottom, bottom * d, over);
    return code;
}

static enum fit_moved move(struct fit_moves *f)
{
    const vf zero = vf_set(0), d = vf_set(f->d), dmin = vf_set(f->dmin);
    const vf small = vf_set(f->collapsed * (f->d < 0 ? -f->d : f->d));
    const bool alive = f->d < 0 || f->d > 0, mins = f->dmin < 0 || f->dmin > 0;
    vf odd = zero, lost = zero;
    for (int l = 0; l < FIT_LANES; l += VF_N) {
        vf s = vf_load(f->s + l) * exponential(vf_load(f->ds + l));
        vf m = vf_load(f->m + l) + vf_load(f->unit + l) * vf_load(f->dm + l);
        odd = odd + s * zero + m * zero;
        if (f->coded) {
            vf_store_i8(f->scale + l, alive ? code_of(&s, d, f->scale_lo, f->scale_hi) : zero);
            const vf size = vf_pick_less(s, zero, zero - s, s);
            const vf is =
                vf_pick_less(zero, size, vf_pick_less(size, small, vf_set(1), zero), zero);
            lost = lost + is;
            vf r = m / dmin;
            r = mins ? r : zero;
            r = vf_pick_less(zero, r, vf_min(r, vf_set(f->min_hi + 0.5f)), zero);
            m = r * dmin;
            vf_store_i8(f->min + l, vf_min(vf_round(r), vf_set(f->min_hi)));
        }
        vf_store(f->s + l, s);
        vf_store(f->m + l, m);
    }
    return !all_zero(odd) ? FIT_MOVED_ODD : !all_zero(lost) ? FIT_MOVED_LOST : FIT_MOVED;
}
