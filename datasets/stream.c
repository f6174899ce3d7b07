#include "datasets/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include <lzma.h>
#include <openssl/evp.h>

#include "autograd/base/err.h"
#include "autograd/base/file.h"
#include "autograd/base/mem.h"
#include "datasets/child.h"

enum { BLOCK = 1 << 16, HASH = 32, FREE_TEXT = 64 << 20 };

struct stream {
    char *name; /* path or program, for messages */
    int fd;
    struct child child;
    bool is_program, is_xz, raw_end, end;
    lzma_stream lzma;
    unsigned char *in; /* [BLOCK] of the .xz file */
    int64_t raw, text, total;
    EVP_MD_CTX *raw_hash, *text_hash;
    char want[STREAM_HEX], have[STREAM_HEX], have_raw[STREAM_HEX];
};

static struct stream *new_stream(const char *name)
{
    struct stream *s = mem_new(1, sizeof *s);
    if (!s)
        return NULL;
    *s = (struct stream){.fd = -1, .lzma = LZMA_STREAM_INIT};
    s->name = mem_text(name, strlen(name));
    s->in = mem_new(BLOCK, 1);
    s->raw_hash = EVP_MD_CTX_new();
    s->text_hash = EVP_MD_CTX_new();
    if (s->name && s->in && s->raw_hash && s->text_hash &&
        EVP_DigestInit_ex(s->raw_hash, EVP_sha256(), NULL) &&
        EVP_DigestInit_ex(s->text_hash, EVP_sha256(), NULL))
        return s;
    err("out of memory");
    stream_close(s);
    return NULL;
}

/* Looks at the file that s->fd is, or the reason why it is none. */
static int look_at(struct stream *s)
{
    struct stat st;
    if (s->fd < 0 || fstat(s->fd, &st))
        return err("%s: %s", s->name, strerror(errno));
    if (S_ISDIR(st.st_mode))
        return err("%s: is a directory", s->name);
    s->total = S_ISREG(st.st_mode) ? st.st_size : 0;
    (void)posix_fadvise(s->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    if (s->is_xz && lzma_stream_decoder(&s->lzma, STREAM_XZ_MEMORY, LZMA_CONCATENATED) != LZMA_OK)
        return err("%s: out of memory", s->name);
    return 0;
}

int stream_open(struct stream **out, const char *path, bool xz, const char *sha256)
{
    if (sha256 && (strlen(sha256) != STREAM_HEX - 1 ||
                   strspn(sha256, "0123456789abcdefABCDEF") != STREAM_HEX - 1))
        return err("%s: `%s` is not a SHA-256: 64 hexadecimal digits", path, sha256);
    struct stream *s = new_stream(path);
    if (!s)
        return -1;
    s->is_xz = xz;
    if (sha256)
        strcpy(s->want, sha256);
    s->fd = open(s->name, O_RDONLY | O_CLOEXEC);
    if (look_at(s)) {
        stream_close(s);
        return -1;
    }
    *out = s;
    return 0;
}

int stream_open_argument(struct stream **out, const char *path)
{
    const size_t n = strlen(path);
    struct stream *s = new_stream(file_argument_name(path));
    if (!s)
        return -1;
    s->is_xz = n > 3 && !strcmp(path + n - 3, ".xz");
    s->fd = file_open_argument(path);
    if (s->fd < 0 || look_at(s)) {
        stream_close(s);
        return -1;
    }
    *out = s;
    return 0;
}

int stream_open_program(struct stream **out, const char *const *argv, const char *package)
{
    struct stream *s = new_stream(argv[0]);
    if (!s)
        return -1;
    s->is_program = true;
    if (child_start(&s->child, argv, package)) {
        stream_close(s);
        return -1;
    }
    s->fd = s->child.out;
    *out = s;
    return 0;
}

/* Bytes of the file itself or the pipe; *got is 0 at its end. */
static int read_raw(struct stream *s, void *p, size_t n, size_t *got)
{
    ssize_t r;
    do
        r = read(s->fd, p, n);
    while (r < 0 && errno == EINTR);
    if (r < 0)
        return err("%s: cannot read: %s", s->name, strerror(errno));
    *got = (size_t)r;
    s->raw += r;
    s->raw_end = !r;
    if (s->want[0])
        EVP_DigestUpdate(s->raw_hash, p, *got);
    return 0;
}

static int xz_failed(const struct stream *s, lzma_ret r)
{
    const long long at = (long long)(s->raw - (int64_t)s->lzma.avail_in);
    if (r == LZMA_MEMLIMIT_ERROR)
        return err("%s: decompression needs %llu MiB, at most %d are allowed; compress it with a "
                   "smaller dictionary",
                   s->name, (unsigned long long)(lzma_memusage(&s->lzma) >> 20),
                   STREAM_XZ_MEMORY >> 20);
    if (r == LZMA_FORMAT_ERROR)
        return err("%s: byte %lld: not in .xz format", s->name, at);
    if (r == LZMA_BUF_ERROR)
        return err("%s: the .xz file is cut off at byte %lld", s->name, at);
    if (r == LZMA_MEM_ERROR)
        return err("%s: out of memory", s->name);
    return err("%s: byte %lld: the .xz file is damaged", s->name, at);
}

static int read_xz(struct stream *s, void *p, size_t n, size_t *got)
{
    s->lzma.next_out = p;
    s->lzma.avail_out = n;
    while (s->lzma.avail_out == n) {
        if (!s->lzma.avail_in && !s->raw_end) {
            size_t more;
            if (read_raw(s, s->in, BLOCK, &more))
                return -1;
            s->lzma.next_in = s->in;
            s->lzma.avail_in = more;
        }
        const lzma_ret r = lzma_code(&s->lzma, s->raw_end ? LZMA_FINISH : LZMA_RUN);
        if (r == LZMA_STREAM_END)
            break;
        if (r != LZMA_OK)
            return xz_failed(s, r);
    }
    *got = n - s->lzma.avail_out;
    if (s->text + (int64_t)*got > FREE_TEXT + s->raw * STREAM_XZ_RATIO)
        return err("%s: byte %lld: becomes more than %d times as large; that is no text", s->name,
                   (long long)s->raw, STREAM_XZ_RATIO);
    return 0;
}

static void finish_hash(EVP_MD_CTX *ctx, char hex[STREAM_HEX])
{
    unsigned char hash[HASH];
    EVP_DigestFinal_ex(ctx, hash, NULL);
    for (int i = 0; i < HASH; i++) {
        hex[2 * i] = "0123456789abcdef"[hash[i] >> 4];
        hex[2 * i + 1] = "0123456789abcdef"[hash[i] & 15];
    }
    hex[STREAM_HEX - 1] = 0;
}

static int finish(struct stream *s)
{
    s->end = true;
    finish_hash(s->text_hash, s->have);
    if (s->want[0])
        finish_hash(s->raw_hash, s->have_raw);
    if (s->is_program) {
        s->fd = -1;
        if (child_finish(&s->child))
            return -1;
    }
    if (s->want[0] && strcasecmp(s->want, s->have) && strcasecmp(s->want, s->have_raw))
        return err("%s: has SHA-256 %s%s%s, expected %s; it is not the file that was meant",
                   s->name, s->have_raw, s->is_xz ? ", its text " : "", s->is_xz ? s->have : "",
                   s->want);
    return 0;
}

int stream_read(struct stream *s, void *p, size_t n, size_t *got)
{
    *got = 0;
    if (s->end)
        return 0;
    if (s->is_xz ? read_xz(s, p, n, got) : read_raw(s, p, n, got))
        return -1;
    s->text += (int64_t)*got;
    EVP_DigestUpdate(s->text_hash, p, *got);
    return *got ? 0 : finish(s);
}

int64_t stream_done(const struct stream *s)
{
    return s->raw;
}

int64_t stream_total(const struct stream *s)
{
    return s->total;
}

void stream_sha256(const struct stream *s, char hex[STREAM_HEX])
{
    if (!s->end)
        BUG("stream_sha256: %s is not at its end", s->name);
    strcpy(hex, s->have);
}

void stream_close(struct stream *s)
{
    if (!s)
        return;
    if (s->is_program)
        child_abandon(&s->child);
    else if (s->fd >= 0)
        close(s->fd);
    lzma_end(&s->lzma);
    EVP_MD_CTX_free(s->raw_hash);
    EVP_MD_CTX_free(s->text_hash);
    free(s->in);
    free(s->name);
    free(s);
}
