#include "autograd/base/cpu.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#if defined __aarch64__
#include <sys/auxv.h>
#endif

#include "autograd/base/err.h"

#if defined __aarch64__
static const char *const level_names[CPU_LEVELS] = {"scalar", "neon", "neon_dot", "neon_bf16"};
#else
static const char *const level_names[CPU_LEVELS] = {"scalar",      "avx2",        "avx512",
                                                    "avx512_vnni", "avx512_bf16", "amx"};
#endif

static int level = -1; // not decided yet

const char *cpu_level_name(enum cpu_level l)
{
    return level_names[l];
}

#if defined __x86_64__
/* Linux gives a process AMX's state on request; threads made later have it too. */
static bool may_use_tiles(void)
{
    enum { REQUEST = 0x1023, TILE_DATA = 18 }; // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    return !syscall(SYS_arch_prctl, REQUEST, TILE_DATA);
}
#endif

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
        const int vnni = __builtin_cpu_supports("avx512vnni");
        const int bf16 = vnni && __builtin_cpu_supports("avx512bf16");
        return bf16 && (d & amx) == amx && may_use_tiles() ? CPU_AMX
               : bf16                                      ? CPU_AVX512_BF16
               : vnni                                      ? CPU_AVX512_VNNI
                                                           : CPU_AVX512;
    }
    return avx2 ? CPU_AVX2 : CPU_SCALAR;
#elif defined __aarch64__
    const int dot = (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
    return dot && getauxval(AT_HWCAP2) & HWCAP2_BF16 ? CPU_NEON_BF16
           : dot                                     ? CPU_NEON_DOT
                                                     : CPU_NEON;
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
    for (int i = 0; i < CPU_LEVELS; i++) {
        if (!strcasecmp(cap, level_names[i])) {
            if (i < level)
                level = i;
            return (enum cpu_level)level;
        }
    }
    char names[64] = "";
    for (int i = 0, n = 0; i < CPU_LEVELS; i++)
        n += snprintf(names + n, sizeof names - (size_t)n, "%s%s", i ? ", " : "", level_names[i]);
    err_warn("ATTAR_CPU=%s is not one of %s: ignored", cap, names);
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
