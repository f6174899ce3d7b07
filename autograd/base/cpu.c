#include "autograd/base/cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <unistd.h>

#include "autograd/base/err.h"

static const char *const level_names[] = {"scalar", "avx2", "avx512", "avx512_bf16", "amx"};
enum { LEVELS = sizeof level_names / sizeof *level_names };

static int level = -1; // not decided yet

const char *cpu_level_name(enum cpu_level l)
{
    return level_names[l];
}

enum cpu_level cpu_hardware(void)
{
#if defined __x86_64__
    __builtin_cpu_init();
    const int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const int avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                       __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    unsigned a = 7, b, c = 0, d; // leaf 7: EDX bit 22 AMX-BF16, 24 AMX-TILE, 25 AMX-INT8
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    const unsigned amx = 1u << 22 | 1u << 24 | 1u << 25;
    if (avx2 && avx512) {
        const int bf16 = __builtin_cpu_supports("avx512bf16");
        return bf16 && (d & amx) == amx ? CPU_AMX : bf16 ? CPU_AVX512_BF16 : CPU_AVX512;
    }
    return avx2 ? CPU_AVX2 : CPU_SCALAR;
#else
    return CPU_SCALAR;
#endif
}

enum cpu_level cpu_level(void)
{
    if (level >= 0)
        return (enum cpu_level)level;
    level = cpu_hardware();
    const char *cap = getenv("ATTAR_CPU");
    if (!cap || !*cap)
        return (enum cpu_level)level;
    for (int i = 0; i < LEVELS; i++) {
        if (!strcasecmp(cap, level_names[i])) {
            if (i < level)
                level = i;
            return (enum cpu_level)level;
        }
    }
    err_warn("ATTAR_CPU=%s is not one of scalar, avx2, avx512, avx512_bf16, amx: ignored", cap);
    return (enum cpu_level)level;
}

void cpu_set_level(enum cpu_level l)
{
    level = l < cpu_hardware() ? l : cpu_hardware();
}

const char *cpu_name(void)
{
    static char name[128];
    if (*name)
        return name;
    snprintf(name, sizeof name, "unknown CPU");
    FILE *f = fopen("/proc/cpuinfo", "r");
    if (!f)
        return name;
    char line[256];
    while (fgets(line, sizeof line, f)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) || !colon)
            continue;
        line[strcspn(line, "\n")] = 0;
        snprintf(name, sizeof name, "%s", colon + 1 + strspn(colon + 1, " "));
        break;
    }
    fclose(f);
    return name;
}

size_t cpu_rss(void)
{
    unsigned long pages = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f)
        return 0;
    if (fscanf(f, "%lu %lu", &pages, &resident) != 2)
        resident = 0;
    fclose(f);
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

size_t cpu_rss_peak(void)
{
    struct rusage u;
    return getrusage(RUSAGE_SELF, &u) ? 0 : (size_t)u.ru_maxrss * 1024;
}
