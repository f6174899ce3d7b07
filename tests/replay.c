#include "tests/replay.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/rng.h"
#include "tests/datasets/scratch.h"

static const uint8_t odd[] = {0, 1, 0x7f, 0x80, 0xff, '{', '"', '\n'};

/* Copy k of a seed: a few bytes changed, every eighth cut as well. In memory of exactly its size,
   so that the sanitizer sees the end. */
static void run_changed(const char *seed, size_t n, uint64_t k,
                        int (*harness)(const uint8_t *data, size_t size))
{
    const uint64_t key = rng_key(5, "replay");
    const size_t size = k % 8 ? n : (size_t)rng_below(key, 16 * k, n + 1);
    uint8_t *copy = malloc(size ? size : 1);
    memcpy(copy, seed, size);
    for (uint64_t i = 1; size && i <= 1 + k % 3; i++) {
        // most counts and kinds stand near the start
        const size_t reach = k % 2 && size > 256 ? 256 : size;
        const size_t at = (size_t)rng_below(key, 16 * k + 2 * i, reach);
        const uint64_t what = rng_below(key, 16 * k + 2 * i + 1, 256 + sizeof odd);
        copy[at] = what < 256 ? (uint8_t)what : odd[what - 256];
    }
    harness(copy, size);
    free(copy);
}

void replay(const char *folder, int times, int (*harness)(const uint8_t *data, size_t size))
{
    DIR *d = opendir(folder);
    int seeds = 0;
    if (!d)
        fail_msg("%s: no such folder; tests run in the project's own", folder);
    for (const struct dirent *e; (e = readdir(d));) {
        char path[512];
        size_t n;
        if (*e->d_name == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        char *seed = scratch_read(path, &n);
        harness((const uint8_t *)seed, n);
        for (int k = 0; k < times; k++)
            run_changed(seed, n, (uint64_t)k, harness);
        free(seed);
        seeds++;
    }
    closedir(d);
    assert_true(seeds > 0);
}
