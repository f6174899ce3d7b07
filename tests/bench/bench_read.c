/* GB/s at which threads read memory, in one pass each, small pages: {"gb_s": ...}. The best of some
   passes.   bench_read THREADS */
#include <omp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "autograd/base/clock.h"

enum { PASSES = 5 };

/* Words that are loaded and nothing else: the compiler may not leave them out. */
static void read_all(const char *p, size_t n)
{
    typedef uint64_t words __attribute__((vector_size(64), aligned(64)));
    words sum = {0};
    for (size_t i = 0; i < n; i += 4 * sizeof sum) {
        const words *w = (const words *)(const void *)(p + i);
        sum ^= w[0] ^ w[1] ^ w[2] ^ w[3];
    }
    __asm__ volatile("" ::"m"(sum));
}

int main(int argc, char **argv)
{
    const size_t bytes = (size_t)1 << 29;
    const int threads = argc > 1 ? atoi(argv[1]) : 1;
    char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (threads < 1 || p == MAP_FAILED)
        return 1;
    madvise(p, bytes, MADV_NOHUGEPAGE); // as a mapped file's are
    memset(p, 1, bytes);
    double best = 0;
    for (int pass = 0; pass < PASSES; pass++) {
        const double start = clock_seconds();
#pragma omp parallel num_threads(threads)
        {
            const size_t part = bytes / (size_t)threads / 4096 * 4096;
            read_all(p + (size_t)omp_get_thread_num() * part, part);
        }
        const double rate = 1e-9 * (double)bytes / (clock_seconds() - start);
        best = rate > best ? rate : best;
    }
    printf("{\"threads\": %d, \"gb_s\": %.4g}\n", threads, best);
    munmap(p, bytes);
    return 0;
}
