#include "experiments/logits_file.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "autograd/base/err.h"
#include "autograd/base/file.h"
#include "autograd/base/mem.h"
#include "experiments/perplexity.h"

static const char magic[8] = "_logits_";

enum { HEADER = 8 + 3 * 4, MOST = 1 << 24, SPAN = 16, STEPS = 65535 };

int64_t logits_file_row(int32_t V)
{
    return ((int64_t)V + 1) / 2 * 2 + 4;
}

static float number(const uint16_t *row, int i)
{
    float x;
    memcpy(&x, row + 2 * i, sizeof x);
    return x;
}

float logits_file_log_p(const uint16_t *row, int32_t v)
{
    return number(row, 0) * row[4 + v] + number(row, 1);
}

void logits_file_pack(struct logits_file *f, int64_t i, const float *logits)
{
    uint16_t *row = f->rows + i * logits_file_row(f->V);
    float top = logits[0], low = logits[0];
    double sum = 0;
    for (int32_t v = 1; v < f->V; v++) {
        top = fmaxf(top, logits[v]);
        low = fminf(low, logits[v]);
    }
    low = fmaxf(low, top - SPAN);
    for (int32_t v = 0; v < f->V; v++)
        sum += expf(logits[v] - top);
    const float scale = (top - low) / STEPS, least = low - top - (float)log(sum);
    const float inverse = scale > 0 ? 1 / scale : 0;
    memcpy(row, &scale, sizeof scale);
    memcpy(row + 2, &least, sizeof least);
    for (int32_t v = 0; v < f->V; v++)
        row[4 + v] = logits[v] > low ? (uint16_t)rintf(inverse * (logits[v] - low)) : 0;
    if (f->V % 2)
        row[4 + f->V] = 0;
}

static size_t chunk_bytes(const struct logits_file *f)
{
    return (size_t)f->scored * (size_t)logits_file_row(f->V) * sizeof *f->rows;
}

static int make_rows(struct logits_file *f)
{
    f->scored = perplexity_scored(f->c);
    f->rows = mem_new((size_t)f->scored, (size_t)logits_file_row(f->V) * sizeof *f->rows);
    return f->rows ? 0 : -1;
}

/* ---- writing ---- */

static int write_all(struct logits_file *f, const void *bytes, size_t n)
{
    return file_write(f->aside.fd, bytes, n, -1) ? err("%s: %s", f->path, strerror(errno)) : 0;
}

int logits_file_create(struct logits_file *f, const char *path, int32_t c, int32_t V,
                       int32_t chunks, const int32_t *token)
{
    *f = (struct logits_file){.c = c, .V = V, .chunks = chunks, .fd = -1, .aside.fd = -1};
    f->path = mem_text(path, strlen(path));
    if (!f->path || make_rows(f) || aside_open(&f->aside, path) ||
        write_all(f, magic, sizeof magic) ||
        write_all(f, (const int32_t[]){c, V, chunks}, 3 * sizeof c) ||
        write_all(f, token, (size_t)chunks * (size_t)c * sizeof *token)) {
        logits_file_close(f);
        return -1;
    }
    return 0;
}

int logits_file_add(struct logits_file *f)
{
    if (write_all(f, f->rows, chunk_bytes(f)))
        return -1;
    return ++f->done < f->chunks ? 0 : aside_commit(&f->aside);
}

/* ---- reading ---- */

static int read_all(struct logits_file *f, void *bytes, size_t n)
{
    const ssize_t got = file_fill(f->fd, bytes, n, -1);
    if (got < 0)
        return err("%s: %s", f->path, strerror(errno));
    return (size_t)got < n ? err_damaged("%s: ends early", f->path) : 0;
}

/* The sizes must add up to the file's: nothing is allocated that it does not hold. */
static int check(struct logits_file *f, size_t size)
{
    if (f->c < 4 || f->c > MOST || f->V < 1 || f->V > MOST || f->chunks < 1)
        return err("%s: byte 8: %d chunks of %d tokens of %d cannot be", f->path, f->chunks, f->c,
                   f->V);
    f->scored = perplexity_scored(f->c);
    size_t tokens, rows, all;
    if (__builtin_mul_overflow((size_t)f->chunks * 4, (size_t)f->c, &tokens) ||
        __builtin_mul_overflow((size_t)f->chunks, chunk_bytes(f), &rows) ||
        __builtin_add_overflow(tokens + HEADER, rows, &all) || all > size)
        return err("%s: %d chunks of %d tokens of %d need more than its %zu bytes: it was cut off",
                   f->path, f->chunks, f->c, f->V, size);
    return 0;
}

int logits_file_open(struct logits_file *f, const char *path)
{
    char head[HEADER];
    struct stat s;
    *f = (struct logits_file){.fd = open(path, O_RDONLY | O_CLOEXEC), .aside.fd = -1};
    f->path = mem_text(path, strlen(path));
    int rc = f->path ? 0 : -1;
    if (!rc && (f->fd < 0 || fstat(f->fd, &s)))
        rc = err("%s: %s", path, strerror(errno));
    if (!rc)
        rc = read_all(f, head, sizeof head);
    if (!rc && memcmp(head, magic, sizeof magic) != 0)
        rc = err("%s: byte 0: no file of log-probabilities, which begins with _logits_", path);
    if (!rc) {
        memcpy(&f->c, head + 8, 4);
        memcpy(&f->V, head + 12, 4);
        memcpy(&f->chunks, head + 16, 4);
        rc = check(f, (size_t)s.st_size);
    }
    if (!rc) {
        f->token = mem_new((size_t)f->chunks * (size_t)f->c, sizeof *f->token);
        rc = f->token && !make_rows(f) ? 0 : -1;
    }
    if (!rc)
        rc = read_all(f, f->token, (size_t)f->chunks * (size_t)f->c * sizeof *f->token);
    for (int64_t i = 0; !rc && i < (int64_t)f->chunks * f->c; i++)
        if (f->token[i] < 0 || f->token[i] >= f->V)
            rc = err("%s: byte %lld: token %d of %d", path, (long long)(HEADER + 4 * i),
                     f->token[i], f->V);
    if (rc)
        logits_file_close(f);
    return rc;
}

int logits_file_next(struct logits_file *f)
{
    if (read_all(f, f->rows, chunk_bytes(f)))
        return -1;
    for (int64_t i = 0; i < f->scored; i++) {
        const uint16_t *row = f->rows + i * logits_file_row(f->V);
        if (!isfinite(number(row, 0)) || !isfinite(number(row, 1)))
            return err("%s: chunk %lld, row %lld: log p from %g on in steps of %g", f->path,
                       (long long)f->done, (long long)i, (double)number(row, 1),
                       (double)number(row, 0));
    }
    f->done++;
    return 0;
}

void logits_file_close(struct logits_file *f)
{
    if (f->path && f->fd >= 0)
        close(f->fd);
    aside_abandon(&f->aside);
    free(f->path);
    free(f->token);
    free(f->rows);
    *f = (struct logits_file){.fd = -1, .aside.fd = -1};
}
