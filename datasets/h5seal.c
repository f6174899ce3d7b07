#include "datasets/h5seal.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "autograd/base/err.h"
#include "autograd/base/file.h"
#include "autograd/base/mem.h"
#include "datasets/h5io.h"

enum { VERSION = 1, AT_VERSION = 8, AT_BLOCK = 12, AT_LENGTH = 16, AT_HASH = 24, END = 40 };
enum { PIECE = 1 << 20 };

static const char MAGIC[AT_VERSION] = {'A', 'T', 'T', 'A', 'R', '-', 'H', '5'};

static void put(unsigned char *p, int bytes, uint64_t v)
{
    for (int i = 0; i < bytes; i++, v >>= 8)
        p[i] = (unsigned char)v;
}

static uint64_t get(const unsigned char *p, int bytes)
{
    uint64_t v = 0;
    for (int i = bytes; i-- > 0;)
        v = v << 8 | p[i];
    return v;
}

/* n bytes at `at`; fewer only at the end of the file; -1 with err() set. */
static ssize_t read_at(int fd, void *out, size_t n, int64_t at)
{
    const ssize_t got = file_fill(fd, out, n, at);
    return got < 0 ? err("cannot read: %s", strerror(errno)) : got;
}

static int hash_payload(int fd, int64_t size, unsigned char hash[16])
{
    XXH3_state_t *state = XXH3_createState();
    unsigned char *piece = mem_new(PIECE, 1);
    int r = state && piece ? 0 : err("out of memory");
    if (!r)
        XXH3_128bits_reset(state);
    for (int64_t at = H5IO_USER_BLOCK; !r && at < size;) {
        const size_t want = size - at < PIECE ? (size_t)(size - at) : PIECE;
        const ssize_t n = read_at(fd, piece, want, at);
        if (n < 0)
            r = -1;
        else if ((size_t)n < want)
            r = err("the file became shorter while it was read");
        else
            XXH3_128bits_update(state, piece, want);
        at += (int64_t)want;
    }
    if (!r) {
        XXH128_canonical_t canonical;
        XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state));
        memcpy(hash, canonical.digest, 16);
    }
    XXH3_freeState(state);
    free(piece);
    return r;
}

int h5seal_write(int fd, int64_t size)
{
    unsigned char block[H5IO_USER_BLOCK] = {0};
    struct stat st;
    if (fstat(fd, &st))
        return err("cannot read: %s", strerror(errno));
    if (st.st_size != size || size <= H5IO_USER_BLOCK)
        return err("the file has not the size that was written");
    memcpy(block, MAGIC, sizeof MAGIC);
    put(block + AT_VERSION, 4, VERSION);
    put(block + AT_BLOCK, 4, H5IO_USER_BLOCK);
    put(block + AT_LENGTH, 8, (uint64_t)(size - H5IO_USER_BLOCK));
    if (hash_payload(fd, size, block + AT_HASH))
        return -1;
    return file_write(fd, block, sizeof block, 0) ? err("cannot write: %s", strerror(errno)) : 0;
}

static int check_block(const unsigned char *block, int64_t size)
{
    if (memcmp(block, MAGIC, sizeof MAGIC))
        return err_damaged("not a file of attar's (it does not start with ATTAR-H5)");
    const uint64_t version = get(block + AT_VERSION, 4);
    if (version != VERSION)
        return err_damaged("container version %llu; this attar reads version %d",
                           (unsigned long long)version, VERSION);
    if (get(block + AT_BLOCK, 4) != H5IO_USER_BLOCK)
        return err_damaged("damaged: wrong length of the user block");
    const uint64_t length = get(block + AT_LENGTH, 8);
    if (length != (uint64_t)(size - H5IO_USER_BLOCK))
        return err_damaged(
            "damaged: %llu bytes of data where there should be %llu; restore the file or "
            "make it again",
            (unsigned long long)(size - H5IO_USER_BLOCK), (unsigned long long)length);
    for (int i = END; i < H5IO_USER_BLOCK; i++)
        if (block[i])
            return err_damaged("damaged: byte %d of the user block is not zero", i);
    return 0;
}

int h5seal_check(int fd, int64_t *size, char hex[H5SEAL_HEX])
{
    unsigned char block[H5IO_USER_BLOCK], hash[16];
    struct stat st;
    if (fstat(fd, &st))
        return err("cannot read: %s", strerror(errno));
    if (!S_ISREG(st.st_mode))
        return err("not a regular file");
    *size = st.st_size;
    const ssize_t n = read_at(fd, block, sizeof block, 0);
    if (n < 0)
        return -1;
    if (n < (ssize_t)sizeof block)
        return err_damaged("not a file of attar's (only %zd bytes)", n);
    if (check_block(block, *size) || hash_payload(fd, *size, hash))
        return -1;
    if (memcmp(hash, block + AT_HASH, sizeof hash))
        return err_damaged(
            "damaged: the content does not have the hash that was stored with it; restore "
            "the file or make it again");
    for (int i = 0; i < 16; i++)
        sprintf(hex + 2 * i, "%02x", hash[i]);
    return 0;
}
