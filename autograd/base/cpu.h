/* What the CPU can do, and how much of it we use. */
#ifndef ATTAR_AUTOGRAD_BASE_CPU_H
#define ATTAR_AUTOGRAD_BASE_CPU_H

#include <stddef.h>

enum cpu_level {
    CPU_SCALAR, /* portable C */
#if defined __aarch64__
    CPU_NEON,
    CPU_NEON_DOT,  /* products of 8-bit integers */
    CPU_NEON_BF16, /* BFDOT: products of bf16 pairs */
#else
    CPU_AVX2,        /* with FMA and F16C */
    CPU_AVX512,      /* F, BW, VL, DQ */
    CPU_AVX512_VNNI, /* products of 8-bit integers */
    CPU_AVX512_BF16, /* products of bf16 pairs */
    CPU_AMX,         /* tiles: bf16, int8 */
#endif
    CPU_LEVELS
};

/* The best level of this machine, capped by ATTAR_CPU=scalar|avx2|... (a cpu_level_name(); read
   once). */
enum cpu_level cpu_level(void);

/* What the machine itself has. */
enum cpu_level cpu_hardware(void);

/* For tests: caps the level from now on; kernel tables are filled again by their *_init(). */
void cpu_set_level(enum cpu_level level);

const char *cpu_level_name(enum cpu_level level);

/* The CPU's model name as the kernel gives it; never NULL. */
const char *cpu_name(void);

/* Resident memory of this process now and at its highest, in bytes. */
size_t cpu_rss(void);
size_t cpu_rss_peak(void);

#endif
