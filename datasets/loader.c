#include "datasets/loader.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/mem.h"
#include "autograd/base/rng.h"
#include "datasets/shuffle.h"

/* A batch that is being read ahead, or was. */
struct ahead {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    enum { AHEAD_IDLE, AHEAD_WANTED, AHEAD_READY, AHEAD_QUIT } state;
    int64_t first;
    int n, result;
    int32_t *tok, *target; /* [n,T] */
    size_t cap_tok, cap_target;
    char *error;
};

struct loader {
    const struct corpus *corpus;
    struct loader_spec spec;
    int64_t tokens;      /* of the part */
    int64_t windows;     /* W */
    int64_t all_targets; /* tokens that the corpus has to be predicted */
    uint64_t key_order, key_offset;
    int64_t *document; /* [documents] where they start; NULL if they are joined */
    int64_t documents;
    struct packing packing; /* whole documents */
    struct ahead ahead;
    bool running; /* the thread */
};

/* ---- one sample ---- */

int64_t loader_windows(const struct loader *l)
{
    return l->windows;
}

bool loader_apart(const struct loader *l)
{
    return l->document;
}

const struct packing *loader_packing(const struct loader *l)
{
    return l->spec.documents == LOADER_WHOLE ? &l->packing : NULL;
}

/* The window of sample i: where it starts, and the tokens that it reads in earnest. */
static struct packing_window window_of(const struct loader *l, int64_t i)
{
    const int64_t T = l->spec.context, W = l->windows;
    const uint64_t epoch = (uint64_t)(i / W);
    int64_t at = l->spec.shuffled
                     ? (int64_t)shuffle_at(l->key_order, epoch, (uint64_t)W, (uint64_t)(i % W))
                     : i;
    if (l->spec.documents == LOADER_WHOLE)
        return l->packing.window[at];
    at *= T;
    if (l->spec.shuffled)
        at += (int64_t)rng_below(l->key_offset, epoch, (uint64_t)(l->tokens - 1 - W * T) + 1);
    const int64_t left = l->tokens - 1 - at;
    return (struct packing_window){at, (int32_t)(left < T ? left : T)};
}

int loader_length(const struct loader *l, int64_t i)
{
    return window_of(l, i).n;
}

/* The number of documents that start before token `at`. */
static int64_t documents_before(const struct loader *l, int64_t at)
{
    int64_t low = 0, high = l->documents;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (l->document[middle] < at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int loader_starts(const struct loader *l, int64_t i, int32_t *start)
{
    if (!l->document)
        BUG("loader_starts: the loader's documents are joined");
    const struct packing_window w = window_of(l, i);
    const int64_t at = w.at, end = at + w.n;
    int n = 0;
    start[n++] = 0;
    for (int64_t d = documents_before(l, at + 1); d < l->documents && l->document[d] < end; d++)
        start[n++] = (int32_t)(l->document[d] - at);
    return n;
}

static int apply_mask(const struct loader *l, int64_t at, int n, int32_t *target)
{
    uint8_t *mask = mem_new((size_t)n, 1);
    int r = mask ? corpus_read_mask(l->corpus, l->spec.side, at + 1, n, mask) : -1;
    for (int t = 0; !r && t < n; t++)
        if (!mask[t])
            target[t] = LOADER_IGNORED;
    free(mask);
    return r;
}

/* Sample i: tok [T], target [T]; `window` [T+1] is room to work. */
static int read_sample(const struct loader *l, int64_t i, int32_t *window, int32_t *tok,
                       int32_t *target)
{
    const struct packing_window w = window_of(l, i);
    const int T = l->spec.context, n = w.n;
    const int64_t at = w.at;
    if (corpus_read(l->corpus, l->spec.side, at, n + 1, window))
        return -1;
    memcpy(tok, window, (size_t)n * sizeof *tok);
    memcpy(target, window + 1, (size_t)n * sizeof *target);
    for (int t = n; t < T; t++) {
        tok[t] = 0;
        target[t] = LOADER_IGNORED;
    }
    if (l->corpus->part[l->spec.side].masked && apply_mask(l, at, n, target))
        return -1;
    if (l->document)
        for (int64_t d = documents_before(l, at + 1); d < l->documents && l->document[d] <= at + n;
             d++)
            target[l->document[d] - at - 1] = LOADER_IGNORED;
    return 0;
}

static int read_batch(const struct loader *l, int64_t first, int n, int32_t *tok, int32_t *target)
{
    const int64_t T = l->spec.context;
    int32_t *window = mem_new((size_t)T + 1, sizeof *window);
    int r = window ? 0 : -1;
    for (int k = 0; !r && k < n; k++)
        r = read_sample(l, first + k, window, tok + k * T, target + k * T);
    free(window);
    return r;
}

/* ---- reading ahead ---- */

static int read_wanted(struct loader *l)
{
    struct ahead *a = &l->ahead;
    const size_t need = (size_t)a->n * (size_t)l->spec.context;
    if (mem_grow(&a->tok, &a->cap_tok, need, sizeof *a->tok) ||
        mem_grow(&a->target, &a->cap_target, need, sizeof *a->target))
        return -1;
    return read_batch(l, a->first, a->n, a->tok, a->target);
}

static void *run(void *arg)
{
    struct loader *l = arg;
    struct ahead *a = &l->ahead;
    pthread_mutex_lock(&a->mutex);
    while (a->state != AHEAD_QUIT) {
        if (a->state != AHEAD_WANTED) {
            pthread_cond_wait(&a->changed, &a->mutex);
            continue;
        }
        pthread_mutex_unlock(&a->mutex);
        const int r = read_wanted(l);
        char *error = r ? mem_text(err_text(), strlen(err_text())) : NULL;
        pthread_mutex_lock(&a->mutex);
        free(a->error);
        a->error = error;
        a->result = r;
        if (a->state == AHEAD_WANTED)
            a->state = AHEAD_READY;
        pthread_cond_broadcast(&a->changed);
    }
    pthread_mutex_unlock(&a->mutex);
    return NULL;
}

static int start_thread(struct loader *l)
{
    sigset_t all, before;
    pthread_mutex_init(&l->ahead.mutex, NULL);
    pthread_cond_init(&l->ahead.changed, NULL);
    // signals are the main thread's
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    const int e = pthread_create(&l->ahead.thread, NULL, run, l);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    l->running = !e;
    return e ? err("cannot start a thread for reading ahead: %s", strerror(e)) : 0;
}

static void stop_thread(struct loader *l)
{
    if (!l->running)
        return;
    pthread_mutex_lock(&l->ahead.mutex);
    l->ahead.state = AHEAD_QUIT;
    pthread_cond_broadcast(&l->ahead.changed);
    pthread_mutex_unlock(&l->ahead.mutex);
    pthread_join(l->ahead.thread, NULL);
    pthread_cond_destroy(&l->ahead.changed);
    pthread_mutex_destroy(&l->ahead.mutex);
}

/* Takes the batch if it is the one read ahead: 1, or 0 if it is another. */
static int take_ahead(struct loader *l, int64_t first, int n, int32_t *tok, int32_t *target)
{
    struct ahead *a = &l->ahead;
    const size_t bytes = (size_t)n * (size_t)l->spec.context * sizeof *tok;
    int r = 0;
    pthread_mutex_lock(&a->mutex);
    while (a->state == AHEAD_WANTED)
        pthread_cond_wait(&a->changed, &a->mutex);
    if (a->state == AHEAD_READY && a->first == first && a->n == n) {
        r = a->result ? err("%s", a->error ? a->error : "out of memory") : 1;
        if (r == 1) {
            memcpy(tok, a->tok, bytes);
            memcpy(target, a->target, bytes);
        }
    }
    pthread_mutex_unlock(&a->mutex);
    return r;
}

static void want_ahead(struct loader *l, int64_t first, int n)
{
    struct ahead *a = &l->ahead;
    if (!l->spec.shuffled && first + n > l->windows)
        return;
    pthread_mutex_lock(&a->mutex);
    a->first = first;
    a->n = n;
    a->state = AHEAD_WANTED;
    pthread_cond_broadcast(&a->changed);
    pthread_mutex_unlock(&a->mutex);
}

/* ---- the whole ---- */

int loader_batch(struct loader *l, int64_t first, int n, int32_t *tok, int32_t *target)
{
    if (first < 0 || n < 0 || first > INT64_MAX - n ||
        (!l->spec.shuffled && first + n > l->windows))
        return err("samples %lld to %lld were asked for; there are %lld", (long long)first,
                   (long long)first + n - 1, (long long)l->windows);
    int r = l->running ? take_ahead(l, first, n, tok, target) : 0;
    if (!r)
        r = read_batch(l, first, n, tok, target);
    if (r < 0)
        return -1;
    if (l->running)
        want_ahead(l, first + n, n);
    return 0;
}

static int64_t count_windows(const struct loader *l)
{
    const int64_t T = l->spec.context, fit = (l->tokens - 1) / T;
    if (l->spec.documents == LOADER_WHOLE)
        return l->packing.windows;
    if (!l->spec.shuffled)
        return (l->tokens - 1 + T - 1) / T;
    return fit > 1 ? fit - 1 : fit;
}

double loader_share(const struct loader *l)
{
    return l->spec.documents == LOADER_WHOLE && l->all_targets
               ? (double)l->packing.targets / (double)l->all_targets
               : 1;
}

/* Tokens of the part that the corpus' mask leaves to be predicted; -1 with err() set. */
static int64_t count_targets(const struct loader *l)
{
    enum { BLOCK = 1 << 16 };
    uint8_t *mask = mem_new(BLOCK, 1);
    int64_t n = mask ? 0 : -1;
    for (int64_t at = 0; n >= 0 && at < l->tokens; at += BLOCK) {
        const int64_t some = l->tokens - at < BLOCK ? l->tokens - at : BLOCK;
        const int r = corpus_read_mask(l->corpus, l->spec.side, at, some, mask);
        for (int64_t i = 0; !r && i < some; i++)
            n += mask[i];
        n = r ? -1 : n;
    }
    free(mask);
    return n;
}

/* Is there something to predict? A part that is all prompt would be read for nothing. */
static int check_targets(const struct loader *l)
{
    const char *path = h5file_path(l->corpus->file), *side = corpus_side_names[l->spec.side];
    if (!l->all_targets)
        return err("%s: the %s part has no token that is to be predicted", path, side);
    if (!l->windows)
        return err("%s: no prompt of the %s part leaves room for its completion in a context of %d "
                   "tokens",
                   path, side, l->spec.context);
    return 0;
}

/* What depends on the corpus. */
static int look(struct loader *l)
{
    const struct loader_spec *spec = &l->spec;
    const bool whole = spec->documents == LOADER_WHOLE;
    if (spec->documents != LOADER_JOINED &&
        !(l->document = corpus_documents(l->corpus, spec->side)))
        return -1;
    if (whole && packing_make(&l->packing, l->corpus, spec->side, l->document, spec->context))
        return -1;
    l->windows = count_windows(l);
    l->all_targets = l->tokens;
    if (l->corpus->part[spec->side].masked && (l->all_targets = count_targets(l)) < 0)
        return -1;
    return check_targets(l);
}

int loader_open(struct loader **out, const struct corpus *c, const struct loader_spec *spec)
{
    const int64_t tokens = c->part[spec->side].tokens;
    const bool whole = spec->documents == LOADER_WHOLE;
    if (spec->context < 1)
        BUG("loader_open: a context of %d tokens", spec->context);
    if (tokens < 2 || (spec->shuffled && !whole && tokens <= spec->context))
        return err("%s: the %s part has %lld tokens; one context of %d needs %d",
                   h5file_path(c->file), corpus_side_names[spec->side], (long long)tokens,
                   spec->context, spec->context + 1);
    struct loader *l = mem_new(1, sizeof *l);
    if (!l)
        return -1;
    l->corpus = c;
    l->spec = *spec;
    l->tokens = tokens;
    l->key_order = rng_key(spec->seed, "loader order");
    l->key_offset = rng_key(spec->seed, "loader offset");
    l->documents = c->part[spec->side].documents;
    if (look(l) || (spec->prefetch && start_thread(l))) {
        loader_close(l);
        return -1;
    }
    *out = l;
    return 0;
}

void loader_close(struct loader *l)
{
    if (!l)
        return;
    stop_thread(l);
    free(l->ahead.tok);
    free(l->ahead.target);
    free(l->ahead.error);
    free(l->document);
    packing_free(&l->packing);
    free(l);
}
