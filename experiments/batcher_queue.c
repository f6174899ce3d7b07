#include "autograd/base/err.h"
#include "experiments/batcher_parts.h"

int64_t batcher_waiting(const struct batcher *b)
{
    return b->n_back + (int64_t)(b->n - b->next);
}

/* Tokens that both begin with. */
static int64_t common(const struct tokens *a, const struct tokens *b)
{
    const size_t most = a->n < b->n ? a->n : b->n;
    size_t n = 0;
    while (n < most && a->id[n] == b->id[n])
        n++;
    return (int64_t)n;
}

/* What a text that begins finds: begun is the longest part of it that a text under way has, read
   or not yet; all but its last token can be shared. */
struct kin {
    const struct text *best; /* has most of it read; NULL: none */
    int64_t read, begun;
};

static struct kin kin_of(const struct batcher *b, const struct text *t)
{
    struct kin k = {NULL, 0, 0};
    for (int64_t i = 0; i < b->n_running; i++) {
        const struct text *other = &b->text[b->running[i]];
        const int64_t same = common(&t->tokens, &other->tokens), most = (int64_t)t->tokens.n - 1;
        const int64_t begun = same < most ? same : most;
        const int64_t read = begun < other->kv.len ? begun : other->kv.len;
        if (read > k.read) {
            k.read = read;
            k.best = other;
        }
        k.begun = begun > k.begun ? begun : k.begun;
    }
    return k;
}

void batcher_give_back(struct text *t)
{
    kv_close(&t->kv);
    t->kv = (struct kv){0};
}

/* Makes text i run, if there is room for it; what it shares is in its kv. 1: not now. 0, or -1. */
static int begin(struct batcher *b, size_t i)
{
    struct text *t = &b->text[i];
    if (!t->r) {
        t->r = &b->requests[i];
        if (tokens_add(&t->tokens, t->r->prompt, (size_t)t->r->n))
            return -1;
    }
    const struct kin kin = kin_of(b, t);
    kv_open(&t->kv, &b->pool);
    if (kv_adopt(&t->kv, t->tokens.id, (int64_t)t->tokens.n))
        return -1;
    if (kin.read > t->kv.len) {
        batcher_give_back(t);
        kv_open(&t->kv, &b->pool);
        if (kv_fork(&t->kv, &kin.best->kv, kin.read))
            return -1;
    }
    // another is about to read what this one begins with; or blocks, one for each, are short
    const int64_t need = kv_blocks((int64_t)t->tokens.n + 1) - kv_blocks(t->kv.len) + 1;
    if (kin.begun >= t->kv.len + KVBLOCK ||
        (b->n_running && kv_pool_left(&b->pool) < need + b->n_running)) {
        batcher_give_back(t);
        return 1;
    }
    t->shared += t->kv.len;
    b->stats->shared += t->kv.len;
    b->running[b->n_running++] = i;
    return 0;
}

int batcher_admit(struct batcher *b)
{
    int rc = 0;
    while (!rc && b->n_running < b->args->parallel && batcher_waiting(b)) {
        const bool again = b->n_back > 0;
        rc = begin(b, again ? b->back[b->n_back - 1] : b->next);
        if (!rc && again)
            b->n_back--;
        else if (!rc)
            b->next++;
    }
    b->stats->most = b->n_running > b->stats->most ? b->n_running : b->stats->most;
    return rc < 0 ? -1 : 0;
}

/* The youngest gives its blocks back and waits. */
static void preempt(struct batcher *b)
{
    struct text *t = &b->text[b->running[--b->n_running]];
    b->stats->preempted++;
    b->stats->again += t->kv.len;
    t->preempted++;
    t->take = 0;
    batcher_give_back(t);
    b->back[b->n_back++] = b->running[b->n_running];
}

int batcher_share_out(struct batcher *b)
{
    int64_t room = b->args->batch;
    for (int64_t i = 0; i < b->n_running; i++)
        room -= (int64_t)b->text[b->running[i]].tokens.n - b->text[b->running[i]].kv.len == 1;
    for (int64_t i = 0; i < b->n_running; i++) {
        struct text *t = &b->text[b->running[i]];
        const int64_t left = (int64_t)t->tokens.n - t->kv.len;
        t->take = left == 1 || left < room ? left : room;
        room -= left == 1 ? 0 : t->take;
        for (int rc; t->take && (rc = kv_reserve(&t->kv, t->take));) {
            if (rc < 0)
                return -1;
            preempt(b); // itself in the end: the others have what they need
        }
    }
    return 0;
}
